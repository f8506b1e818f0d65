//! Starts and kills the processes, reads meanwhile, and judges.

use std::collections::HashSet;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_cache::testing::until;
use async_cache::{MemoryBackend, RedisBackend, TieredCache};
use integration_tests::RedisServer;
use integration_tests::fleet::Cache;
use parking_lot::Mutex;
use sqlx::Pool;
use tokio::process::{Child, Command};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::crash::observer::{Heard, Observed};
use crate::crash::{Kind, LOG, Means, Report};
use crate::database::TestDatabase;
use crate::scene::{ITEMS, Scene};

/// What to do.
#[derive(Debug, Clone)]
pub struct Campaign {
    /// The program `outbox_node`.
    pub program: PathBuf,
    /// The database.
    pub kind: Kind,
    /// How it learns of invalidations.
    pub means: Means,
    /// Ends when so many transactions are committed.
    pub transactions: usize,
    /// The longest time between two kills.
    pub kill_every: Duration,
}

const WRITERS: usize = 2;
const RELAYS: usize = 2;
/// How long the outbox may take to become empty after the last kill.
const DRAIN: Duration = Duration::from_secs(60);

/// Runs a campaign.
///
/// # Panics
///
/// If a server or a process cannot be started, or the outbox does not become empty.
pub async fn run<DB: TestDatabase>(campaign: &Campaign) -> Report {
    let (begun, redis) = (Instant::now(), RedisServer::start());
    let scene = Scene::<DB>::new().await;
    scene.run("CREATE TABLE ledger (tx BIGINT PRIMARY KEY)").await;
    if campaign.means == Means::Log {
        scene.run(&format!("CREATE PUBLICATION {LOG} FOR TABLE items, ledger")).await;
        scene.run(&format!("SELECT pg_create_logical_replication_slot('{LOG}', 'pgoutput')")).await;
    }
    let (cache, heard) = observe(&redis).await;
    let mut report = Report::default();

    let lookups = Arc::new(AtomicU64::new(0));
    let mut background = JoinSet::new();
    for _ in 0..2 {
        background.spawn(look_up::<DB>(scene.pool.clone(), cache.clone(), Arc::clone(&lookups)));
    }
    let end = CancellationToken::new();
    let judge = tokio::spawn(judge::<DB>(scene.pool.clone(), Arc::clone(&heard), end.clone()));

    kill_at_random(campaign, &scene, &redis, &mut report).await;
    background.shutdown().await;
    end.cancel();
    report.early = judge.await.expect("no panic");
    report.lookups = lookups.load(Ordering::Relaxed);
    let committed = DB::numbers(&scene.pool, "SELECT tx FROM ledger".to_owned()).await.expect("the ledger");
    let committed: HashSet<i64> = committed.into_iter().collect();
    report.committed = committed.len();
    let invalidated: HashSet<i64> = {
        let mut heard = heard.lock();
        assert_eq!(heard.lost, 0, "the observer has missed messages");
        report.invalidations = heard.transactions.len();
        heard.transactions.drain(..).collect()
    };
    report.lost = committed.difference(&invalidated).copied().collect();
    report.early.extend(invalidated.difference(&committed));
    report.stale = stale::<DB>(&scene.pool, &cache).await;
    report.took = begun.elapsed();
    report
}

/// A node that notes every invalidation.
async fn observe(redis: &RedisServer) -> (Cache, Arc<Mutex<Heard>>) {
    let backend = RedisBackend::connect(redis.url()).await.expect("Redis answers");
    let (backend, heard) = Observed::new(backend);
    let builder = TieredCache::builder().namespace("rows").l1(MemoryBackend::new(10_000)).l2(backend);
    let cache: Cache = builder.build().expect("a valid cache");
    until("the observer serves", || cache.is_serving()).await;
    (cache, heard)
}

/// Fills the cache, so that a lost invalidation leaves an old version behind.
async fn look_up<DB: TestDatabase>(pool: Pool<DB>, cache: Cache, lookups: Arc<AtomicU64>) {
    loop {
        let (pool, item) = (pool.clone(), fastrand::i64(0..ITEMS));
        let load = move || async move { version::<DB>(&pool, item).await };
        if cache.get_or_load(item.to_string().as_str(), load).await.is_ok() {
            lookups.fetch_add(1, Ordering::Relaxed);
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn version<DB: TestDatabase>(pool: &Pool<DB>, item: i64) -> sqlx::Result<u64> {
    let version = DB::numbers(pool, format!("SELECT version FROM items WHERE id = {item}")).await?;
    Ok(version[0].unsigned_abs())
}

/// Asks, for each transaction whose invalidation arrives, whether it is committed. Returns those that are not.
async fn judge<DB: TestDatabase>(
    pool: Pool<DB>,
    heard: Arc<Mutex<Heard>>,
    end: CancellationToken,
) -> Vec<i64> {
    let (mut seen, mut early) = (0, Vec::new());
    while !end.is_cancelled() {
        let new: Vec<i64> = heard.lock().transactions[seen..].to_vec();
        seen += new.len();
        if new.is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
            continue;
        }
        let list: Vec<String> = new.iter().map(i64::to_string).collect();
        let sql = format!("SELECT tx FROM ledger WHERE tx IN ({})", list.join(","));
        let there: HashSet<i64> = DB::numbers(&pool, sql).await.expect("the ledger").into_iter().collect();
        early.extend(new.into_iter().filter(|tx| !there.contains(tx)));
    }
    early
}

async fn kill_at_random<DB: TestDatabase>(
    campaign: &Campaign,
    scene: &Scene<DB>,
    redis: &RedisServer,
    report: &mut Report,
) {
    let start = |role: &str| start(campaign, role, &scene.url, &redis.url());
    let mut writers: Vec<Child> = (0..WRITERS).map(|_| start("write")).collect();
    let relay = match campaign.means {
        Means::Outbox => "relay",
        Means::Log => "read",
    };
    let mut relays: Vec<Child> = (0..RELAYS).map(|_| start(relay)).collect();
    while scene.number("SELECT COUNT(*) FROM ledger").await < campaign.transactions as i64 {
        tokio::time::sleep(campaign.kill_every.mul_f64(fastrand::f64())).await;
        let (role, all, killed) = match fastrand::bool() {
            true => ("write", &mut writers, &mut report.writers_killed),
            false => (relay, &mut relays, &mut report.relays_killed),
        };
        let one = fastrand::usize(0..all.len());
        all[one].kill().await.expect("it can be killed");
        all[one] = start(role);
        *killed += 1;
    }
    for mut writer in writers {
        writer.kill().await.expect("it can be killed");
    }
    // Transactions of the killed writers end when the database notices.
    let (begun, end) = (Instant::now(), end_of_log(campaign.means, scene).await);
    while left(campaign.means, scene, end).await > 0 {
        assert!(begun.elapsed() < DRAIN, "{} invalidations are left", left(campaign.means, scene, end).await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The end of the log, when the last transaction of a writer has ended.
async fn end_of_log<DB: TestDatabase>(means: Means, scene: &Scene<DB>) -> i64 {
    if means == Means::Outbox {
        return 0;
    }
    let running = "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND backend_xid IS NOT NULL";
    while scene.number(running).await > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    scene.number("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint").await
}

/// Rows that are left in the outbox, or bytes of the log.
async fn left<DB: TestDatabase>(means: Means, scene: &Scene<DB>, end: i64) -> i64 {
    if means == Means::Outbox {
        return scene.rows().await;
    }
    let left = format!(
        "SELECT {end} - pg_wal_lsn_diff(confirmed_flush_lsn, '0/0')::bigint FROM pg_replication_slots WHERE slot_name = '{LOG}'"
    );
    scene.number(&left).await
}

fn start(campaign: &Campaign, role: &str, url: &str, redis: &str) -> Child {
    let kind = format!("{:?}", campaign.kind).to_lowercase();
    let mut command = Command::new(&campaign.program);
    let means = format!("{:?}", campaign.means).to_lowercase();
    command.args([role, "--database", &kind, "--means", &means, "--url", url, "--redis", redis]);
    // The process ends with its input, so none is left behind.
    command.stdin(Stdio::piped()).kill_on_drop(true).spawn().expect("outbox_node runs")
}

/// Items whose cached version stays behind that of the database.
async fn stale<DB: TestDatabase>(pool: &Pool<DB>, cache: &Cache) -> Vec<i64> {
    let mut stale = Vec::new();
    // What was sent before the outbox became empty arrives in a moment.
    tokio::time::sleep(Duration::from_secs(2)).await;
    for item in 0..ITEMS {
        let cached = cache.get(item.to_string().as_str()).await.expect("Redis answers");
        let now = version::<DB>(pool, item).await.expect("the database answers");
        if cached.is_some_and(|cached| *cached != now) {
            stale.push(item);
        }
    }
    stale
}
