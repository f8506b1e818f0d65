//! The whole public surface, as traffic: calls drawn at random from every verb and every option,
//! values that say what they are, and the run of one call.
//!
//! Used by the simulation and by whoever checks a cache on a real Redis. In short:
//!
//! 1. Implement [`Source`]: the database. It is told which call asks for which keys ([`Ask`]), and brings
//!    values ([`Written::new`]) that carry when they were made and how long they may answer.
//! 2. Draw the defaults of a cache, [`Options::draw`], give them to its builder with [`configure`], and the calls
//!    that it is to get, [`Call::draw`] ([`Range`] says of what).
//! 3. Run each with [`perform`]; judge what [`Outcome`] has: every answer by
//!    [`Written::is_intact`], and by its age ([`Written::age_ms`]) against `fresh_ms` and `kept_ms`.
//!
//! Nothing is left out unseen: `tests/surface.rs` compares [`Verb::ALL`] and [`options::DRAWN`] with the
//! public methods that the sources of the library have.

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

/// A cache of such values.
pub type Cache = async_cache::TieredCache<u64, Written>;
