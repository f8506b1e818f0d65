//! The values in the caches. A value contains everything by which a reader judges it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ledger::{STORMS_AT, now};

/// A value of a key. Its bytes follow from the key and the version, so that a mix of two values is found.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Value {
    pub key: u64,
    pub version: u64,
    /// The time at which its load ended, on the clock that all processes share.
    pub loaded_at: u64,
    pub ttl_ns: u64,
    pub stale_ns: u64,
    payload: String,
}

/// How long a value lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Expiry {
    pub ttl: Duration,
    pub stale_for: Duration,
}

impl Value {
    /// A value that is loaded now.
    pub(crate) fn new(key: usize, version: u64, life: Expiry) -> Self {
        let Expiry { ttl, stale_for } = life;
        let (key, ns) = (key as u64, |span: Duration| span.as_nanos() as u64);
        let payload = payload(key, version);
        Self { key, version, loaded_at: now(), ttl_ns: ns(ttl), stale_ns: ns(stale_for), payload }
    }

    /// Whether this is a value of the key, byte for byte.
    pub(crate) fn is_whole(&self, key: usize) -> bool {
        let (block, len) = (block(self.key, self.version), size(self.key));
        let bytes = self.payload.as_bytes();
        self.key == key as u64
            && bytes.len() == len
            && bytes.chunks(BLOCK).all(|chunk| *chunk == block[..chunk.len()])
    }

    /// Changes one byte.
    pub(crate) fn mangle(&mut self) {
        self.payload.pop();
        self.payload.push('#');
    }

    pub(crate) fn len(&self) -> usize {
        self.payload.len()
    }
}

const BLOCK: usize = 61;

/// Sizes around every limit at which the library behaves differently: no bytes, a header, the largest value in
/// a wake-up and the next larger one, and a full socket buffer.
fn size(key: u64) -> usize {
    if key >= STORMS_AT as u64 {
        return [10_000, 100, 20_000, 5_000][(key % 4) as usize];
    }
    match key % 32 {
        0 => 0,
        1 => 1,
        5 => 10_000,
        9 => 4_000,
        13 => 1_000,
        29 => 100_000,
        other => 4 * other as usize,
    }
}

fn block(key: u64, version: u64) -> [u8; BLOCK] {
    let mut rng = fastrand::Rng::with_seed(key << 44 ^ version);
    std::array::from_fn(|_| b'a' + rng.u8(..26))
}

fn payload(key: u64, version: u64) -> String {
    let block = block(key, version);
    let bytes = block.iter().copied().cycle().take(size(key));
    bytes.map(char::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_of_another_version_shows() {
        let life = Expiry { ttl: Duration::from_secs(1), stale_for: Duration::ZERO };
        for key in 0..64 {
            let value = Value::new(key, 7, life);
            assert!(value.is_whole(key) && !value.is_whole(key + 1));
            let other = Value::new(key, 8, life);
            assert!(value.len() < 8 || !Value { payload: other.payload, ..value.clone() }.is_whole(key));
            assert!(value.len() == 0 || !Value { payload: String::new(), ..value }.is_whole(key));
        }
    }
}
