//! Values that describe themselves.

use serde::{Deserialize, Serialize};

/// A version of a row, as it is cached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    /// The key of the row.
    pub key: u64,
    /// The version of the row.
    pub version: u64,
    /// The number of the load or insert that made it.
    pub origin: u64,
    /// The time at which that ended, on the clock of the source.
    pub made_ms: u64,
    /// The longest time in which it may answer.
    pub fresh_ms: u64,
    /// The longest time in which it may answer as a fallback.
    pub kept_ms: u64,
    /// Further notes of its source for its judge.
    pub marks: Vec<u64>,
    /// Bytes of a drawn length. The other fields determine them.
    pub body: Vec<u8>,
}

impl Written {
    /// Makes a version of a row with a body of this size in bytes.
    #[must_use]
    pub fn new((key, version): (u64, u64), origin: u64, made_ms: u64, life: (u64, u64), size: usize) -> Self {
        let (fresh_ms, kept_ms) = life;
        let body = body(key, version, origin, size);
        Self { key, version, origin, made_ms, fresh_ms, kept_ms, marks: Vec::new(), body }
    }

    /// Whether it is what was written, byte for byte.
    #[must_use]
    pub fn is_intact(&self) -> bool {
        self.body == body(self.key, self.version, self.origin, self.body.len())
    }

    /// Its age.
    #[must_use]
    pub fn age_ms(&self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(self.made_ms)
    }
}

/// The first bytes contain the length, so that a truncated body is found.
fn body(key: u64, version: u64, origin: u64, size: usize) -> Vec<u8> {
    let mut mixed = key ^ version.rotate_left(24) ^ origin.rotate_left(48) ^ 0x9e37_79b9_7f4a_7c15;
    let length = (size as u64).to_le_bytes();
    (0..size)
        .map(|at| match length.get(at) {
            Some(byte) => *byte,
            None => {
                mixed = mixed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (mixed >> 56) as u8
            }
        })
        .collect()
}
