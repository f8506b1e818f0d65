//! The stored form of keys, tags and values.

pub mod codec;
pub mod frame;
pub mod key;
pub mod tags;
pub(crate) mod token;
