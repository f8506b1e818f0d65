//! Batches on several nodes: each calls its loader once, and every key is loaded once.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_cache::testing::{No, Source, ms, until};
use async_cache::{Error, ErrorKind};
use integration_tests::fleet::{Cache, Fleet};
use integration_tests::on_both_tiers;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

/// The keys of each call of the loader. Loaders wait for `go`.
#[derive(Clone)]
struct Rows {
    calls: Arc<Mutex<Vec<Vec<String>>>>,
    go: Arc<Semaphore>,
}

impl Rows {
    fn held() -> Self {
        Self { calls: Arc::default(), go: Arc::new(Semaphore::new(0)) }
    }

    fn open() -> Self {
        let rows = Self::held();
        rows.let_go(1_000_000);
        rows
    }

    fn let_go(&self, loads: usize) {
        self.go.add_permits(loads);
    }

    fn calls(&self) -> Vec<Vec<String>> {
        self.calls.lock().clone()
    }

    fn loaded(&self) -> Vec<String> {
        let mut keys = self.calls().concat();
        keys.sort();
        keys
    }

    /// The value of a key is its length.
    async fn load(self, keys: Vec<String>) -> Result<HashMap<String, u64>, No> {
        self.calls.lock().push(keys.clone());
        self.go.acquire().await.expect("never closed").forget();
        Ok(keys.into_iter().map(|key| (key.clone(), key.len() as u64)).collect())
    }
}

fn keys(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|n| format!("k{n}")).collect()
}

async fn ask(node: &Cache, rows: &Rows, keys: &[String]) -> Result<Vec<u64>, Error> {
    let rows = rows.clone();
    let found = node.get_many_or_load(keys, |missing| rows.load(missing)).await?;
    Ok(found.into_iter().map(|value| *value.expect("every key has a row")).collect())
}

fn spawn(node: &Cache, rows: &Rows, keys: Vec<String>) -> tokio::task::JoinHandle<Result<Vec<u64>, Error>> {
    let (node, rows) = (node.clone(), rows.clone());
    tokio::spawn(async move { ask(&node, &rows, &keys).await })
}

/// The keys that one node has loaded are available on every other node.
async fn what_one_node_loads_all_have(fleet: Fleet) {
    let (one, two) = (fleet.node().await, fleet.node().await);
    let rows = Rows::open();
    one.insert("k3", 33).await.unwrap();
    let found = ask(&one, &rows, &keys(0..20)).await.unwrap();
    assert_eq!((found[3], found[12]), (33, 3));
    assert_eq!((rows.calls().len(), rows.loaded().len()), (1, 19));
    assert_eq!(ask(&two, &rows, &keys(0..20)).await.unwrap(), found);
    assert_eq!(rows.calls().len(), 1);
    assert_eq!((two.stats().l2_hits, two.stats().loads), (20, 0));
    for node in [&one, &two] {
        let hits = node.stats().l1_hits;
        assert_eq!(ask(node, &rows, &keys(0..20)).await.unwrap(), found);
        assert_eq!(node.stats().l1_hits, hits + 20, "from L1");
    }
}

/// Each batch waits for keys that the other loads. Neither waits for ever, and no key is loaded twice.
async fn batches_that_overlap_wait_for_each_other(fleet: Fleet) {
    let (one, two) = (fleet.node().await, fleet.node().await);
    let (here, there) = (Rows::held(), Rows::held());
    let first = spawn(&one, &here, keys(0..60));
    until("the first loads", || here.calls().len() == 1).await;
    let second = spawn(&two, &there, keys(40..100));
    until("the second loads the rest", || there.calls().len() == 1).await;
    assert_eq!((here.loaded().len(), there.loaded().len()), (60, 40));
    let third = spawn(&one, &here, keys(50..100));
    until("the third waits for both", || one.stats().lease_waits == 40).await;
    there.let_go(1);
    here.let_go(1);
    for (batch, len) in [(first, 60), (second, 60), (third, 50)] {
        let found = tokio::time::timeout(Duration::from_secs(10), batch).await.expect("nobody hangs");
        assert_eq!(found.unwrap().unwrap().len(), len);
    }
    assert_eq!((here.calls().len(), there.calls().len()), (1, 1));
    for node in [&one, &two] {
        until("nothing is left behind", || node.is_idle()).await;
    }
}

/// Batches that waited for a failed batch load its keys, with one call and not one for each key.
async fn a_batch_that_fails_elsewhere_is_made_up_for_by_one_call(fleet: Fleet) {
    let (one, two) = (fleet.node().await, fleet.node().await);
    let (rows, failed, go) = (Rows::open(), Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
    let fails = tokio::spawn({
        let (one, failed, go) = (one.clone(), Arc::clone(&failed), Arc::clone(&go));
        async move {
            let load = move |_: Vec<String>| async move {
                failed.fetch_add(1, Ordering::SeqCst);
                go.acquire().await.expect("never closed").forget();
                Err::<HashMap<String, u64>, No>(No(1))
            };
            one.get_many_or_load(&keys(0..50), load).await
        }
    });
    until("the first loads", || failed.load(Ordering::SeqCst) == 1).await;
    let second = spawn(&two, &rows, keys(0..50));
    until("the second waits for it", || two.stats().lease_waits == 50).await;
    assert!(rows.calls().is_empty());
    go.add_permits(1);
    assert_eq!(fails.await.unwrap().unwrap_err().kind(), ErrorKind::Loader);
    assert_eq!(second.await.unwrap().unwrap().len(), 50);
    assert_eq!(rows.loaded().len(), 50);
    // On a busy machine the wake-ups are spread out, and a second call may be needed.
    assert!(rows.calls().len() <= 3, "{} calls for 50 keys", rows.calls().len());
}

/// The row changes after a batch has read the old value. Callers that ask after the change do not get it.
async fn an_invalidation_meets_a_batch(fleet: Fleet) {
    let (one, two) = (fleet.node().await, fleet.node().await);
    let source = Source::new();
    let old = tokio::spawn({
        let (one, source) = (one.clone(), source.clone());
        async move {
            let load = |missing: Vec<String>| async move {
                let version = source.held().await?;
                Ok::<HashMap<String, u64>, No>(missing.into_iter().map(|key| (key, version)).collect())
            };
            one.get_many_or_load(&keys(0..10), load).await
        }
    });
    source.begun(1).await;
    source.write();
    let stamp = two.invalidate("k4").await.unwrap();
    for node in [&one, &two] {
        let load = source.clone();
        let load = |missing: Vec<String>| async move {
            assert_eq!(missing, ["k4"], "the others are waited for");
            let version = load.now().await?;
            Ok::<HashMap<String, u64>, No>(HashMap::from([("k4".to_owned(), version)]))
        };
        let found = node.get_many_or_load(["k4"], load).at_least(&stamp).await.unwrap();
        assert_eq!(found[0].as_deref(), Some(&2));
    }
    source.let_go(1);
    for value in old.await.unwrap().unwrap() {
        assert_eq!(value.as_deref(), Some(&1), "those who asked before may have the old row");
    }
    for node in [&one, &two, &fleet.node().await] {
        let found = node.get_many(keys(0..10).iter()).await.unwrap();
        let found: Vec<u64> = found.into_iter().map(|value| *value.expect("loaded")).collect();
        assert_eq!(found, [1, 1, 1, 1, 2, 1, 1, 1, 1, 1], "the old row of k4 must not be stored");
    }
}

/// A load takes longer than the duration of its leases. All of them are renewed.
async fn leases_live_as_long_as_the_batch(fleet: Fleet) {
    let short = |node: &Cache, rows: &Rows| {
        let (node, rows) = (node.clone(), rows.clone());
        tokio::spawn(async move {
            node.get_many_or_load(&keys(0..40), |missing| rows.load(missing)).lease_ttl(ms(300)).await
        })
    };
    let (one, two) = (fleet.node().await, fleet.node().await);
    let (here, there) = (Rows::held(), Rows::open());
    let first = short(&one, &here);
    until("the first loads", || here.calls().len() == 1).await;
    let second = short(&two, &there);
    tokio::time::sleep(ms(1000)).await;
    assert!(there.calls().is_empty(), "a lease lapsed under its load");
    here.let_go(1);
    assert_eq!(first.await.unwrap().unwrap().len(), 40);
    assert_eq!(second.await.unwrap().unwrap().len(), 40);
    assert!(there.calls().is_empty());
}

/// A node that shuts down during a batch releases its leases.
async fn a_node_that_shuts_down_gives_its_leases_back(fleet: Fleet) {
    let (one, two) = (fleet.node().await, fleet.node().await);
    let (here, there) = (Rows::held(), Rows::open());
    let first = spawn(&one, &here, keys(0..30));
    until("the first loads", || here.calls().len() == 1).await;
    let begun = std::time::Instant::now();
    one.shutdown().await;
    assert_eq!(first.await.unwrap().unwrap_err().kind(), ErrorKind::Shutdown);
    assert_eq!(ask(&two, &there, &keys(0..30)).await.unwrap().len(), 30);
    assert!(begun.elapsed() < Duration::from_secs(2), "waited for leases to lapse: {:?}", begun.elapsed());
}

on_both_tiers! {
    what_one_node_loads_all_have,
    batches_that_overlap_wait_for_each_other,
    a_batch_that_fails_elsewhere_is_made_up_for_by_one_call,
    an_invalidation_meets_a_batch,
    leases_live_as_long_as_the_batch,
    a_node_that_shuts_down_gives_its_leases_back,
}

fn reads_of_sockets(fleet: &Fleet) -> u64 {
    let info: String = fleet.server().cli(&["INFO", "stats"]);
    let line = info.lines().find_map(|line| line.strip_prefix("total_reads_processed:"));
    line.expect("Redis 6 or later").trim().parse().expect("a number")
}

/// The cost of 500 cold keys in Redis: one MGET, and two scripts for each key in two pipelines.
#[tokio::test]
async fn a_cold_batch_is_a_read_and_two_pipelines() {
    let fleet = Fleet::redis();
    // Without heartbeats, which would be counted.
    let quiet = |builder: async_cache::TieredCacheBuilder<String, u64>| {
        builder.max_staleness(Duration::from_secs(600)).heartbeat(Duration::from_secs(300))
    };
    let node = fleet.node_with(quiet).await;
    let rows = Rows::open();
    let monitor = fleet.server().monitor();
    let before = reads_of_sockets(&fleet);
    ask(&node, &rows, &keys(0..500)).await.unwrap();
    let reads = reads_of_sockets(&fleet) - before;
    let commands = monitor.commands();
    // A second connection that is made meanwhile checks its rights, on a key outside the namespace.
    let rows_alone: Vec<&String> = commands.iter().filter(|command| command.contains("{rows:")).collect();
    let count =
        |name: &str| rows_alone.iter().filter(|command| command.starts_with(&format!("\"{name}\""))).count();
    let scripts =
        commands.iter().filter(|c| c.starts_with("\"EVALSHA\"") && c.contains("{rows:0}V:k")).count();
    println!("500 cold keys: {} MGET, {scripts} scripts, {reads} reads of a socket", count("MGET"));
    assert_eq!((count("MGET"), count("GET"), scripts), (1, 0, 1000));
    assert!(reads < 150, "{reads} reads of a socket: they were not sent in pipelines");

    let monitor = fleet.server().monitor();
    ask(&node, &rows, &keys(0..500)).await.unwrap();
    let concerned = monitor.commands().iter().filter(|command| command.contains("{rows:0}V:k")).count();
    assert_eq!(concerned, 0, "from L1");
}
