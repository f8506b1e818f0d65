//! The faults that alerts are about, each in a namespace of its own on real Redis.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_cache::testing::{Mutant, No, ms, until};
use async_cache::{Json, Loaded, MemoryBackend, RedisBackend, TieredCache, TieredCacheBuilder, Verify};
use integration_tests::fleet::{Cache, Fleet};
use integration_tests::{Conditions, Flow, Proxy, RedisServer, Route};
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use tokio::time::sleep;

/// What must live for the faults to last.
pub(crate) struct Faults {
    _proxies: Vec<Arc<Proxy>>,
    _tasks: JoinSet<()>,
    _fleet: Arc<Fleet>,
}

/// A type that the default codec refuses.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Odd {
    Number(u64),
}

/// Causes all faults. They last until the result is dropped.
pub(crate) async fn all() -> Faults {
    let fleet = Arc::new(Fleet::on(Arc::new(RedisServer::start())));
    let mut tasks = JoinSet::new();
    let mut proxies = Vec::new();
    let node =
        async |namespace: &'static str| fleet.node_with(move |builder| builder.namespace(namespace)).await;
    calm(&mut tasks, node("calm").await);
    failing(&mut tasks, node("failing").await);
    contended(&mut tasks, node("contended").await);
    amended(&mut tasks, node("amended").await);
    foreign(&mut tasks, node("foreign").await, Arc::clone(&fleet));
    odd(&mut tasks, &fleet).await;
    heavy(&mut tasks, &fleet).await;
    refused(&mut tasks, &fleet).await;
    let proxy = Arc::new(Proxy::start(fleet.server().port()).await);
    stale(&mut tasks, &fleet, &proxy).await;
    proxies.push(proxy);
    suspected(&mut tasks, &fleet).await;
    for begin in [Fault::Cut, Fault::Slow, Fault::Lagging, Fault::Deaf] {
        let proxy = Arc::new(Proxy::start(fleet.server().port()).await);
        begin.cause(&mut tasks, &fleet, &proxy).await;
        proxies.push(proxy);
    }
    Faults { _proxies: proxies, _tasks: tasks, _fleet: fleet }
}

/// A fault of the network.
#[derive(Clone, Copy)]
enum Fault {
    Cut,
    Slow,
    Lagging,
    Deaf,
}

impl Fault {
    async fn cause(self, tasks: &mut JoinSet<()>, fleet: &Arc<Fleet>, proxy: &Arc<Proxy>) {
        let name = match self {
            Self::Cut => "cut",
            Self::Slow => "slow",
            Self::Lagging => "lagging",
            Self::Deaf => "deaf",
        };
        let node = fleet.node_through(proxy, |builder| builder.namespace(name)).await;
        let delayed = |delay| Conditions { delay, ..Conditions::default() };
        match self {
            Self::Cut => {
                for route in Route::ALL {
                    proxy.set(route, Conditions { flow: Flow::Refused, ..Conditions::default() });
                    proxy.cut(route);
                }
                let _ = node.invalidate("k").await;
            }
            Self::Slow => proxy.set(Route::Commands, delayed(ms(80))),
            Self::Lagging => proxy.set(Route::Messages, delayed(ms(300))),
            Self::Deaf => {
                let other = fleet.node_with(|builder| builder.namespace("deaf")).await;
                let (here, subscribers) = (node.clone(), Arc::clone(proxy));
                tasks.spawn(async move {
                    loop {
                        subscribers.cut(Route::Messages);
                        until("the loss is noticed", || !here.is_serving()).await;
                        other.invalidate("k").await.expect("the other node reaches Redis");
                        until("it serves again", || here.is_serving()).await;
                    }
                });
            }
        }
        tasks.spawn(async move {
            for key in 0.. {
                let _ = node.get(&format!("absent {key}")).await;
                sleep(ms(20)).await;
            }
        });
    }
}

/// Nothing is wrong here.
fn calm(tasks: &mut JoinSet<()>, node: Cache) {
    tasks.spawn(async move {
        for turn in 0_u64.. {
            let key = (turn % 10).to_string();
            node.get_or_load(&key, || async { Ok::<_, No>(1) }).await.expect("a value");
            if turn % 50 == 0 {
                node.invalidate(&key).await.expect("Redis answers");
            }
            sleep(ms(10)).await;
        }
    });
}

fn failing(tasks: &mut JoinSet<()>, node: Cache) {
    tasks.spawn(async move {
        loop {
            let _ = node.get_or_load("k", || async { Err::<u64, _>(No(1)) }).await;
            sleep(ms(20)).await;
        }
    });
}

/// The key is invalidated during each of its loads.
fn contended(tasks: &mut JoinSet<()>, node: Cache) {
    tasks.spawn(async move {
        loop {
            let invalidates = node.clone();
            let load = move || async move {
                invalidates.invalidate("k").await.expect("Redis answers");
                Ok::<_, No>(1)
            };
            node.get_or_load("k", load).await.expect("a value");
            sleep(ms(20)).await;
        }
    });
}

fn amended(tasks: &mut JoinSet<()>, node: Cache) {
    tasks.spawn(async move {
        loop {
            let load = || async { Ok::<_, No>(Loaded::new(1).ttl(Duration::ZERO)) };
            node.get_or_load("k", load).await.expect("a value");
            sleep(ms(20)).await;
        }
    });
}

/// Somebody else writes under the keys of the cache.
fn foreign(tasks: &mut JoinSet<()>, node: Cache, fleet: Arc<Fleet>) {
    tasks.spawn(async move {
        for key in 0.. {
            let key = key.to_string();
            fleet.server().cli::<()>(&["SET", &format!("{{foreign:0}}V:{key}"), &"x".repeat(200)]);
            assert_eq!(node.get(&key).await.expect("Redis answers"), None);
            sleep(ms(50)).await;
        }
    });
}

async fn odd(tasks: &mut JoinSet<()>, fleet: &Fleet) {
    let builder = TieredCache::<u64, Odd>::builder().namespace("odd").l1(MemoryBackend::new(100));
    let cache = builder.l2(fleet.backend().await).build().expect("a valid cache");
    tasks.spawn(async move {
        for key in 0.. {
            cache.get_or_load(&key, || async { Ok::<_, No>(Odd::Number(1)) }).await.expect("a value");
            sleep(ms(20)).await;
        }
    });
}

async fn heavy(tasks: &mut JoinSet<()>, fleet: &Fleet) {
    let l1 = MemoryBackend::builder().max_capacity(10).weigher(|_, _| 100).build();
    let node = fleet.node_with(|builder| builder.namespace("heavy").l1(l1)).await;
    tasks.spawn(async move {
        for key in 0.. {
            node.get_or_load(&format!("{key}"), || async { Ok::<_, No>(1) }).await.expect("a value");
            sleep(ms(20)).await;
        }
    });
}

/// A node with another codec than the namespace has.
async fn refused(tasks: &mut JoinSet<()>, fleet: &Fleet) {
    let first = fleet.node_with(|builder| builder.namespace("refused")).await;
    first.shutdown().await;
    let redis = RedisBackend::connect(fleet.server().url()).await.expect("the server answers");
    let builder = TieredCache::<String, u64>::builder().namespace("refused").l1(MemoryBackend::new(10));
    let cache = builder.l2_with(redis, Json).build().expect("a valid cache");
    tasks.spawn(async move {
        let _open = cache;
        std::future::pending::<()>().await;
    });
}

/// A node that does not receive messages, and whose L1 answers all the same.
async fn stale(tasks: &mut JoinSet<()>, fleet: &Fleet, proxy: &Proxy) {
    let options = |builder: TieredCacheBuilder<String, u64>| {
        builder.namespace("stale").mutant(Mutant::ServeWhileSuspended).verify(Verify::sample(1.0))
    };
    let node = fleet.node_through(proxy, options).await;
    let other = fleet.node_with(|builder| builder.namespace("stale")).await;
    proxy.set(Route::Messages, Conditions { flow: Flow::Lost, ..Conditions::default() });
    tasks.spawn(async move {
        for key in 0.. {
            let key = key.to_string();
            node.get_or_load(&key, || async { Ok::<_, No>(1) }).await.expect("a value");
            other.invalidate(&key).await.expect("Redis answers");
            for _ in 0..20 {
                node.get(&key).await.expect("a hit");
                sleep(ms(20)).await;
            }
        }
    });
}

/// The source changes, and nobody invalidates.
async fn suspected(tasks: &mut JoinSet<()>, fleet: &Fleet) {
    let options = |builder: TieredCacheBuilder<String, u64>| {
        builder.namespace("suspected").verify(Verify::sample(1.0).with_source())
    };
    let node = fleet.node_with(options).await;
    tasks.spawn(async move {
        let row = Arc::new(AtomicU64::new(0));
        loop {
            row.fetch_add(1, Ordering::SeqCst);
            let row = Arc::clone(&row);
            let load = move || async move { Ok::<_, No>(row.load(Ordering::SeqCst)) };
            node.get_or_load("k", load).await.expect("a value");
            sleep(ms(20)).await;
        }
    });
}
