//! A new entry, before it is stored anywhere.

use std::time::Duration;

use crate::backend::{Entry, Expiry};
use crate::format::tags::Tags;
use crate::liveness::node::Node;
use crate::local::approach::Answer;
use crate::options::Term;

/// The parts of a new entry.
pub(crate) struct NewEntry<'a, V> {
    pub(crate) value: Answer<V>,
    pub(crate) term: Term,
    /// How long before its expiry the entry may be refreshed.
    pub(crate) ahead: Duration,
    /// The entry reflects every change up to this number.
    pub(crate) seq: u64,
    pub(crate) tags: &'a Tags,
}

/// Makes an entry with its own token. Its life begins now.
pub(crate) fn new_entry<V>(node: &Node, new: NewEntry<'_, V>) -> Entry<V> {
    let NewEntry { value, term, ahead, seq, tags } = new;
    let now = node.clock.now();
    let life = Expiry::new(now.after(term.ttl), now.after(term.kept()), term.ttl, ahead);
    Entry { value, life, generation: 0, seq, token: node.next_token(), tags: tags.clone() }
}
