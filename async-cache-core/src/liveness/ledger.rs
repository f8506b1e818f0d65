//! What the verifier notes of the changes that this node makes and receives. It does not use the state that decides
//! whether L1 may answer, because a fault of that state is what it is to find.

use parking_lot::Mutex;
use xxhash_rust::xxh3::xxh3_64;

use crate::backend::{RunId, Tick};

/// The number of changes that are remembered, of each kind. Later ones take the place of earlier ones.
const SLOTS: usize = 4096;

/// The last changes of keys, by what this node knows of them.
#[derive(Debug)]
pub(crate) struct Ledger {
    /// Changes that the bus has reported.
    pub(crate) received: Changes,
    /// Changes that were made on this node, and that L2 has confirmed.
    pub(crate) returned: Changes,
}

/// The last changes of keys.
#[derive(Debug)]
pub(crate) struct Changes(Mutex<Box<[Slot]>>);

/// The hash of a key, and its last change.
type Slot = Option<(u64, Noted)>;

/// A change of a key.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Noted {
    /// Its number.
    pub(crate) seq: u64,
    /// A time at which this node had applied it.
    pub(crate) at: Tick,
    /// The server process that this node knew then.
    pub(crate) run: RunId,
}

impl Ledger {
    pub(crate) fn new() -> Self {
        Self { received: Changes::none(), returned: Changes::none() }
    }
}

impl Changes {
    fn none() -> Self {
        Self(Mutex::new(vec![None; SLOTS].into()))
    }

    /// Notes a change that this node has just applied. A change with a higher number stays.
    pub(crate) fn note(&self, key: &[u8], change: Noted) {
        let key = xxh3_64(key);
        let slot = &mut self.0.lock()[key as usize % SLOTS];
        if slot.is_none_or(|(other, last)| other != key || last.seq < change.seq) {
            *slot = Some((key, change));
        }
    }

    /// The last change of a key, if it is remembered.
    pub(crate) fn last(&self, key: &[u8]) -> Option<Noted> {
        let key = xxh3_64(key);
        self.0.lock()[key as usize % SLOTS].and_then(|(of, change)| (of == key).then_some(change))
    }
}
