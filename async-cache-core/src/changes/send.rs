//! Sends changes to L2, and applies them to this node.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;

use crate::backend::{Effect, Entry, Tick};
use crate::changes::intent::Landed;
use crate::error::{Error, ErrorKind, Result};
use crate::faults::mutant::Mutant;
use crate::format::key::Key;
use crate::format::tags::Tags;
use crate::inner::Inner;
use crate::liveness::ledger::Noted;
use crate::liveness::partition::Partition;
use crate::liveness::stamp::Stamp;
use crate::local::flight::Ticket;
use crate::local::l1::{NewEntry, new_entry};
use crate::observe::Stage;
use crate::options::StoreOptions;
use crate::remote::l2::L2;

/// The maximum number of entries, and of their bytes, that are sent under one deadline.
const PART_KEYS: usize = 512;
const PART_BYTES: usize = 4 << 20;

/// Sends invalidations of keys, and removes the voided entries from L1. Retries call this function, too. The caller
/// notes a failure.
pub(crate) async fn send_invalidate<V: Send + Sync + 'static>(
    inner: &Inner<V>,
    keys: &[Key],
) -> Result<Stamp> {
    let Some(l2) = &inner.remote else { return Ok(stamp(inner, &[], &[])) };
    let seqs = inner.observer.stage(Stage::Invalidate, l2.region.invalidate(keys)).await?;
    note_reached(inner, keys, &seqs);
    for (key, seq) in keys.iter().zip(&seqs).filter(|_| !inner.policy.faults.is(Mutant::NoSecondRemoval)) {
        inner.local.stripes.changed(inner.local.engine(), key.as_bytes(), *seq);
    }
    note_returned(inner, keys, &seqs);
    Ok(stamp(inner, keys, &seqs))
}

/// Notes the numbers of changes that have returned, before their older values leave L1.
fn note_reached<V>(inner: &Inner<V>, keys: &[Key], seqs: &[u64]) {
    for (key, seq) in keys.iter().zip(seqs) {
        inner.local.liveness.node.partition_of(key.as_bytes()).1.returned(*seq);
    }
}

/// Notes changes for the verifier. This node has removed the older values of their keys from L1.
fn note_returned<V>(inner: &Inner<V>, keys: &[Key], seqs: &[u64]) {
    let node = &inner.local.liveness.node;
    let Some(ledger) = &node.ledger else { return };
    let at = node.clock.now();
    for (key, seq) in keys.iter().zip(seqs) {
        let (_, partition) = node.partition_of(key.as_bytes());
        if let Some(run) = partition.run() {
            ledger.returned.note(key.as_bytes(), Noted { seq: *seq, at, run });
        }
    }
}

/// Sends expiries of keys, and expires the entries of L1.
pub(crate) async fn send_expire<V: Send + Sync + 'static>(inner: &Inner<V>, keys: &[Key]) -> Result<Stamp> {
    let Some(l2) = &inner.remote else { return Ok(stamp(inner, &[], &[])) };
    let seqs = l2.region.expire(keys).await.map_err(|error| inner.local.liveness.l2_failed(error))?;
    note_reached(inner, keys, &seqs);
    let now = inner.local.now();
    for (key, seq) in keys.iter().zip(&seqs) {
        inner.local.stripes.expired(inner.local.engine(), key, *seq, now);
    }
    Ok(stamp(inner, keys, &seqs))
}

/// Sends changes of tags to every partition. `landed` tells where they were made.
pub(crate) async fn send_tags<V: Send + Sync + 'static>(
    inner: &Inner<V>,
    tags: &[Tags],
    effect: Effect,
    landed: &Landed,
) -> Result<Stamp> {
    let Some(l2) = inner.remote.as_ref().filter(|_| !tags.is_empty()) else {
        for (_, partition) in inner.local.liveness.node.partitions() {
            tags.iter().for_each(|tags| partition.change_tags_alone(tags, effect));
        }
        return Ok(stamp(inner, &[], &[]));
    };
    in_every_partition(inner, landed, |place| send_tags_to(inner, l2, place, tags, effect)).await
}

/// Sends a clear to every partition. `landed` tells where it was made.
pub(crate) async fn send_clear<V: Send + Sync + 'static>(inner: &Inner<V>, landed: &Landed) -> Result<Stamp> {
    let stamp = match &inner.remote {
        Some(l2) => in_every_partition(inner, landed, |place| send_clear_to(inner, l2, place)).await?,
        None => stamp(inner, &[], &[]),
    };
    if let Some(l1) = inner.local.engine() {
        l1.clear();
    }
    Ok(stamp)
}

/// A partition and its index.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) index: u16,
    pub(crate) partition: &'a Partition,
}

/// Makes a change in every partition. All are tried, although one may fail.
async fn in_every_partition<'a, V: Send + Sync + 'static, Sent: Future<Output = Result<u64>>>(
    inner: &'a Inner<V>,
    landed: &Landed,
    send: impl Fn(Place<'a>) -> Sent,
) -> Result<Stamp> {
    let sent = inner.local.liveness.node.partitions().map(|(index, partition)| {
        let sending = send(Place { index, partition });
        async move {
            let seq = sending.await.inspect_err(|error| inner.local.liveness.count_failure(error))?;
            landed.note(index);
            Ok((index, seq))
        }
    });
    let outcomes: Vec<Result<(u16, u64)>> = join_all(sent).await;
    let (made, failed): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
    let (all, failures) = (made.len() + failed.len(), failed.len());
    let worst = worst(failed.into_iter().filter_map(Result::err));
    let worst = worst.map(|error| logged(inner, error, failures));
    match worst {
        None => Ok(Stamp::new(&inner.observer.namespace, made.into_iter().flatten())),
        Some(error) if made.is_empty() => Err(error),
        Some(error) => {
            let message = format!("{} of {all} partitions have executed it: {error}", made.len());
            Err(Error::new(error.kind(), message).with_source(error))
        }
    }
}

/// Of several errors one whose change is retried, and among those one whose effect is unknown: the caller must learn of
/// both.
fn worst(errors: impl Iterator<Item = Error>) -> Option<Error> {
    errors.max_by_key(|error| (is_retried(error), !error.effect_is_known()))
}

/// Sends changes of tags to one partition, one after another, and applies each to this node. Returns the number
/// of the last one. Retries call this function, too. The caller notes a failure.
pub(crate) async fn send_tags_to<V: Send + Sync + 'static>(
    inner: &Inner<V>,
    l2: &L2<V>,
    place: Place<'_>,
    tags: &[Tags],
    effect: Effect,
) -> Result<u64> {
    let Place { index, partition } = place;
    let mut last = 0;
    for tags in tags {
        let sending = async {
            match effect {
                Effect::Void => l2.region.invalidate_tags(index, tags).await,
                Effect::Expire => l2.region.expire_tags(index, tags).await,
            }
        };
        last = inner.observer.stage(Stage::InvalidateTags, sending).await?;
        partition.tags_changed(tags, last, effect);
        // An expiry voids no value.
        if let (Effect::Void, Some(ledger), Some(run)) =
            (effect, &inner.local.liveness.node.ledger, partition.run())
        {
            let change = Noted { seq: last, at: inner.local.now(), run };
            ledger.returned.note_tags(index, tags, change);
        }
    }
    Ok(last)
}

/// Sends a clear to one partition, and applies it to this node. Retries call this function, too. The caller notes a
/// failure.
pub(crate) async fn send_clear_to<V: Send + Sync + 'static>(
    inner: &Inner<V>,
    l2: &L2<V>,
    place: Place<'_>,
) -> Result<u64> {
    let seq = inner.observer.stage(Stage::Clear, l2.region.clear(place.index)).await?;
    place.partition.cleared(seq);
    Ok(seq)
}

pub(crate) async fn send_insert<V: Send + Sync + 'static>(
    inner: &Inner<V>,
    values: Vec<(Key, Arc<V>)>,
    options: StoreOptions,
) -> Result<Stamp> {
    let term = options.draw_term(false);
    let tags = &options.tags.tags;
    let tickets: Vec<Ticket> = values.iter().map(|(key, _)| inner.local.ticket(key)).collect();
    let Some(l2) = &inner.remote else {
        for ((key, value), ticket) in values.into_iter().zip(tickets) {
            let entry = new_entry(
                &inner.local.liveness.node,
                NewEntry { value: Some(value), term, ahead: Duration::ZERO, seq: ticket.seq, tags },
            );
            inner.local.admit(&key, ticket, entry, options.l1_ttl);
        }
        return Ok(stamp(inner, &[], &[]));
    };
    let (keys, values): (Vec<Key>, Vec<Arc<V>>) = values.into_iter().unzip();
    inner.local.liveness.learn_server_time(&*l2.region, &keys).await?;
    let mut entries = Vec::with_capacity(values.len());
    let mut frames = Vec::with_capacity(values.len());
    for (key, value) in keys.iter().zip(values) {
        let entry = new_entry(
            &inner.local.liveness.node,
            NewEntry { value: Some(value), term, ahead: Duration::ZERO, seq: 0, tags },
        );
        let frame = l2.frame_of(key, &entry, term, Duration::ZERO);
        let frame = frame.inspect_err(|error| inner.observer.not_encoded(key.as_bytes(), error))?;
        frames.push((key.clone(), frame));
        entries.push(entry);
    }
    let seqs = put(inner, l2, &frames, term.kept()).await?;
    note_reached(inner, &keys, &seqs);
    for (((key, seq), entry), ticket) in keys.iter().zip(&seqs).zip(entries).zip(tickets) {
        inner.local.stripes.changed(inner.local.engine(), key.as_bytes(), *seq);
        inner.local.admit(key, ticket, Entry { seq: *seq, ..entry }, options.l1_ttl);
    }
    note_returned(inner, &keys, &seqs);
    Ok(stamp(inner, &keys, &seqs))
}

/// Sends values in parts, each under its own deadline. Thousands of values take longer than one command may
/// take.
async fn put<V: Send + Sync + 'static>(
    inner: &Inner<V>,
    l2: &L2<V>,
    mut frames: &[(Key, Bytes)],
    life: Duration,
) -> Result<Vec<u64>> {
    let mut seqs = Vec::with_capacity(frames.len());
    while !frames.is_empty() {
        let (part, rest) = frames.split_at(fitting(frames));
        frames = rest;
        // After this node has given up a command, L2 must not execute it: the caller may insert a newer value
        // meanwhile.
        let given_up = inner.local.now().after(l2.region.info().deadline);
        let put = put_part(inner, l2, part, life, given_up).await;
        seqs.extend(put.map_err(|error| error_after(error, seqs.len()))?);
    }
    Ok(seqs)
}

/// Sends the values of one part, those of each partition apart: the servers of two partitions have two clocks.
async fn put_part<V: Send + Sync + 'static>(
    inner: &Inner<V>,
    l2: &L2<V>,
    part: &[(Key, Bytes)],
    life: Duration,
    given_up: Tick,
) -> Result<Vec<u64>> {
    let count = inner.local.liveness.node.partition_count();
    let mut places: Vec<usize> = (0..part.len()).collect();
    // Stable: within a partition the order stays.
    places.sort_by_key(|place| part[*place].0.partition(count));
    let groups: Vec<&[usize]> =
        places.chunk_by(|a, b| part[*a].0.partition(count) == part[*b].0.partition(count)).collect();
    if let [_] = groups[..] {
        let put = put_together(inner, l2, part, life, given_up).await;
        return put.map_err(|error| logged(inner, error, 1));
    }
    let puts = groups.iter().map(|group| {
        let values: Vec<(Key, Bytes)> = group.iter().map(|place| part[*place].clone()).collect();
        async move { put_together(inner, l2, &values, life, given_up).await }
    });
    let mut seqs = vec![0; part.len()];
    let (mut stored, mut failed, mut failure) = (0, 0, None::<Error>);
    for (group, put) in groups.iter().zip(join_all(puts.collect::<Vec<_>>()).await) {
        match put {
            Ok(put) => {
                stored += put.len();
                group.iter().zip(put).for_each(|(place, seq)| seqs[*place] = seq);
            }
            Err(error) => {
                failed += 1;
                // An error whose effect is unknown comes first: the caller must learn of it.
                if failure.is_none() || !error.effect_is_known() {
                    failure = Some(error);
                }
            }
        }
    }
    failure.map_or(Ok(seqs), |error| Err(error_after(logged(inner, error, failed), stored)))
}

/// Logs a failure, and adds the namespace, which the line of the log has already.
fn logged<V: Send + Sync + 'static>(inner: &Inner<V>, error: Error, partitions: usize) -> Error {
    inner.local.liveness.log_failures(&error, partitions);
    error.in_namespace(&inner.observer.namespace)
}

/// Sends values of one partition. The caller logs a failure.
async fn put_together<V: Send + Sync + 'static>(
    inner: &Inner<V>,
    l2: &L2<V>,
    values: &[(Key, Bytes)],
    life: Duration,
    given_up: Tick,
) -> Result<Vec<u64>> {
    let not_after = match inner.policy.faults.is(Mutant::PutAtAnyTime) {
        true => u64::MAX >> 12,
        false => inner.local.liveness.server_time(values[0].0.as_bytes())?.at_earliest(given_up),
    };
    let put = inner.observer.stage(Stage::Put, l2.region.put(values, life, not_after)).await;
    put.inspect_err(|error| inner.local.liveness.count_failure(error))
}

fn stamp<V: Send + Sync + 'static>(inner: &Inner<V>, keys: &[Key], seqs: &[u64]) -> Stamp {
    let partition = |key: &Key| key.partition(inner.local.liveness.node.partition_count());
    let stamp = Stamp::new(&inner.observer.namespace, keys.iter().map(partition).zip(seqs.iter().copied()));
    inner.local.liveness.node.knows(&stamp);
    stamp
}

/// Adds to the error of one part of an insert how many values of earlier parts were stored.
fn error_after(error: Error, stored: usize) -> Error {
    if stored == 0 || !error.effect_is_known() {
        return error;
    }
    let message = format!("{stored} values of the same insert were stored before: {error}");
    Error::new(error.kind(), message).with_known_effect().with_source(error)
}

/// The number of first entries that are sent together. It is at least one.
fn fitting(frames: &[(Key, Bytes)]) -> usize {
    let mut bytes = 0;
    let fit = frames.iter().take(PART_KEYS).take_while(|(_, frame)| {
        bytes += frame.len();
        bytes <= PART_BYTES
    });
    fit.count().max(1)
}

/// Whether a change that ended with this error of L2 is retried. A refused change has changed nothing in L2.
/// But the data in the source has changed, and L2 may accept the change later.
pub(crate) fn is_retried(error: &Error) -> bool {
    error.is_temporary() || error.kind() == ErrorKind::Config
}
