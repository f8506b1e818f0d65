//! Measures the time of an invalidation to the L1 of other nodes without faults, beside a bare PUBLISH to the
//! same number of bare subscribers: in turns, on one server, in one process.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_cache::backend::Entry;
use async_cache::key::Key;
use async_cache::testing::until;
use async_cache::{LocalBackend, MemoryBackend, RedisBackend, TieredCache};
use hdrhistogram::Histogram;
use integration_tests::RedisServer;
use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::{AsyncConnectionConfig, Client, IntoConnectionInfo, ProtocolVersion, PushInfo, PushKind};
use serde::Serialize;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::timeout;

use crate::ledger::now;

/// The number of nodes, and of bare subscribers, beside the one that invalidates.
const OTHERS: usize = 2;
const KEY: u64 = 42;
const CHANNEL: &str = "bare";
/// A message with the length of an invalidation.
const PAYLOAD: &str = "I:1234567890123456:42";

/// The figures, in microseconds.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Steady {
    pub rounds: u32,
    pub invalidation_p50_us: f64,
    pub invalidation_p99_us: f64,
    pub bare_hop_p50_us: f64,
    pub bare_hop_p99_us: f64,
    /// The ratio of the time of an invalidation to that of a bare hop.
    pub ratio_p50: f64,
    pub ratio_p99: f64,
}

/// An L1 that reports when an entry was removed.
struct Watched {
    engine: MemoryBackend<u64>,
    removed: UnboundedSender<u64>,
}

impl LocalBackend<u64> for Watched {
    fn get(&self, key: &[u8]) -> Option<Entry<u64>> {
        self.engine.get(key)
    }

    fn insert(&self, key: &Key, entry: Entry<u64>) {
        self.engine.insert(key, entry);
    }

    fn remove(&self, key: &[u8]) {
        self.engine.remove(key);
        let _ = self.removed.send(now());
    }

    fn clear(&self) {
        LocalBackend::clear(&self.engine);
    }

    fn len(&self) -> u64 {
        LocalBackend::len(&self.engine)
    }
}

/// Measures this many invalidations and bare messages.
pub(crate) async fn measure(rounds: u32) -> io::Result<Steady> {
    let server = tokio::task::block_in_place(RedisServer::start);
    let mut caches = Caches::open(&server).await;
    let mut bare = Bare::open(&server).await.map_err(io::Error::other)?;
    let mut ours = histogram();
    let mut hops = histogram();
    // The first rounds warm up, and are not counted.
    for round in 0..rounds + rounds / 10 {
        let warm = round >= rounds / 10;
        let (lags, plain) = if fastrand::bool() {
            let lags = caches.invalidate(u64::from(round)).await?;
            (lags, bare.hop().await?)
        } else {
            let plain = bare.hop().await?;
            (caches.invalidate(u64::from(round)).await?, plain)
        };
        if warm {
            lags.into_iter().for_each(|lag| ours.saturating_record(lag));
            plain.into_iter().for_each(|lag| hops.saturating_record(lag));
        }
    }
    let us = |histogram: &Histogram<u64>, quantile| histogram.value_at_quantile(quantile) as f64 / 1e3;
    let ratio = |quantile| us(&ours, quantile) / us(&hops, quantile);
    Ok(Steady {
        rounds,
        invalidation_p50_us: us(&ours, 0.5),
        invalidation_p99_us: us(&ours, 0.99),
        bare_hop_p50_us: us(&hops, 0.5),
        bare_hop_p99_us: us(&hops, 0.99),
        ratio_p50: ratio(0.5),
        ratio_p99: ratio(0.99),
    })
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(100, 10_000_000_000, 3).expect("sensible bounds")
}

/// The time from `begun` to each of the next arrivals.
async fn arrivals(from: &mut UnboundedReceiver<u64>, begun: u64) -> io::Result<Vec<u64>> {
    let mut lags = Vec::with_capacity(OTHERS);
    while lags.len() < OTHERS {
        let at = timeout(Duration::from_secs(5), from.recv()).await?;
        lags.push(at.ok_or_else(|| io::Error::other("nobody listens"))?.saturating_sub(begun));
    }
    Ok(lags)
}

/// A cache that invalidates, and caches that receive the messages.
struct Caches {
    writer: TieredCache<u64, u64>,
    others: Vec<(TieredCache<u64, u64>, MemoryBackend<u64>)>,
    removed: UnboundedReceiver<u64>,
}

impl Caches {
    async fn open(server: &RedisServer) -> Self {
        let (sender, removed) = unbounded_channel();
        let backend = async || RedisBackend::connect(server.url()).await.expect("the server answers");
        let builder = || TieredCache::builder().namespace("steady");
        let writer = builder().l1(MemoryBackend::new(100)).l2(backend().await).build().expect("a cache");
        let mut others = Vec::new();
        for _ in 0..OTHERS {
            let engine = MemoryBackend::new(100);
            let l1 = Watched { engine: engine.clone(), removed: sender.clone() };
            let cache = builder().l1(l1).l2(backend().await).build().expect("a cache");
            others.push((cache, engine));
        }
        for cache in others.iter().map(|(cache, _)| cache).chain([&writer]) {
            until("the node serves", || cache.is_serving()).await;
        }
        Self { writer, others, removed }
    }

    /// Waits until every node has a value, invalidates it, and returns the time until each node removed it.
    async fn invalidate(&mut self, value: u64) -> io::Result<Vec<u64>> {
        let key = Key::encode(&KEY).map_err(io::Error::other)?;
        let stamp = self.writer.insert(&KEY, value).await.map_err(io::Error::other)?;
        for (cache, engine) in &self.others {
            // A read is not kept in L1 until the message of the insert has arrived.
            while engine.get(key.as_bytes()).is_none_or(|entry| *entry.value.unwrap_or_default() != value) {
                let answer = cache.get(&KEY).at_least(&stamp).await.map_err(io::Error::other)?;
                debug_assert_eq!(answer.as_deref(), Some(&value));
            }
        }
        while self.removed.try_recv().is_ok() {}
        let begun = now();
        self.writer.invalidate(&KEY).await.map_err(io::Error::other)?;
        arrivals(&mut self.removed, begun).await
    }
}

/// Bare connections: one publishes, and the others subscribe.
struct Bare {
    publisher: MultiplexedConnection,
    _subscribers: Vec<MultiplexedConnection>,
    heard: UnboundedReceiver<u64>,
}

impl Bare {
    async fn open(server: &RedisServer) -> redis::RedisResult<Self> {
        let info = server.url().into_connection_info()?;
        let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        let tcp = TcpSettings::default().set_nodelay(true);
        let client = Client::open(info.set_redis_settings(settings).set_tcp_settings(tcp))?;
        let (sender, heard) = unbounded_channel();
        let mut subscribers = Vec::new();
        // One of them stands for the invalidating node, which also receives its own message.
        for at in 0..=OTHERS {
            let sender: Arc<UnboundedSender<u64>> = Arc::new(sender.clone());
            let push = move |push: PushInfo| -> Result<(), ()> {
                if push.kind == PushKind::Message && at < OTHERS {
                    let _ = sender.send(now());
                }
                Ok(())
            };
            let config = AsyncConnectionConfig::new().set_push_sender(push);
            let mut subscriber = client.get_multiplexed_async_connection_with_config(&config).await?;
            subscriber.subscribe(CHANNEL).await?;
            subscribers.push(subscriber);
        }
        let publisher = client.get_multiplexed_async_connection().await?;
        Ok(Self { publisher, _subscribers: subscribers, heard })
    }

    async fn hop(&mut self) -> io::Result<Vec<u64>> {
        let mut publish = redis::cmd("PUBLISH");
        publish.arg(CHANNEL).arg(PAYLOAD);
        let begun = now();
        publish.query_async::<()>(&mut self.publisher).await.map_err(io::Error::other)?;
        arrivals(&mut self.heard, begun).await
    }
}
