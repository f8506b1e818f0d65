//! Many keys in one go.
//!
//! * `get_many`: what the tiers have.
//! * `many`: the same with a loader. `lead`: leases, in rounds. `load`: one call of the loader.
//! * `data_loader`: loads asked for one by one, gathered into batches by `gather`, and run by a
//!   function `alone` or one with a cache `over` it.
//! * `warm`: a cache filled before anyone asks.

mod alone;
mod data_loader;
mod gather;
mod get_many;
mod keep;
mod lead;
mod load;
mod many;
mod over;
mod picked;
mod request;
mod source;
mod value;
mod warm;
mod warm_verbs;

pub use data_loader::{DataLoader, Update};
pub use picked::PerKey;
pub use request::GetManyOrLoad;
pub use value::BatchValue;
pub use warm::{Warm, WarmProgress, WarmReport};
