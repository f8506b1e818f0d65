//! A server that forgets its scripts again and again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use async_cache_core::Tags;
use async_cache_core::backend::{Acquire, Acquired, Announce, Check, Fill, Filled};
use async_cache_core::key::Key;
use bytes::Bytes;
use integration_tests::RedisServer;

use crate::rig::{LIFE, Node, TTL, frame, key, patient};

/// Sends SCRIPT FLUSH without pause, until it is dropped.
struct Flushes {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Flushes {
    fn begin(server: &RedisServer) -> Self {
        let mut connection = server.connection().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                redis::cmd("SCRIPT").arg("FLUSH").exec(&mut connection).unwrap();
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Flushes {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        drop(self.thread.take().map(JoinHandle::join));
    }
}

async fn node(url: String) -> Node {
    let builder = patient(url).command_timeout(Duration::from_secs(60));
    Node::of(builder.connect().await.unwrap()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn no_operation_fails_because_of_flushes() {
    let server = RedisServer::start();
    operate_under_flushes(&server, node(server.url()).await).await;
}

/// The scripts are loaded again and again, and small calls follow them in what the server reads at once.
#[tokio::test(flavor = "multi_thread")]
async fn no_small_operation_fails_for_a_user_without_eval() {
    let server = RedisServer::start();
    server.set_user("app", "~* &* +@all -eval");
    operate_under_flushes(&server, node(server.url_as("app")).await).await;
}

async fn operate_under_flushes(server: &RedisServer, node: Node) {
    let _flushes = Flushes::begin(server);
    let keys: Vec<Key> = (0..100).map(|n| key(&format!("many {n}"))).collect();
    for turn in 0..20 {
        let k = key(&turn.to_string());
        node.store(&k, b"v").await;
        assert!(node.region.read_one(&k, Check::Valid).await.unwrap().value.is_some());
        node.region.invalidate(std::slice::from_ref(&k)).await.unwrap();
        node.region.invalidate(&keys).await.unwrap();
        node.region.invalidate_tags(0, &Tags::new(["t"]).unwrap()).await.unwrap();
        node.region.baseline(0, None).await.unwrap();
        node.region.heartbeat(0, turn).await.unwrap();
        let k = key(&format!("lease {turn}"));
        let lease = node.lease(&k).await;
        node.region.renew_one(&k, lease, TTL).await.unwrap();
        node.region.release_one(&k, lease).await.unwrap();
        node.region.clear(0).await.unwrap();
    }
}

/// Two nodes fill batches of `len` values at once, each with leases of its own.
async fn fill_batches(len: usize, bytes: usize, turns: usize) {
    let server = RedisServer::start();
    let nodes = [node(server.url()).await, node(server.url()).await];
    let _flushes = Flushes::begin(&server);
    let fill_all = async |name: usize| {
        let node = &nodes[name];
        for turn in 0..turns {
            // The lease outlasts the batch on a busy machine, too.
            let ask = || Acquire { ttl: LIFE, ..node.ask() };
            let asks: Vec<(Key, Acquire)> =
                (0..len).map(|n| (key(&format!("{name} {turn} {n}")), ask())).collect();
            let fills: Vec<Fill> = std::iter::zip(&asks, node.region.acquire(&asks).await)
                .map(|((key, _), granted)| {
                    let Ok(Acquired::Granted(lease)) = granted else { panic!("not granted: {granted:?}") };
                    let frame: Bytes = frame(lease.token, &vec![b'v'; bytes]);
                    Fill { key: key.clone(), lease, frame, life: LIFE, announce: Announce::No }
                })
                .collect();
            for filled in node.region.fill(&fills).await {
                assert!(matches!(filled, Ok(Filled::Stored { .. })), "{filled:?}");
            }
        }
    };
    tokio::join!(fill_all(0), fill_all(1));
}

/// 1. The first fills of a batch find their script forgotten.
/// 2. Another node loads it, and the other fills of the batch are executed.
/// 3. Their leases are gone, so they would be refused if they were sent again.
#[tokio::test(flavor = "multi_thread")]
async fn every_fill_of_a_batch_is_executed_once() {
    // The server reads a batch of these in many parts, and serves others in between.
    fill_batches(100, 4096, 20).await;
}

/// The server reads a value in many parts. So the script that was loaded before the value is forgotten again when the
/// last part has come.
#[tokio::test(flavor = "multi_thread")]
async fn a_value_of_many_parts_is_stored() {
    fill_batches(1, 1 << 20, 20).await;
    fill_batches(4, 1 << 18, 10).await;
}
