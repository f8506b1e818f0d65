//! The first operation on a namespace visits partition 0, and the others wait for that visit.

use std::sync::{Arc, mpsc};
use std::time::Duration;

use async_cache_core::ErrorKind;
use async_cache_redis::RedisBackend;
use futures_util::poll;
use integration_tests::cluster::RedisCluster;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::rig::{Node, RECORD};

/// Longer than a busy machine takes, and much longer than the deadline of the operation.
const LONG: Duration = Duration::from_secs(30);

/// The runtime of the caller who began the visit still exists, and nothing runs it any more.
#[tokio::test(flavor = "multi_thread")]
async fn a_visit_does_not_need_the_runtime_of_its_first_caller() {
    let cluster = RedisCluster::start(3);
    let backend = RedisBackend::builder().cluster(cluster.urls()).connect().await.unwrap();
    let node = Node::unsubscribed(backend, "ns", RECORD);
    let visited = cluster.owner_of(cluster.slot_of("{ns:0}M")).unwrap();
    cluster.node(visited).pause();

    let (begun, has_begun) = oneshot::channel();
    let (stop, stopped) = oneshot::channel::<()>();
    let (end, ended) = mpsc::channel::<()>();
    let region = Arc::clone(&node.region);
    let first = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut call = Box::pin(region.baseline(1, None));
            assert!(poll!(&mut call).is_pending());
            begun.send(()).unwrap();
            tokio::select! {
                _ = call => panic!("the server answers nothing"),
                _ = stopped => {}
            }
        });
        // The runtime exists until here.
        let _ = ended.recv();
    });
    has_begun.await.unwrap();
    let mut second = Box::pin(node.region.baseline(2, None));
    assert!(poll!(&mut second).is_pending(), "it waits for the same visit");
    stop.send(()).unwrap();
    let outcome = timeout(LONG, second).await.expect("the operation ends within its deadline");
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Backend);
    cluster.node(visited).resume();
    drop(end);
    first.join().unwrap();
    node.region.baseline(2, None).await.expect("the next operation makes the visit");
}
