//! [`DataLoader`](loader::DataLoader): loads single keys in batches.

pub(crate) mod alone;
pub(crate) mod gather;
pub(crate) mod loader;
pub(crate) mod over;
pub(crate) mod source;
