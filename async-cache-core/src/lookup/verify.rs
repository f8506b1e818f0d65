//! The verifier: checks sampled hits of L1 after they were answered.
//!
//! 1. A hit is sampled. If it had to reflect a change that this node had made or received, and does not, it is
//!    reported at once.
//! 2. The verifier reads its key in L2, and runs the loader once more if it is to.
//! 3. If both agree with the entry that answered, the hit is verified. Otherwise the verifier reads the state of
//!    L2, notes the time, and waits for `max_staleness`.
//! 4. If L1 still answers with the same entry, that answer is older than the promise allows, or the verifier was
//!    mistaken. What is known then decides: see [`Evidence`].
//!
//! The verifier never removes an entry: it reports, and changes nothing.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, sleep_until};

use crate::backend::{Baseline, Check, Entry};
use crate::error::{BoxError, Result, guard};
use crate::format::frame;
use crate::format::key::Key;
use crate::inner::Inner;
use crate::local::l1::Probe;
use crate::local::request::Answer;
use crate::local::sample::{Rerun, Sample, Sampler};
use crate::lookup::evidence::{Suspect, at_once, proof};
use crate::lookup::loader::{BoxLoader, Given, LoadContext, Payload};
use crate::observe::{Evidence, Knowledge};
use crate::remote::l2::L2;

/// The maximum number of entries under suspicion. Further ones are dropped, and counted as not checked.
const SUSPECTS: usize = 64;

/// The maximum number of checks at the same time, so that a slow loader does not hold up the others.
const CHECKS: usize = 16;

/// Extra time beyond `max_staleness`, so that a message that arrives at the last moment is applied.
const GRACE: Duration = Duration::from_millis(10);

/// What L2 has in place of an entry.
enum Stored {
    /// The entry, or an equal value.
    Same,
    /// Nothing that is valid.
    Nothing,
    /// Another value.
    Other,
}

/// Makes a loader ready to be run once more.
pub(crate) fn rerun<V: Send + Sync + 'static>(
    inner: &Inner<V>,
    loader: BoxLoader<V>,
    entry: &Entry<V>,
    limit: Duration,
) -> Rerun<V> {
    let context = LoadContext::of(Some(entry), inner.local.now());
    let loader = Box::new(move || -> BoxFuture<'static, _> {
        let loading = loader.run(context);
        Box::pin(async move {
            Ok(match loading.await? {
                Given { payload: Payload::New(answer), .. } => Some(answer),
                Given { payload: Payload::Unchanged, .. } => None,
            })
        })
    });
    Rerun { loader, limit }
}

/// Hands a sampled hit to the verifier.
pub(crate) fn offer<V: 'static>(inner: &Inner<V>, sample: Sample<V>) {
    if let Some(sampler) = &inner.local.sampler
        && !sampler.offer(sample)
    {
        inner.observer.counters.verify_skipped.add(1);
    }
}

/// Checks samples until the cache is closed.
pub(crate) async fn run<V: Send + Sync + 'static>(inner: Arc<Inner<V>>) {
    let Some(sampler) = &inner.local.sampler else { return };
    let mut waiting = sampler.waiting.lock().await;
    let pace = Duration::from_secs(1) / sampler.verify.per_second;
    let mut next = Instant::now();
    let mut suspects: VecDeque<Suspect<V>> = VecDeque::new();
    // Both are polled all the time: a loader that runs once more may hold what others wait for.
    let (mut looking, mut looking_again) = (FuturesUnordered::new(), FuturesUnordered::new());
    loop {
        let due = suspects.front().map(|suspect| suspect.due);
        tokio::select! {
            biased;
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() && looking_again.len() < CHECKS => {
                if let Some(suspect) = suspects.pop_front() {
                    looking_again.push(look_again(&inner, sampler, suspect));
                }
            }
            Some(()) = looking_again.next() => {}
            Some(looked) = looking.next() => match looked {
                Ok(None) => inner.observer.counters.verified_hits.add(1),
                Ok(Some(suspect)) if suspects.len() < SUSPECTS => {
                    inner.observer.counters.verified_hits.add(1);
                    suspects.push_back(suspect);
                }
                // L2 or the loader failed, so that nothing is known; or there are too many.
                Ok(Some(_)) | Err(_) => inner.observer.counters.verify_skipped.add(1),
            },
            sample = async { sleep_until(next).await; waiting.recv().await }, if looking.len() < CHECKS => {
                let Some(sample) = sample else { return };
                next = Instant::now() + pace;
                looking.push(look(&inner, sampler, sample));
            }
        }
    }
}

/// Looks at a hit for the first time. If L2 and the source confirm it, there is no suspect.
async fn look<V: Send + Sync + 'static>(
    inner: &Inner<V>,
    sampler: &Sampler<V>,
    sample: Sample<V>,
) -> Result<Option<Suspect<V>>> {
    let Sample { key, entry, begun, rerun } = sample;
    if let Some((evidence, read)) = at_once(inner, &key, &entry, begun).await? {
        let node = &inner.local.liveness.node;
        let (_, partition) = node.partition_of(key.as_bytes());
        let (applied, reached) = (partition.applied(), read.state.seq);
        let knew =
            Knowledge { applied, reached, reflects: entry.seq, serving_lease_age: node.serving_lease_age() };
        inner.observer.stale_hit(key.as_bytes(), evidence, knew);
        return Ok(None);
    }
    let source_differs = differs_from_source(inner, sampler, &entry, rerun).await?;
    let state = match &inner.remote {
        Some(l2) => state_if_unconfirmed(inner, l2, &key, &entry).await?,
        None => None,
    };
    if state.is_none() && !source_differs {
        return Ok(None);
    }
    let bound = match inner.remote {
        Some(_) => inner.local.liveness.node.max_staleness,
        None => Duration::ZERO,
    };
    let (seen, due) = (inner.local.now(), Instant::now() + bound + GRACE);
    Ok(Some(Suspect { key, entry, state, source_differs, seen, due }))
}

/// Whether the loader, run once more, returns another value than the entry.
async fn differs_from_source<V: Send + Sync + 'static>(
    inner: &Inner<V>,
    sampler: &Sampler<V>,
    entry: &Entry<V>,
    rerun: Option<Rerun<V>>,
) -> Result<bool> {
    let Some(Rerun { loader, limit }) = rerun else { return Ok(false) };
    let loaded: Option<Answer<V>> = guard::run("verifying a hit", limit, loader).await?;
    Ok(loaded.is_some_and(|answer| !same_answer(inner, sampler, &answer, &entry.value)))
}

/// The state of L2 if it does not confirm the entry.
async fn state_if_unconfirmed<V: Send + Sync + 'static>(
    inner: &Inner<V>,
    l2: &L2<V>,
    key: &Key,
    entry: &Entry<V>,
) -> Result<Option<Baseline>> {
    let Some(sampler) = &inner.local.sampler else { return Ok(None) };
    if let Stored::Same = stored(inner, sampler, l2, key, entry).await? {
        return Ok(None);
    }
    let (partition, _) = inner.local.partition_of(key.as_bytes());
    l2.region.baseline(partition, Some(&entry.tags)).await.map(Some)
}

/// Reads L2, and compares.
async fn stored<V: Send + Sync + 'static>(
    inner: &Inner<V>,
    sampler: &Sampler<V>,
    l2: &L2<V>,
    key: &Key,
    entry: &Entry<V>,
) -> Result<Stored> {
    let read = l2.region.read_one(key, Check::Valid).await?;
    let Some(bytes) = read.value else { return Ok(Stored::Nothing) };
    let Ok((seq, header, payload)) = frame::read(l2.format, &bytes) else { return Ok(Stored::Nothing) };
    if header.token == entry.token && seq == entry.seq {
        return Ok(Stored::Same);
    }
    let same = match (&entry.value, header.absent) {
        (None, absent) => absent,
        (Some(_), true) => false,
        (Some(value), false) => match &sampler.verify.same {
            Some(_) => l2.decode(payload).is_ok_and(|stored| same_value(inner, sampler, &stored, value)),
            None => encoded(l2, value).is_ok_and(|own| own == payload),
        },
    };
    Ok(if same { Stored::Same } else { Stored::Other })
}

fn same_answer<V: 'static>(inner: &Inner<V>, sampler: &Sampler<V>, a: &Answer<V>, b: &Answer<V>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => same_value(inner, sampler, a, b),
        (None, None) => true,
        _ => false,
    }
}

/// Whether two values are equal. Values that cannot be compared count as equal.
fn same_value<V: 'static>(inner: &Inner<V>, sampler: &Sampler<V>, a: &V, b: &V) -> bool {
    if let Some(same) = &sampler.verify.same {
        return guard::call("comparing two values", || Ok::<_, BoxError>(same(a, b))).unwrap_or(true);
    }
    let Some(l2) = &inner.remote else { return true };
    match (encoded(l2, a), encoded(l2, b)) {
        (Ok(a), Ok(b)) => a == b,
        _ => true,
    }
}

fn encoded<V: 'static>(l2: &L2<V>, value: &V) -> Result<Vec<u8>, BoxError> {
    let mut bytes = Vec::new();
    guard::call("encoding a value", || l2.codec.encode(value, &mut bytes))?;
    Ok(bytes)
}

/// Looks again after the bound, and reports the entry if it still answers.
async fn look_again<V: Send + Sync + 'static>(inner: &Inner<V>, sampler: &Sampler<V>, suspect: Suspect<V>) {
    let node = &inner.local.liveness.node;
    let now = node.clock.now();
    let probed = inner.local.probe(suspect.key.as_bytes(), None);
    let (Probe::Hit(entry) | Probe::Ripe(entry)) = probed else { return };
    if !is_same_entry(&entry, &suspect.entry) {
        return;
    }
    // It is read after the entry: the node may learn of more changes in between, but not of fewer.
    let (_, partition) = node.partition_of(suspect.key.as_bytes());
    let applied = partition.applied();
    let mut evidence = proof(inner, &suspect, &entry, now, applied);
    if evidence.is_none()
        && suspect.state.is_some()
        && let Some(l2) = &inner.remote
        && let Ok(Stored::Other) = stored(inner, sampler, l2, &suspect.key, &entry).await
    {
        evidence = Some(Evidence::L2Differs);
    }
    let evidence = evidence.or_else(|| suspect.source_differs.then_some(Evidence::SourceDiffers));
    let Some(evidence) = evidence else { return };
    let reached = suspect.state.as_ref().map_or(applied, |read| read.state.seq);
    let knew =
        Knowledge { applied, reached, reflects: entry.seq, serving_lease_age: node.serving_lease_age() };
    inner.observer.stale_hit(suspect.key.as_bytes(), evidence, knew);
}

/// Whether L1 still holds the entry itself, and not another one of the same content.
fn is_same_entry<V>(a: &Entry<V>, b: &Entry<V>) -> bool {
    a.token == b.token
        && match (&a.value, &b.value) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            (None, None) => true,
            _ => false,
        }
}
