//! The hasher of every map here.

/// Hashes are seeded at random for each cache, so that keys chosen from outside cannot be made to
/// collide; four times as fast as the standard library's on short keys.
pub(crate) type Hasher = foldhash::quality::RandomState;
