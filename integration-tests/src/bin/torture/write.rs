//! The changes of a node: it commits a version, then invalidates or inserts.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_cache::{Error, ErrorKind, Stamp};
use fastrand::Rng;
use tokio::time::sleep;

use crate::ledger::{Count, KEYS, now};
use crate::node::{Handle, LIFE};
use crate::promise::What;
use crate::read::{count_error, draw_key, in_time};
use crate::value::Value;

/// One of this many keys is inserted into, and no other. If two inserts of one key race, Redis decides their
/// order, not the database. So only one task may insert into a key.
const INSERTED: usize = 8;
/// The keys have this many tags. Either all keys of a tag are inserted into, or none.
const TAGS: usize = 2 * INSERTED;

/// Makes changes at a rate. With `all` these are also inserts, tags and clears, and otherwise only
/// invalidations.
pub(crate) async fn changes(handle: Arc<Handle>, seed: u64, per_s: f64, all: bool) {
    let mut rng = Rng::with_seed(seed);
    while !handle.rests() {
        // The pauses have an exponential distribution, so some changes are close together.
        sleep(Duration::from_secs_f64(-(1.0 - rng.f64()).ln() / per_s)).await;
        match rng.u32(..1000) {
            0..1 if all => clear(&handle).await,
            1..22 if all => invalidate_tag(&handle, &mut rng).await,
            22..300 if all && !handle.newborn() => insert(&handle, &mut rng).await,
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
    let version = handle.ledger.row(key).committed().fetch_add(1, Ordering::SeqCst) + 1;
    handle.ledger.note(key, handle.index, What::Commits, version);
    version
}

async fn invalidate(handle: &Handle, keys: Vec<usize>) {
    let changed: Vec<(usize, u64)> = keys.into_iter().map(|key| (key, commit(handle, key))).collect();
    let ids: Vec<u64> = changed.iter().map(|(key, _)| *key as u64).collect();
    let call = async {
        match &ids[..] {
            [id] => handle.cache.invalidate(id).await,
            ids => handle.cache.invalidate_many(ids).await,
        }
    };
    let outcome = in_time(handle, changed[0].0, "invalidate", call).await;
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
    let id = key as u64;
    let insert = handle.cache.insert(&id, Value::new(key, version, LIFE));
    let outcome = in_time(handle, key, "insert", async { insert.await }).await;
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
    let outcome = in_time(handle, first, "invalidate_tag", handle.cache.invalidate_tag(tag_of(first))).await;
    returned(handle, &changed, outcome);
}

async fn clear(handle: &Handle) {
    let committed = |key| handle.ledger.row(key).committed().load(Ordering::SeqCst);
    let changed: Vec<(usize, u64)> = (0..KEYS).map(|key| (key, committed(key))).collect();
    let outcome = in_time(handle, 0, "invalidate_all", handle.cache.invalidate_all()).await;
    returned(handle, &changed, outcome);
}

fn returned(handle: &Handle, changed: &[(usize, u64)], outcome: Option<Result<Stamp, Error>>) {
    if let Some(outcome) = outcome {
        handle.change_ended(changed, outcome.map(|stamp| Seqs::of(&stamp)));
    }
}

impl Handle {
    /// Notes the outcome of a change, with the numbers of its stamp, before anything else happens.
    pub(crate) fn change_ended(&self, changed: &[(usize, u64)], outcome: Result<Seqs, Error>) {
        let (at, ledger) = (now(), self.ledger);
        let count = match &outcome {
            Ok(_) => Count::Invalidations,
            Err(_) => Count::Undecided,
        };
        // After an error of L2 this node applies the change at once, and retries it.
        let (is_known, is_undecided) = match &outcome {
            Ok(_) => (true, false),
            Err(error) => (error.kind() == ErrorKind::Backend, error.kind() == ErrorKind::Backend),
        };
        for (key, version) in changed {
            if is_known {
                self.own[*key].fetch_max(*version, Ordering::AcqRel);
            }
            if is_undecided {
                self.undecided[*key].fetch_max(*version, Ordering::AcqRel);
            }
            if let Ok(seqs) = &outcome {
                ledger.row(*key).returned(*version, at, seqs.at(self.args.partition_of(*key)));
            }
            let what = if outcome.is_ok() { What::Returns } else { What::Fails };
            ledger.note(*key, self.index, what, *version);
        }
        ledger.add(self.index, count, changed.len() as u64);
        if let Err(error) = outcome {
            count_error(self, &error);
        }
    }
}

/// The numbers of a stamp, by partition.
#[derive(Debug, Default)]
pub(crate) struct Seqs(HashMap<u16, u64>);

impl Seqs {
    pub(crate) fn of(stamp: &Stamp) -> Self {
        let text = stamp.to_string();
        let (_, seqs) = text.rsplit_once('@').expect("a stamp");
        let seq = |part: &str| {
            let (partition, seq) = part.split_once(':')?;
            Some((partition.parse().ok()?, seq.parse().ok()?))
        };
        Self(seqs.split(',').filter_map(seq).collect())
    }

    /// The number of a partition, and 0 if there is none.
    fn at(&self, partition: u16) -> u64 {
        self.0.get(&partition).copied().unwrap_or(0)
    }
}

impl Handle {
    /// The stamp with the number of the partition of this row's key.
    pub(crate) fn stamp_at(&self, namespace: &str, row: usize, seq: u64) -> Stamp {
        format!("{namespace}@{}:{seq}", self.args.partition_of(row)).parse().expect("a stamp")
    }
}
