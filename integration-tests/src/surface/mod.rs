//! All public methods as traffic: calls that are drawn at random from every method and every option, values
//! that describe themselves, and the run of one call.
//!
//! The simulation uses it, and so does the checker on a real Redis. In short:
//!
//! 1. Implement [`Source`], which is the database. It gets the call and its keys ([`Ask`]), and returns values
//!    ([`Written::new`]) that contain the time of their making and how long they may answer.
//! 2. Draw the defaults of a cache with [`Options::draw`], and pass them to its builder with [`configure`].
//!    Draw its calls with [`Call::draw`]; [`Range`] limits them.
//! 3. Run each call with [`perform`], and judge its [`Outcome`]: each answer by [`Written::is_intact`], and by
//!    its age ([`Written::age_ms`]) against `fresh_ms` and `kept_ms`.
//!
//! No method is left out: `tests/surface.rs` compares [`Verb::ALL`] and [`options::DRAWN`] with the public
//! methods in the sources of the library.

mod call;
pub mod options;
mod perform;
mod source;
mod value;
mod verb;

pub use call::{Call, Gathering, Range};
pub use options::{Options, Tiers, configure};
pub use perform::{Answer, Outcome, perform};
pub use source::{Ask, Brought, Source, What};
pub use value::Written;
pub use verb::{Kind, Verb};

/// A cache of drawn values.
pub type Cache = async_cache::TieredCache<u64, Written>;
