//! What the verifier notes of the changes that this node receives. It does not use the state that decides
//! whether L1 may answer, because a fault of that state is what it is to find.

use parking_lot::Mutex;
use xxhash_rust::xxh3::xxh3_64;

use crate::backend::Tick;

/// The number of changes that are remembered. Later ones take the place of earlier ones.
const SLOTS: usize = 4096;

/// The last received changes of keys.
#[derive(Debug)]
pub(crate) struct Ledger(Mutex<Box<[Option<Received>]>>);

/// A received change of a key.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Received {
    key: u64,
    /// Its number.
    pub(crate) seq: u64,
    pub(crate) at: Tick,
}

impl Ledger {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(vec![None; SLOTS].into()))
    }

    /// Notes a change that this node has just applied.
    pub(crate) fn note(&self, key: &[u8], seq: u64, at: Tick) {
        let key = xxh3_64(key);
        self.0.lock()[key as usize % SLOTS] = Some(Received { key, seq, at });
    }

    /// The last received change of a key, if it is remembered.
    pub(crate) fn last(&self, key: &[u8]) -> Option<Received> {
        let key = xxh3_64(key);
        self.0.lock()[key as usize % SLOTS].filter(|received| received.key == key)
    }
}
