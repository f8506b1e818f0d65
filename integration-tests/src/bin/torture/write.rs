//! The changes a node makes: a version is committed, then every node is told.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_cache::{Error, ErrorKind, Stamp};
use fastrand::Rng;
use tokio::time::{Instant, sleep};

use crate::ledger::{Count, KEYS, now};
use crate::node::Handle;
use crate::read::{count_error, draw_key};

/// Values are inserted into every so-manieth key, and into no other: two inserts of one key that
/// race are ordered by Redis, not by the database, so that only one task may insert into a key.
const INSERTED: usize = 8;
/// The keys are spread over so many tags: those of one tag are all inserted into, or none is.
const TAGS: usize = 2 * INSERTED;
/// How long a new process leaves inserts alone: its predecessor's last may still be under way,
/// and is executed within its deadline or never.
const HEIR_WAITS: Duration = Duration::from_secs(2);

/// Changes at a rate, for ever. `all`: inserts, tags and clears too, not only invalidations.
pub(crate) async fn changes(handle: Arc<Handle>, seed: u64, per_s: f64, all: bool) {
    let mut rng = Rng::with_seed(seed);
    let born = Instant::now();
    loop {
        // Exponential: close together now and then.
        sleep(Duration::from_secs_f64(-(1.0 - rng.f64()).ln() / per_s)).await;
        match rng.u32(..1000) {
            0..2 if all => clear(&handle).await,
            2..22 if all => invalidate_tag(&handle, &mut rng).await,
            22..300 if all && born.elapsed() > HEIR_WAITS => insert(&handle, &mut rng).await,
            300..400 => invalidate(&handle, (0..4).map(|_| invalidated_key(&mut rng)).collect()).await,
            _ => invalidate(&handle, vec![invalidated_key(&mut rng)]).await,
        }
    }
}

fn invalidated_key(rng: &mut Rng) -> usize {
    loop {
        let key = draw_key(rng);
        if key % INSERTED != INSERTED - 1 {
            return key;
        }
    }
}

fn commit(handle: &Handle, key: usize) -> u64 {
    handle.ledger.row(key).committed().fetch_add(1, Ordering::SeqCst) + 1
}

async fn invalidate(handle: &Handle, keys: Vec<usize>) {
    let changed: Vec<(usize, u64)> = keys.into_iter().map(|key| (key, commit(handle, key))).collect();
    let ids: Vec<u64> = changed.iter().map(|(key, _)| *key as u64).collect();
    let outcome = match &ids[..] {
        [id] => handle.cache.invalidate(id).await,
        ids => handle.cache.invalidate_many(ids).await,
    };
    returned(handle, &changed, outcome);
}

async fn insert(handle: &Handle, rng: &mut Rng) {
    let (fleet, index) = (handle.args.fleet, handle.index);
    let ours = (0..KEYS / INSERTED).filter(|n| n % fleet == index).count();
    if ours == 0 {
        return;
    }
    let key = (rng.usize(..ours) * fleet + index) * INSERTED + INSERTED - 1;
    let version = commit(handle, key);
    let outcome = handle.cache.insert(&(key as u64), version).await;
    returned(handle, &[(key, version)], outcome);
}

/// The tag of a loaded value.
pub(crate) fn tag_of(key: usize) -> String {
    format!("tag {}", key % TAGS)
}

async fn invalidate_tag(handle: &Handle, rng: &mut Rng) {
    let first = invalidated_key(rng) % TAGS;
    let changed: Vec<(usize, u64)> =
        (first..KEYS).step_by(TAGS).map(|key| (key, commit(handle, key))).collect();
    let outcome = handle.cache.invalidate_tag(tag_of(first)).await;
    returned(handle, &changed, outcome);
}

async fn clear(handle: &Handle) {
    let committed = |key| handle.ledger.row(key).committed().load(Ordering::SeqCst);
    let changed: Vec<(usize, u64)> = (0..KEYS).map(|key| (key, committed(key))).collect();
    let outcome = handle.cache.invalidate_all().await;
    returned(handle, &changed, outcome);
}

/// Notes the outcome, before anything else happens.
fn returned(handle: &Handle, changed: &[(usize, u64)], outcome: Result<Stamp, Error>) {
    let at = now();
    match outcome {
        Ok(stamp) => {
            let seq = seq_of(&stamp);
            for (key, version) in changed {
                handle.own[*key].fetch_max(*version, Ordering::AcqRel);
                handle.ledger.row(*key).returned(*version, at, seq);
            }
            handle.ledger.add(handle.index, Count::Invalidations, changed.len() as u64);
        }
        Err(error) => {
            // Dropped here at once, whatever became of it elsewhere.
            if error.kind() == ErrorKind::Backend {
                for (key, version) in changed {
                    handle.own[*key].fetch_max(*version, Ordering::AcqRel);
                }
            }
            handle.ledger.add(handle.index, Count::Undecided, changed.len() as u64);
            count_error(handle, &error);
        }
    }
}

/// The number of a stamp: there is one partition.
fn seq_of(stamp: &Stamp) -> u64 {
    stamp.to_string().rsplit(':').next().and_then(|seq| seq.parse().ok()).expect("a stamp of one partition")
}
