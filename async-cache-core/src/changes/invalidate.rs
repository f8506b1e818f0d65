//! Changes made here: invalidations, clears and inserts.
//!
//! Each runs in a task of its own, so that a caller who goes away leaves no change half made. Each
//! empties L1 before its command and again after the reply; see [`Fence::changed`](super::Fence).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;

use crate::backend::{Entry, Region};
use crate::changes::intent::{Change, Intent};
use crate::changes::retry::is_retried;
use crate::error::{Error, ErrorKind, Result};
use crate::faults::mutant::Mutant;
use crate::faults::planted;
use crate::format::key::Key;
use crate::format::tags::Tags;
use crate::inner::{L2, Shared};
use crate::liveness::partition::Partition;
use crate::liveness::stamp::Stamp;
use crate::local::stripes::Ticket;
use crate::observe::trace;
use crate::options::StoreOptions;

/// Most entries, and most bytes of them, sent with one deadline.
const PART_KEYS: usize = 512;
const PART_BYTES: usize = 4 << 20;

/// Most keys in one call that changes many.
pub(crate) const MAX_CHANGES: usize = 100_000;

impl<V: Send + Sync + 'static> Shared<V> {
    pub(crate) async fn invalidate(self: &Arc<Self>, keys: Vec<Key>) -> Result<Stamp> {
        self.check_change(keys.len())?;
        let keys: Arc<[Key]> = keys.into();
        let intent = Intent::new(self, Change::Keys(Arc::clone(&keys)));
        for key in &*keys {
            self.fence.change_begins(self.l1(), key.as_bytes());
        }
        self.counters.invalidations_sent.add(keys.len());
        self.in_own_task(
            "invalidation",
            intent,
            move |shared| async move { shared.send_invalidate(&keys).await },
        )
        .await
    }

    pub(crate) async fn invalidate_all(self: &Arc<Self>) -> Result<Stamp> {
        self.check_change(1)?;
        let intent = Intent::new(self, Change::Clear);
        self.node.partitions().for_each(|(_, partition)| partition.move_generation());
        self.counters.invalidations_sent.add(1);
        self.in_own_task("clear", intent, |shared| async move { shared.send_clear().await }).await
    }

    pub(crate) async fn invalidate_tags(self: &Arc<Self>, tags: Vec<Tags>) -> Result<Stamp> {
        let count = tags.iter().map(|tags| tags.iter().count()).sum();
        self.check_change(count)?;
        let intent = Intent::new(self, Change::Tags(tags.clone()));
        self.counters.invalidations_sent.add(count);
        self.in_own_task("invalidation", intent, move |shared| async move { shared.send_tags(&tags).await })
            .await
    }

    /// Stores values as changes: other nodes drop theirs, loads under way are broken.
    pub(crate) async fn insert(
        self: &Arc<Self>,
        values: Vec<(Key, Arc<V>)>,
        options: StoreOptions,
    ) -> Result<Stamp> {
        self.check_change(values.len())?;
        self.check_store_options(&options)?;
        let intent = Intent::new(self, Change::Keys(values.iter().map(|(key, _)| key.clone()).collect()));
        for (key, _) in &values {
            self.fence.change_begins(self.l1(), key.as_bytes());
        }
        self.counters.invalidations_sent.add(values.len());
        self.in_own_task("insert", intent, |shared| async move { shared.send_insert(values, options).await })
            .await
    }

    /// Sends invalidations and removes locally what they void. Also what retries call.
    pub(crate) async fn send_invalidate(&self, keys: &[Key]) -> Result<Stamp> {
        let Some(l2) = &self.l2 else { return Ok(self.stamp(&[], &[])) };
        let seqs = l2.region.invalidate(keys).await.map_err(|error| self.l2_failed(error))?;
        for (key, seq) in keys.iter().zip(&seqs).filter(|_| !self.switch.is(Mutant::NoSecondRemoval)) {
            self.fence.changed(self.l1(), key.as_bytes(), *seq);
        }
        Ok(self.stamp(keys, &seqs))
    }

    /// Sends invalidations of tags to every partition, and applies those that were executed. Also
    /// what retries call.
    pub(crate) async fn send_tags(&self, tags: &[Tags]) -> Result<Stamp> {
        let Some(l2) = &self.l2 else {
            for (_, partition) in self.node.partitions() {
                tags.iter().for_each(|tags| partition.change_tags_alone(tags));
            }
            return Ok(self.stamp(&[], &[]));
        };
        let mut seqs = Vec::new();
        for tags in tags {
            let sent = self.node.partitions().map(|at| self.send_tags_to(l2, tags, at));
            let outcomes: Vec<Result<(u16, u64)>> = join_all(sent).await;
            for outcome in outcomes {
                seqs.push(outcome?);
            }
        }
        Ok(Stamp::new(&self.namespace, seqs))
    }

    async fn send_tags_to(
        &self,
        l2: &L2<V>,
        tags: &Tags,
        (index, partition): (u16, &Partition),
    ) -> Result<(u16, u64)> {
        let seq = l2.region.invalidate_tags(index, tags).await.map_err(|error| self.l2_failed(error))?;
        partition.tags_changed(tags, seq);
        Ok((index, seq))
    }

    pub(crate) async fn send_clear(&self) -> Result<Stamp> {
        let mut seqs = Vec::new();
        if let Some(l2) = &self.l2 {
            for (index, partition) in self.node.partitions() {
                let seq = l2.region.clear(index).await.map_err(|error| self.l2_failed(error))?;
                partition.cleared(seq);
                seqs.push((index, seq));
            }
        }
        if let Some(l1) = self.l1() {
            l1.clear();
        }
        Ok(Stamp::new(&self.namespace, seqs))
    }

    async fn send_insert(&self, values: Vec<(Key, Arc<V>)>, options: StoreOptions) -> Result<Stamp> {
        let term = options.draw_term(false);
        let tags = &options.tags.tags;
        let tickets: Vec<Ticket> = values.iter().map(|(key, _)| self.ticket(key)).collect();
        let Some(l2) = &self.l2 else {
            for ((key, value), ticket) in values.into_iter().zip(tickets) {
                let entry = self.new_entry(Some(value), term, Duration::ZERO, (ticket.seq, tags));
                self.admit(&key, ticket, entry, options.l1_ttl);
            }
            return Ok(self.stamp(&[], &[]));
        };
        self.learn_server_time(&*l2.region).await?;
        let mut keys = Vec::with_capacity(values.len());
        let mut entries = Vec::with_capacity(values.len());
        let mut frames = Vec::with_capacity(values.len());
        for (key, value) in values {
            let entry = self.new_entry(Some(value), term, Duration::ZERO, (0, tags));
            let frame = self.frame_of(l2, &entry, term, Duration::ZERO);
            let frame = frame.inspect_err(|error| self.not_encoded(&key, error))?;
            frames.push((key.clone(), frame));
            entries.push(entry);
            keys.push(key);
        }
        let seqs = self.put(l2, &frames, term.kept()).await?;
        for (((key, seq), entry), ticket) in keys.iter().zip(&seqs).zip(entries).zip(tickets) {
            self.fence.changed(self.l1(), key.as_bytes(), *seq);
            self.admit(key, ticket, Entry { seq: *seq, ..entry }, options.l1_ttl);
        }
        Ok(self.stamp(&keys, &seqs))
    }

    /// Sends values in parts, each with a deadline of its own: thousands take longer than one command may.
    async fn put(&self, l2: &L2<V>, mut frames: &[(Key, Bytes)], life: Duration) -> Result<Vec<u64>> {
        let mut seqs = Vec::with_capacity(frames.len());
        while !frames.is_empty() {
            let (part, rest) = frames.split_at(fitting(frames));
            frames = rest;
            // Once we have given up on it, it must not be executed: our caller may write something newer.
            let given_up = self.node.clock.now().after(l2.region.command_timeout());
            let not_after = match self.switch.is(Mutant::PutAtAnyTime) {
                true => u64::MAX >> 12,
                false => self.server_time()?.at_earliest(given_up),
            };
            let put = l2.region.put(part, life, not_after).await;
            seqs.extend(put.map_err(|error| self.l2_failed(error_after(error, seqs.len())))?);
        }
        Ok(seqs)
    }

    /// Frames carry times of the server's clock: read it if no answer has told it yet.
    pub(crate) async fn learn_server_time(&self, region: &dyn Region) -> Result<()> {
        if self.node.server_clock.known().is_none() {
            self.read_state(region, 0).await?;
        }
        Ok(())
    }

    fn stamp(&self, keys: &[Key], seqs: &[u64]) -> Stamp {
        let partition = |key: &Key| key.partition(self.node.partition_count());
        let stamp = Stamp::new(&self.namespace, keys.iter().map(partition).zip(seqs.iter().copied()));
        self.node.knows(&stamp);
        stamp
    }

    fn check_change(&self, keys: usize) -> Result<()> {
        self.check_open()?;
        if keys > MAX_CHANGES {
            let message = format!(
                "{keys} keys or tags in one call is over the limit of {MAX_CHANGES}: send them in parts"
            );
            return Err(self.error(ErrorKind::Key, message));
        }
        Ok(())
    }

    /// Queues a change of unknown outcome, and empties L1 of it once more:
    ///
    /// 1. the change begins, and its command is stuck; 2. on another connection, a get reads the
    ///    old value and stores it in L1; 3. the command times out, and its caller is told that the
    ///    key is dropped here.
    ///
    /// First queued, then emptied: whoever takes a ticket after that finds the key
    /// [covered](crate::changes::retry::Pending::covers), and does not read L2.
    pub(crate) fn retry_later(&self, keys: &[Key]) {
        if planted!(EmptyThenQueue) {
            keys.iter().for_each(|key| self.fence.change_begins(self.l1(), key.as_bytes()));
            return self.pending.add(keys);
        }
        self.pending.add(keys);
        for key in keys {
            self.fence.change_begins(self.l1(), key.as_bytes());
        }
    }

    #[cold]
    fn undecided(&self, what: &str, cause: Error) -> Error {
        self.look_around(None);
        if !cause.is_temporary() {
            let message = format!(
                "this {what} was refused by L2, which still holds what it held: dropped from this node, and \
                 retried, ever less often, until it lands ({cause})"
            );
            return self.error(cause.kind(), message).because(cause);
        }
        if cause.effect_is_known() {
            let message = format!(
                "this {what} was refused by L2: dropped from this node, and retried as an invalidation until it lands \
                 ({cause})"
            );
            return self.error(cause.kind(), message).with_known_effect().because(cause);
        }
        let message = format!(
            "the outcome of this {what} is unknown: dropped from this node, and retried as an invalidation until it lands"
        );
        self.error(ErrorKind::Backend, message).because(cause)
    }

    /// Makes a change in a task of its own. Until its outcome is known, its intent is kept.
    async fn in_own_task<Work>(
        self: &Arc<Self>,
        what: &'static str,
        intent: Intent<V>,
        work: impl FnOnce(Arc<Self>) -> Work,
    ) -> Result<Stamp>
    where
        Work: Future<Output = Result<Stamp>> + Send + 'static,
    {
        let (shared, work) = (Arc::clone(self), work(Arc::clone(self)));
        let change = async move {
            match work.await {
                Err(error) if is_retried(&error) => {
                    drop(intent);
                    Err(shared.undecided(what, error))
                }
                decided => {
                    intent.decided();
                    decided
                }
            }
        };
        match self.tasks.spawn(trace::change(&self.namespace, change)).await {
            Ok(result) => result,
            Err(cause) => {
                let message = format!(
                    "the task making this {what} ended early, by a panic or with its runtime: retried as an invalidation"
                );
                Err(self.error(ErrorKind::Backend, message).because(cause))
            }
        }
    }
}

/// The error of a part of an insert, behind parts that were stored.
fn error_after(error: Error, stored: usize) -> Error {
    if stored == 0 || !error.effect_is_known() {
        return error;
    }
    let message = format!("{stored} values of the same insert were stored before: {error}");
    Error::new(error.kind(), message).with_known_effect().because(error)
}

/// How many of the first entries are sent together; at least one.
fn fitting(frames: &[(Key, Bytes)]) -> usize {
    let mut bytes = 0;
    let fit = frames.iter().take(PART_KEYS).take_while(|(_, frame)| {
        bytes += frame.len();
        bytes <= PART_BYTES
    });
    fit.count().max(1)
}
