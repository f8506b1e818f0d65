//! What keys, tags and values look like where they are stored.

pub mod codec;
pub mod frame;
pub mod key;
pub mod tags;
pub(crate) mod token;
