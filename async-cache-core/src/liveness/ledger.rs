//! What the verifier notes of the changes that this node makes and receives. It does not use the state that decides
//! whether L1 may answer, because it must find faults of that state.

use parking_lot::Mutex;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::backend::{RunId, Tick};
use crate::format::tags::Tags;

/// The number of changes that a table remembers. Later ones take the place of earlier ones.
const SLOTS: usize = 4096;

/// The last changes of keys and of tags, by what this node knows of them.
#[derive(Debug)]
pub(crate) struct Ledger {
    /// Changes that the bus has reported.
    pub(crate) received: Changes,
    /// Changes that were made on this node, and that L2 has confirmed.
    pub(crate) returned: Changes,
}

/// The last changes of keys, and the last invalidations of tags.
#[derive(Debug)]
pub(crate) struct Changes {
    keys: Table,
    tags: Table,
}

#[derive(Debug)]
struct Table(Mutex<Box<[Slot]>>);

/// The hash of a key or tag, and its last change.
type Slot = Option<(u64, Noted)>;

/// A change of a key or tag.
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
        Self { keys: Table::empty(), tags: Table::empty() }
    }

    /// Notes a change of a key that this node has just applied. A change with a higher number stays.
    pub(crate) fn note(&self, key: &[u8], change: Noted) {
        self.keys.note(xxh3_64(key), change);
    }

    /// Notes an invalidation of tags in a partition that this node has just applied.
    pub(crate) fn note_tags(&self, partition: u16, tags: &Tags, change: Noted) {
        tags.iter().for_each(|tag| self.tags.note(hash_of_tag(partition, tag), change));
    }

    /// The last changes of a key and of these tags, as far as they are remembered.
    pub(crate) fn of<'a>(
        &'a self,
        key: &[u8],
        partition: u16,
        tags: &'a Tags,
    ) -> impl Iterator<Item = Noted> + 'a {
        let of_tags = tags.iter().filter_map(move |tag| self.tags.last(hash_of_tag(partition, tag)));
        self.keys.last(xxh3_64(key)).into_iter().chain(of_tags)
    }
}

/// Each partition numbers the changes of a tag itself.
fn hash_of_tag(partition: u16, tag: &[u8]) -> u64 {
    xxh3_64_with_seed(tag, partition.into())
}

impl Table {
    fn empty() -> Self {
        Self(Mutex::new(vec![None; SLOTS].into()))
    }

    fn note(&self, hash: u64, change: Noted) {
        let slot = &mut self.0.lock()[hash as usize % SLOTS];
        if slot.is_none_or(|(other, last)| other != hash || last.seq < change.seq) {
            *slot = Some((hash, change));
        }
    }

    fn last(&self, hash: u64) -> Option<Noted> {
        self.0.lock()[hash as usize % SLOTS].and_then(|(of, change)| (of == hash).then_some(change))
    }
}
