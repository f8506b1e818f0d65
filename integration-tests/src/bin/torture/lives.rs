//! The traffic on keys without changes: their values expire, and their loads are counted.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_cache::{DataLoader, Error};
use fastrand::Rng;
use tokio::time::sleep;

use crate::judge::{Allowed, Answer, by_itself};
use crate::ledger::{Count, Global, KEYS, LIVES, STORMS_AT, now};
use crate::load::Load;
use crate::mutant::{Mutants, Planted};
use crate::node::Handle;
use crate::promise::What;
use crate::read::{count_error, in_time};
use crate::row::Claim;
use crate::value::{Expiry, Value};

/// The number of concurrent calls on one cold key.
const HERD: usize = 24;
/// The mean pause between two calls of a task.
const PAUSE_S: f64 = 0.004;

/// The options with which the values of a key are stored and read. They depend on the key, so that the whole
/// fleet uses the same ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    /// A stale value answers when a load fails.
    Fallback,
    /// L1 often asks L2, and a stale value answers at once.
    Revalidated,
    ShortInL1,
    /// A stale value answers when a load is slow.
    Impatient,
    /// The loader may find nothing.
    Optional,
    /// The value is loaded before it expires.
    Ahead,
    /// The key is sometimes invalidated, and then many tasks ask for it at once.
    Herd,
}

impl Kind {
    fn of(key: usize) -> Self {
        const ALL: [Kind; 8] = [
            Kind::Plain,
            Kind::Fallback,
            Kind::Revalidated,
            Kind::ShortInL1,
            Kind::Impatient,
            Kind::Optional,
            Kind::Ahead,
            Kind::Herd,
        ];
        ALL[key % ALL.len()]
    }

    fn allows(self) -> Allowed {
        match self {
            Self::Fallback | Self::Revalidated | Self::Impatient => Allowed::Stale,
            _ => Allowed::Fresh,
        }
    }
}

/// The keys that a batch leaves out: those with this remainder.
const LEFT_OUT: u64 = 5;

/// The life of the values of a key.
pub(crate) fn life_of(key: usize) -> Expiry {
    let ms = Duration::from_millis;
    if key >= STORMS_AT {
        return Expiry { ttl: ms(60_000), stale_for: Duration::ZERO };
    }
    let (ttl, stale_for) = match Kind::of(key) {
        Kind::Plain => (2000, 0),
        Kind::Fallback => (1000, 2000),
        Kind::Revalidated => (3000, 3000),
        Kind::ShortInL1 => (3000, 0),
        Kind::Impatient => (1000, 1000),
        Kind::Optional | Kind::Herd => (5000, 0),
        Kind::Ahead => (2500, 0),
    };
    Expiry { ttl: ms(ttl), stale_for: ms(stale_for) }
}

/// The first calls of a node. They ask for all keys at once, before the node has received any message.
pub(crate) async fn at_birth(handle: Arc<Handle>, seed: u64) {
    let mut rng = Rng::with_seed(seed);
    let mut tasks = tokio::task::JoinSet::new();
    for key in KEYS..KEYS + LIVES {
        let (handle, mut rng) = (Arc::clone(&handle), rng.fork());
        tasks.spawn(async move { get_or_load(&handle, key, &mut rng).await });
    }
    while tasks.join_next().await.is_some() {}
}

/// Makes calls until the traffic ends.
pub(crate) async fn calls(handle: Arc<Handle>, seed: u64) {
    let mut rng = Rng::with_seed(seed);
    while !handle.rests() {
        plant(&handle, &mut rng).await;
        sleep(Duration::from_secs_f64(-(1.0 - rng.f64()).ln() * PAUSE_S)).await;
        let key = KEYS + rng.usize(..LIVES);
        match rng.u32(..1000) {
            0..100 => get(&handle, key).await,
            100..150 => many(&handle, &mut rng).await,
            150..200 => batched(&handle, &mut rng).await,
            200..204 => refresh(&handle, key, &mut rng).await,
            204..214 => herd(&handle, herd_key(&mut rng), &mut rng).await,
            214..220 => insert(&handle, key, &mut rng).await,
            _ => get_or_load(&handle, key, &mut rng).await,
        }
    }
}

/// Draws a key of the kind `Herd`.
pub(crate) fn herd_key(rng: &mut Rng) -> usize {
    KEYS + rng.usize(..LIVES / 8) * 8 + 7
}

/// Draws a key that is never changed.
pub(crate) fn calm_key(rng: &mut Rng) -> usize {
    KEYS + rng.usize(..LIVES / 8) * 8 + 3
}

fn end(handle: &Handle, key: usize, started: u64, outcome: Option<Result<Option<Arc<Value>>, Error>>) {
    ended(handle, key, started, (outcome, Kind::of(key).allows()));
}

type Ended = (Option<Result<Option<Arc<Value>>, Error>>, Allowed);

fn ended(handle: &Handle, key: usize, started: u64, (outcome, allowed): Ended) {
    match outcome {
        None => {}
        Some(Err(error)) => count_error(handle, &error),
        Some(Ok(value)) => {
            handle.ledger.add(handle.index, Count::Reads, 1);
            if let Some(value) = value {
                by_itself(handle, Answer { key, started, value: &value, allowed });
                handle.by_version(key, started, value.version, (0, Claim::Bound));
            }
        }
    }
}

async fn get(handle: &Handle, key: usize) {
    let started = now();
    let outcome = in_time(handle, key, "get", async { handle.lives.get(&(key as u64)).await }).await;
    // A lookup without a loader accepts no stale value.
    ended(handle, key, started, (outcome, Allowed::Fresh));
}

async fn get_or_load(handle: &Handle, key: usize, rng: &mut Rng) {
    let stale_for = life_of(key).stale_for;
    let load = Load::draw(handle, key, life_of(key), rng);
    let (id, cache, started) = (&(key as u64), &handle.lives, now());
    let again = load.clone();
    let plain = move || cache.get_or_load(id, move || again.run());
    let request = async {
        match Kind::of(key) {
            Kind::Optional => {
                let finds = *id % 16 == LEFT_OUT || started % 2 == 0;
                return cache
                    .get_or_load_optional(id, move || load.run_optional(finds))
                    .negative_ttl(Duration::from_millis(500))
                    .await;
            }
            Kind::Revalidated => {
                plain()
                    .stale_for(stale_for)
                    .l1_ttl(Duration::from_millis(200))
                    .stale_while_revalidate(true)
                    .await
            }
            Kind::ShortInL1 => plain().l1_ttl(Duration::from_millis(300)).await,
            Kind::Impatient => plain().stale_for(stale_for).soft_timeout(Duration::from_millis(20)).await,
            Kind::Ahead => cache.get_or_load(id, move || load.anyhow().run()).refresh_ahead(1.0).await,
            Kind::Plain | Kind::Fallback | Kind::Herd => plain().await,
        }
        .map(Some)
    };
    let outcome = in_time(handle, key, "get_or_load", request).await;
    end(handle, key, started, outcome);
}

async fn many(handle: &Handle, rng: &mut Rng) {
    let keys: Vec<u64> = (0..rng.usize(2..20)).map(|_| (KEYS + rng.usize(..LIVES)) as u64).collect();
    let first = keys[0] as usize;
    let load = Load::draw(handle, first, life_of(first), rng);
    let started = now();
    let request = async {
        let load = move |missing: Vec<u64>| load.run_many(missing, LEFT_OUT);
        handle.lives.get_many_or_load(&keys, load).await
    };
    match in_time(handle, first, "get_many_or_load", request).await {
        None => {}
        Some(Err(error)) => count_error(handle, &error),
        Some(Ok(answers)) => {
            for (key, answer) in keys.iter().zip(answers) {
                end(handle, *key as usize, started, Some(Ok(answer)));
            }
        }
    }
}

/// Loads through its own `DataLoader`, which lives as long as one request.
async fn batched(handle: &Handle, rng: &mut Rng) {
    let keys: Vec<u64> = (0..rng.usize(1..6)).map(|_| (KEYS + rng.usize(..LIVES)) as u64).collect();
    let first = keys[0] as usize;
    let batch = Load::draw(handle, first, life_of(first), rng).takes(Duration::from_millis(3));
    let loader: DataLoader<u64, Value> =
        handle.lives.data_loader(move |keys: Vec<u64>| batch.clone().run_many(keys, LEFT_OUT)).build();
    let started = now();
    let outcome = in_time(handle, first, "DataLoader::load_many", loader.load_many(keys.clone())).await;
    for (key, answer) in keys.into_iter().zip(outcome.into_iter().flatten()) {
        end(handle, key as usize, started, Some(answer));
    }
}

async fn refresh(handle: &Handle, key: usize, rng: &mut Rng) {
    let load = Load::draw(handle, key, life_of(key), rng).anyhow();
    handle.touch(key);
    let started = now();
    let request = async { handle.lives.refresh(&(key as u64), move || load.run()).await.map(Some) };
    let outcome = in_time(handle, key, "refresh", request).await;
    handle.touch(key);
    end(handle, key, started, outcome);
}

/// Inserts a value. Only one handle inserts into a key, so that the order in Redis is the order of the commits.
async fn insert(handle: &Handle, key: usize, rng: &mut Rng) {
    let fleet = handle.args.fleet;
    if Kind::of(key) != Kind::Plain || handle.index >= fleet || handle.newborn() {
        return;
    }
    let key = KEYS + (handle.index % (LIVES / 8)) * 8;
    // One task of the handle inserts at a time. A task does nothing if another one inserts.
    let Ok(_alone) = handle.inserting.try_lock() else { return };
    handle.touch(key);
    let version = handle.ledger.row(key).committed().fetch_add(1, Ordering::SeqCst) + 1;
    handle.ledger.note(key, handle.index, What::Commits, version);
    let (id, life) = (key as u64, life_of(key));
    let insert = handle.lives.insert(&id, Value::new(key, version, life));
    let request = async { insert.ttl(life.ttl).await };
    let outcome = in_time(handle, key, "insert", request).await;
    handle.touch(key);
    match outcome {
        None => {}
        Some(Ok(_)) => handle.ledger.row(key).returned(version, now(), 0),
        Some(Err(error)) => count_error(handle, &error),
    }
    let _ = rng;
}

/// Invalidates a key, and asks for it from many tasks at once. In some runs the first loader finds nothing.
async fn herd(handle: &Arc<Handle>, key: usize, rng: &mut Rng) {
    handle.touch(key);
    let id = key as u64;
    let version = handle.ledger.row(key).committed().fetch_add(1, Ordering::SeqCst) + 1;
    handle.ledger.note(key, handle.index, What::Commits, version);
    let outcome = in_time(handle, key, "invalidate", async { handle.lives.invalidate(&id).await }).await;
    handle.touch(key);
    match outcome {
        None => return,
        Some(Err(error)) => return count_error(handle, &error),
        Some(Ok(_)) => handle.ledger.row(key).returned(version, now(), 0),
    }
    let mut tasks = tokio::task::JoinSet::new();
    let first_finds = rng.bool();
    for at in 0..HERD {
        let takes = Duration::from_millis(rng.u64(5..40));
        let load = Load::draw(handle, key, life_of(key), rng).takes(takes);
        let handle = Arc::clone(handle);
        tasks.spawn(async move {
            let (cache, started) = (&handle.lives, now());
            let request = async {
                if at == 0 && !first_finds {
                    let finds = move || load.run_optional(false);
                    return cache
                        .get_or_load_optional(&id, finds)
                        .negative_ttl(Duration::from_millis(1))
                        .await;
                }
                cache.get_or_load(&id, move || load.run()).await.map(Some)
            };
            let outcome = in_time(&handle, key, "get_or_load", request).await;
            end(&handle, key, started, outcome);
        });
    }
    while tasks.join_next().await.is_some() {}
}

impl Handle {
    /// Whether the traffic must end.
    pub(crate) fn rests(&self) -> bool {
        self.ledger.global(Global::Resting).load(Ordering::Acquire) > 0
    }

    /// Notes that the present action may cause more loads of a key.
    pub(crate) fn touch(&self, key: usize) {
        self.ledger.row(key).touched_at().fetch_max(now(), Ordering::AcqRel);
    }
}

/// Plants the faults of the checker's own mutants.
async fn plant(handle: &Handle, rng: &mut Rng) {
    let mutants = &handle.args.mutant;
    if mutants.is_empty() || rng.u8(..50) > 0 {
        return;
    }
    if mutants.has(Planted::EndlessCall) {
        in_time(handle, KEYS, "an endless call", std::future::pending::<()>()).await;
    }
    if mutants.has(Planted::TaskLeftBehind) {
        (0..20).for_each(|_| drop(tokio::spawn(std::future::pending::<()>())));
    }
    if mutants.has(Planted::KeyLeftBehind)
        && let Ok(client) = redis::Client::open(handle.args.servers[0].as_str())
        && let Ok(mut connection) = client.get_multiplexed_async_connection().await
    {
        let mut set = redis::cmd("SET");
        set.arg(format!("left behind {}", rng.u8(..))).arg(1);
        let _: redis::RedisResult<()> = set.query_async(&mut connection).await;
    }
    if mutants.has(Planted::LoadBesideTheCache) {
        let key = calm_key(rng);
        let _ = Load::draw(handle, key, life_of(key), rng).run().await;
    }
}
