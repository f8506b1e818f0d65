//! The fill: L2, then L1; refused if an invalidation has met the load.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::backend::{Announce, Entry, Filled, Lease, Life};
use crate::changes::retry::is_retried;
use crate::error::{ErrorKind, Result};
use crate::format::frame;
use crate::format::frame::Header;
use crate::format::key::Key;
use crate::format::tags::Tags;
use crate::inner::{L2, Shared};
use crate::local::approach::{Answer, Reuse};
use crate::lookup::load::{Held, Produced};
use crate::options::Term;

impl<V: Send + Sync + 'static> Shared<V> {
    /// Stores in L2 what was loaded under a lease. Returns what L1 is to be offered: nothing if an
    /// invalidation has broken the lease, for then what was loaded is old.
    pub(crate) async fn fill(
        self: &Arc<Self>,
        l2: &L2<V>,
        mut held: Held<'_, V>,
        produced: &Produced<V>,
        reuse: Reuse,
    ) -> Option<Entry<V>> {
        let lease = held.lease()?;
        let term = produced.options.store.draw_term(produced.value.is_none());
        let entry = self.entry(produced, term, lease.seq);
        let frame = match self.frame_of(l2, &entry, term, produced.cost) {
            Ok(frame) => frame,
            Err(error) => {
                // The callers get their value all the same, and L1 may keep it.
                self.not_encoded(&held.key, &error);
                self.replaces(&held.key, reuse);
                return Some(entry);
            }
        };
        let announce = match reuse {
            // Nodes that hold what this replaces ask L2 when it expires for them, too.
            Reuse::Cached | Reuse::Newer(_) => Announce::No,
            Reuse::Nothing => Announce::Yes,
        };
        let outcome = l2.region.fill(&held.key, lease, frame, term.kept(), announce).await;
        if outcome.is_ok() {
            held.ended();
        }
        self.filled(&held.key, reuse, outcome, entry).await
    }

    /// What L1 is offered after a fill of L2.
    pub(crate) async fn filled(
        &self,
        key: &Key,
        reuse: Reuse,
        outcome: Result<Filled>,
        entry: Entry<V>,
    ) -> Option<Entry<V>> {
        match outcome {
            Ok(Filled::Stored { seq }) => {
                if reuse == Reuse::Nothing {
                    // A change made here, like any other. L1 may refuse the new value, for the
                    // sake of another key of its stripe, and must not keep the old one then.
                    self.fence.changed(self.l1(), key.as_bytes(), seq);
                }
                Some(Entry { seq, ..entry })
            }
            Ok(Filled::Refused) => {
                self.rejected(key);
                // By an invalidation, or because the lease was lost: then the old value stands.
                self.remove_replaced(key, reuse).await;
                None
            }
            // Whether L1 may have it does not depend on L2: the ticket decides.
            Err(error) => {
                drop(self.l2_failed(error));
                self.rejected(key);
                self.replaces(key, reuse);
                Some(entry)
            }
        }
    }

    /// Ends a lease that will not be filled, so that others need not wait for it to lapse.
    pub(crate) fn give_back(self: &Arc<Self>, key: &Key, lease: Lease) {
        let (shared, key) = (Arc::clone(self), key.clone());
        self.tasks.spawn(async move {
            if let Some(l2) = &shared.l2
                && let Err(error) = l2.region.release(&key, lease).await
            {
                drop(shared.l2_failed(error));
            }
        });
    }

    /// The same where L2 can be reached: at once, and later only if that fails. Other lookups of the key
    /// go on meanwhile: what is replaced is no older than what a reload began from.
    pub(crate) async fn remove_replaced(&self, key: &Key, reuse: Reuse) {
        if reuse == Reuse::Nothing
            && self.send_invalidate(std::slice::from_ref(key)).await.is_err_and(|error| is_retried(&error))
        {
            self.replaces(key, reuse);
        }
    }

    /// Removes what is known to be old, everywhere and at once: until that has landed, this node may not read the
    /// keys from L2. Later only if that fails.
    pub(crate) async fn forget(&self, keys: &[Key]) {
        keys.iter().for_each(|key| self.fence.change_begins(self.l1(), key.as_bytes()));
        if self.send_invalidate(keys).await.is_err() {
            self.pending.add(keys);
        }
    }

    /// A reload that cannot store what it loads must at least remove what it was to replace.
    pub(crate) fn replaces(&self, key: &Key, reuse: Reuse) {
        if reuse == Reuse::Nothing && self.l2.is_some() {
            self.pending.add(std::slice::from_ref(key));
        }
    }

    /// What was loaded, as an entry with a token of its own.
    pub(crate) fn entry(&self, produced: &Produced<V>, term: Term, seq: u64) -> Entry<V> {
        let ahead = produced.options.load.ahead(produced.cost);
        self.new_entry(produced.value.clone(), term, ahead, (seq, &produced.options.store.tags.tags))
    }

    /// A new entry, with a token of its own.
    pub(crate) fn new_entry(
        &self,
        value: Answer<V>,
        term: Term,
        ahead: Duration,
        (seq, tags): (u64, &Tags),
    ) -> Entry<V> {
        let now = self.node.clock.now();
        let life = Life::new(now.after(term.ttl), now.after(term.kept()), term.ttl, ahead);
        let (token, tags) = (self.node.next_token(), tags.clone());
        Entry { value, life, generation: 0, seq, token, tags }
    }

    /// The frame that L2 keeps of an entry.
    pub(crate) fn frame_of(&self, l2: &L2<V>, entry: &Entry<V>, term: Term, cost: Duration) -> Result<Bytes> {
        let now = self.node.clock.now();
        let time = self.server_time()?;
        let at = |tick| time.at(tick);
        let header = Header {
            absent: entry.value.is_none(),
            token: entry.token,
            expires_ms: at(now.after(term.ttl)),
            ends_ms: at(now.after(term.kept())),
            loaded_ms: at(now),
            cost_us: u32::try_from(cost.as_micros()).unwrap_or(u32::MAX),
            tags: entry.tags.clone(),
        };
        let frame = frame::write(l2.format, &header, |out| match &entry.value {
            Some(value) => l2.encode(value, out),
            None => Ok(()),
        });
        match frame {
            Ok(frame) if frame.len() <= frame::MAX_PAYLOAD => Ok(frame),
            Ok(frame) => Err(self.error(
                ErrorKind::Codec,
                format!(
                    "a value of {} encoded bytes is over the limit of {}",
                    frame.len(),
                    frame::MAX_PAYLOAD
                ),
            )),
            Err(cause) => {
                let (schema, codec) = (&l2.schema, l2.codec.name());
                let remedy = l2.round_trip.remedy();
                let message = format!(
                    "a value of type `{schema}` cannot be stored in L2 with the codec `{codec}`: {remedy}"
                );
                Err(self.error(ErrorKind::Codec, message).because(cause))
            }
        }
    }
}
