//! Many keys in one go.
//!
//! * [`data_loader`]: loads asked for one by one, gathered into batches.
//! * [`warm`]: a cache filled before anyone asks.

mod alone;
mod data_loader;
mod gather;
mod picked;
mod source;
mod warm;

pub use data_loader::{DataLoader, Update};
pub use picked::PerKey;
pub use warm::{Warm, WarmProgress, WarmReport};
