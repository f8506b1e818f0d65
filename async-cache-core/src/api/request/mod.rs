//! Awaitable requests: the return values of the lookup and insert methods. `.await` runs a request with the
//! options that were set before.
//!
//! The first poll of a lookup probes L1 on the stack of the caller. Only a miss allocates.

mod get;
mod get_many;
mod insert;
mod lookup;
mod traced;

pub use get::Get;
pub use get_many::GetMany;
pub use insert::Insert;
pub use lookup::{GetOrLoad, GetOrLoadOptional, Refresh, RefreshOptional};
pub use traced::{Traced, TracedRequest};
