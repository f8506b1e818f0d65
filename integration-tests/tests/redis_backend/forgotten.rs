//! A server that forgets its scripts again and again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use async_cache_core::Tags;
use async_cache_core::backend::{Acquire, Acquired, Announce, Check, Fill, Filled};
use async_cache_core::key::Key;
use async_cache_redis::RedisBackend;
use bytes::Bytes;
use integration_tests::RedisServer;

use crate::rig::{LIFE, Node, TTL, frame, key};

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

async fn patient(server: &RedisServer) -> Node {
    let builder = RedisBackend::builder().url(server.url()).command_timeout(Duration::from_secs(60));
    Node::of(builder.connect().await.unwrap()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn no_operation_fails_because_of_flushes() {
    let server = RedisServer::start();
    let node = patient(&server).await;
    let _flushes = Flushes::begin(&server);
    let keys: Vec<Key> = (0..100).map(|n| key(&format!("many {n}"))).collect();
    for turn in 0..20 {
        let k = key(&turn.to_string());
        node.store(&k, b"v").await;
        assert!(node.region.read_one(&k, Check::Valid).await.unwrap().value.is_some());
        node.region.invalidate(std::slice::from_ref(&k)).await.unwrap();
        node.region.invalidate(&keys).await.unwrap();
        node.region.invalidate_tags(0, &Tags::new(["t"]).unwrap()).await.unwrap();
        node.region.baseline(0).await.unwrap();
        node.region.heartbeat(0, turn).await.unwrap();
        let k = key(&format!("lease {turn}"));
        let lease = node.lease(&k).await;
        node.region.renew_one(&k, lease, TTL).await.unwrap();
        node.region.release_one(&k, lease).await.unwrap();
        node.region.clear(0).await.unwrap();
    }
}

/// 1. The first fills of a batch find their script forgotten.
/// 2. Another node loads it, and the other fills of the batch are executed.
/// 3. Their leases are gone, so they would be refused if they were sent again.
#[tokio::test(flavor = "multi_thread")]
async fn every_fill_of_a_batch_is_executed_once() {
    let server = RedisServer::start();
    let nodes = [patient(&server).await, patient(&server).await];
    let _flushes = Flushes::begin(&server);
    let fill_batches = async |name: usize| {
        let node = &nodes[name];
        for turn in 0..20 {
            let asks: Vec<(Key, Acquire)> =
                (0..100).map(|n| (key(&format!("{name} {turn} {n}")), node.ask())).collect();
            let fills: Vec<Fill> = std::iter::zip(&asks, node.region.acquire(&asks).await)
                .map(|((key, _), granted)| {
                    let Ok(Acquired::Granted(lease)) = granted else { panic!("not granted: {granted:?}") };
                    // The server reads a batch of these in many parts, and serves others in between.
                    let frame: Bytes = frame(lease.token, &[b'v'; 4096]);
                    Fill { key: key.clone(), lease, frame, life: LIFE, announce: Announce::No }
                })
                .collect();
            for filled in node.region.fill(&fills).await {
                assert!(matches!(filled, Ok(Filled::Stored { .. })), "{filled:?}");
            }
        }
    };
    tokio::join!(fill_batches(0), fill_batches(1));
}
