//! The fill: L2, then L1; refused if an invalidation has met the load.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::load::Produced;
use super::{Answer, Reuse};
use crate::backend::{Announce, Entry, Filled, Lease};
use crate::error::{ErrorKind, Result};
use crate::frame::{self, Header};
use crate::key::Key;
use crate::options::EntryOptions;
use crate::shared::{L2, Shared};

impl<V: Send + Sync + 'static> Shared<V> {
    /// Stores in L2 what was loaded under a lease. Returns what L1 is to be offered: nothing if an
    /// invalidation has broken the lease, for then what was loaded is old.
    pub(super) async fn fill(
        self: &Arc<Self>,
        l2: &L2<V>,
        key: &Key,
        lease: Lease,
        produced: &Produced<V>,
        (cost, reuse): (Duration, Reuse),
        options: &EntryOptions,
    ) -> Option<Entry<V>> {
        let life = options.draw_life(produced.value.is_none(), produced.ttl);
        let entry = self.entry(produced.value.clone(), life, lease.seq);
        let frame = match self.frame_of(l2, &entry, life, cost) {
            Ok(frame) => frame,
            Err(error) => {
                // The callers get their value all the same, and L1 may keep it.
                drop(self.l2_failed(error));
                self.replaces(key, reuse);
                self.give_back(key, lease);
                return Some(entry);
            }
        };
        let announce = match reuse {
            Reuse::Cached => Announce::No,
            Reuse::Nothing => Announce::Yes,
        };
        match l2.region.fill(key, lease, frame, life, announce).await {
            Ok(Filled::Stored { seq }) => Some(Entry { seq, ..entry }),
            Ok(Filled::Refused) => {
                self.counters.fills_rejected.add(1);
                // By an invalidation, or because the lease was lost: then the old value stands.
                self.replaces(key, reuse);
                None
            }
            // Whether L1 may have it does not depend on L2: the ticket decides.
            Err(error) => {
                drop(self.l2_failed(error));
                self.replaces(key, reuse);
                Some(entry)
            }
        }
    }

    /// Ends a lease that will not be filled, so that others need not wait for it to lapse.
    pub(super) fn give_back(self: &Arc<Self>, key: &Key, lease: Lease) {
        let (shared, key) = (Arc::clone(self), key.clone());
        self.tasks.spawn(async move {
            if let Some(l2) = &shared.l2
                && let Err(error) = l2.region.release(&key, lease).await
            {
                drop(shared.l2_failed(error));
            }
        });
    }

    /// A reload that cannot store what it loads must at least remove what it was to replace.
    pub(super) fn replaces(&self, key: &Key, reuse: Reuse) {
        if reuse == Reuse::Nothing && self.l2.is_some() {
            self.pending.add(std::slice::from_ref(key));
        }
    }

    /// A new entry, with a token of its own.
    pub(crate) fn entry(&self, value: Answer<V>, life: Duration, seq: u64) -> Entry<V> {
        let expires = self.node.clock.now().after(life);
        Entry { value, expires, generation: 0, seq, token: self.node.next_token() }
    }

    /// The frame that L2 keeps of an entry.
    pub(crate) fn frame_of(
        &self,
        l2: &L2<V>,
        entry: &Entry<V>,
        life: Duration,
        cost: Duration,
    ) -> Result<Bytes> {
        let header = Header {
            absent: entry.value.is_none(),
            token: entry.token,
            expires_ms: self.node.server_clock.at(self.node.clock.now().after(life)),
            cost_us: u32::try_from(cost.as_micros()).unwrap_or(u32::MAX),
        };
        let frame = frame::write(l2.format, &header, |out| match &entry.value {
            Some(value) => l2.codec.encode(value, out),
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
            Err(cause) => Err(self.error(ErrorKind::Codec, "encoding a value for L2 failed").because(cause)),
        }
    }
}
