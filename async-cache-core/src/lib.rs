//! Core of async-cache.

pub mod backend;
pub mod codec;
mod error;
pub mod frame;
pub mod key;

pub use codec::{Bincode, Codec};
pub use error::{BoxError, Error, ErrorKind, Result};
pub use key::CacheKey;
