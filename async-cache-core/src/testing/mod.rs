//! For tests of backends and of code that uses the cache (feature `testing`).

mod source;

pub use source::{No, Source, ms, until};
