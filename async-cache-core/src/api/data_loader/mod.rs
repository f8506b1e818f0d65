//! [`DataLoader`](loader::DataLoader): loads asked for one by one, gathered into batches.

pub(crate) mod alone;
pub(crate) mod gather;
pub(crate) mod loader;
pub(crate) mod over;
pub(crate) mod source;
