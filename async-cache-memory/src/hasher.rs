//! The hasher of every map here.

/// The seed is random for each cache, so that nobody can choose keys that collide. It is four times as fast
/// as the hasher of the standard library on short keys.
pub(crate) type Hasher = foldhash::quality::RandomState;
