//! A change that has begun is made, whatever becomes of the task, the runtime or the value that it meets.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Waker};
use std::time::Duration;

use async_cache::{MemoryBackend, TieredCache};
use serde::{Deserialize, Serialize};
use tokio::time::{sleep, timeout};

/// A value whose `Drop` panics, once for each time it is armed.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Fragile {
    #[serde(skip)]
    armed: Option<Arc<AtomicBool>>,
}

impl Drop for Fragile {
    fn drop(&mut self) {
        if self.armed.as_ref().is_some_and(|armed| armed.swap(false, Ordering::SeqCst)) {
            panic!("a Drop that panics");
        }
    }
}

fn nodes<V>() -> [TieredCache<u64, V>; 2]
where
    V: Serialize + for<'de> Deserialize<'de> + Send + Sync + 'static,
{
    let l2 = MemoryBackend::new(1_000);
    [0, 1].map(|_| {
        let builder = TieredCache::builder().namespace("intents").l1(MemoryBackend::new(1_000));
        builder.l2(l2.clone()).build().unwrap()
    })
}

/// Until nothing is pending at a node, and another reads nothing any more.
async fn lands<V: Send + Sync + 'static>([here, there]: &[TieredCache<u64, V>; 2], key: u64) {
    let landed = async {
        while here.stats().pending_invalidations > 0 || there.get(&key).await.unwrap().is_some() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(30), landed).await.expect("the invalidation lands");
}

#[derive(Clone, Copy)]
enum Verb {
    Key,
    Many,
    Tag,
    All,
}

#[test]
fn a_change_whose_runtime_ends_is_made_all_the_same() {
    let healthy = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    for verb in [Verb::Key, Verb::Many, Verb::Tag, Verb::All] {
        let nodes = healthy.block_on(async {
            let nodes = nodes::<u64>();
            nodes[0].insert(&1, 1).tag("t").await.unwrap();
            assert!(nodes[1].get(&1).await.unwrap().is_some());
            nodes
        });
        let ends = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let inside = ends.enter();
        let here = nodes[0].clone();
        let mut change = pin!(async move {
            match verb {
                Verb::Key => here.invalidate(&1).await,
                Verb::Many => here.invalidate_many([&1]).await,
                Verb::Tag => here.invalidate_tag("t").await,
                Verb::All => here.invalidate_all().await,
            }
        });
        assert!(change.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        drop(inside);
        drop(ends);
        healthy.block_on(lands(&nodes, 1));
    }
}

#[tokio::test]
async fn a_drop_that_panics_loses_no_invalidation() {
    // Where in the work the panic comes is a matter of which copy of the value is dropped last.
    for held in [false, true] {
        let nodes = nodes::<Fragile>();
        let armed = Arc::new(AtomicBool::new(false));
        let loads = Arc::new(AtomicUsize::new(0));
        let (flag, count) = (Arc::clone(&armed), Arc::clone(&loads));
        let load = move || async move {
            count.fetch_add(1, Ordering::SeqCst);
            Ok::<_, std::io::Error>(Fragile { armed: Some(flag) })
        };
        let value = nodes[0].get_or_load(&1, load).await.unwrap();
        assert!(nodes[1].get(&1).await.unwrap().is_some());
        let kept = held.then_some(value);
        armed.store(true, Ordering::SeqCst);
        let here = nodes[0].clone();
        let outcome = tokio::spawn(async move { here.invalidate(&1).await }).await;
        assert!(held || outcome.is_err() || outcome.unwrap().is_err(), "the panic was met");
        armed.store(false, Ordering::SeqCst);
        drop(kept);
        lands(&nodes, 1).await;
        // The node goes on: its background work has not ended.
        nodes[0].insert(&2, Fragile::default()).await.unwrap();
        nodes[0].invalidate(&2).await.unwrap();
        lands(&nodes, 2).await;
        assert_eq!(loads.load(Ordering::SeqCst), 1);
    }
}

/// Values that are still to panic when they are dropped, whoever holds them.
static BRITTLE: AtomicUsize = AtomicUsize::new(0);

#[derive(Debug, Serialize, Deserialize)]
struct Brittle;

impl Drop for Brittle {
    fn drop(&mut self) {
        let less = |left: usize| left.checked_sub(1);
        if BRITTLE.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).is_ok() {
            panic!("a Drop that panics");
        }
    }
}

/// In one process, too.
#[tokio::test]
async fn a_drop_that_panics_on_other_nodes_is_not_met_by_who_makes_the_change() {
    let l2 = MemoryBackend::new(1_000);
    let builder = || TieredCache::<u64, Brittle>::builder().namespace("brittle").l2(l2.clone());
    let nodes = [(); 3].map(|()| builder().l1(MemoryBackend::new(1_000)).build().unwrap());
    nodes[0].insert(&1, Brittle).await.unwrap();
    for node in &nodes {
        node.ready().await.unwrap();
        assert!(node.get(&1).await.unwrap().is_some());
    }
    let without_l1 = builder().build().unwrap();
    BRITTLE.store(2, Ordering::SeqCst);
    without_l1.invalidate(&1).await.unwrap();
    assert_eq!(BRITTLE.load(Ordering::SeqCst), 0, "two of three have panicked");
    for node in &nodes {
        assert!(node.get(&1).await.unwrap().is_none());
    }
}
