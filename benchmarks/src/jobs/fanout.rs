//! Invalidations: the time until every node has received one, and the highest rate.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use async_cache::backend::{Backend, BusEvent, Listener, NodeId, Region, RegionSpec};
use async_cache::{RedisBackend, TieredCache};
use redis::AsyncCommands;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::{Row, percentile, runtime};
use crate::Context;
use crate::report::{Figure, Table};

const LAGS: usize = 500;
const BURST: usize = 5_000;

/// A node that reports the time at which it receives an invalidation.
struct Ear(UnboundedSender<Instant>);

impl Listener for Ear {
    fn notify(&self, event: BusEvent) {
        if let BusEvent::Invalidated { .. } = event {
            let _ = self.0.send(Instant::now());
        }
    }
}

struct Fleet {
    cache: TieredCache<u64, Row>,
    heard: UnboundedReceiver<Instant>,
    _nodes: Vec<(Arc<Ear>, Arc<dyn Region>, RedisBackend)>,
}

async fn fleet(url: &str, nodes: usize) -> Fleet {
    let namespace = format!("fanout-{nodes}");
    let redis = RedisBackend::connect(url).await.expect("Redis");
    let cache = TieredCache::<u64, Row>::builder().namespace(&namespace).l2(redis).build().expect("a cache");
    cache.invalidate(&0).await.expect("an invalidation");
    let (sender, mut heard) = unbounded_channel();
    let mut ears = Vec::new();
    for _ in 0..nodes {
        let redis = RedisBackend::connect(url).await.expect("Redis");
        let ear = Arc::new(Ear(sender.clone()));
        let weak: Weak<Ear> = Arc::downgrade(&ear);
        let record = record();
        let region =
            redis.open(RegionSpec::new(&*namespace, NodeId::random(), record), weak).expect("a region");
        region.state(0).await.expect("the state");
        ears.push((ear, region, redis));
    }
    // Waits until every node receives messages.
    loop {
        cache.invalidate(&0).await.expect("an invalidation");
        tokio::time::sleep(Duration::from_millis(20)).await;
        let mut count = 0;
        while heard.try_recv().is_ok() {
            count += 1;
        }
        if count == nodes {
            return Fleet { cache, heard, _nodes: ears };
        }
    }
}

/// The namespace record of a cache with the default codec.
fn record() -> String {
    format!("async-cache/{} {}", async_cache::frame::FORMAT_VERSION, "bincode-2")
}

impl Fleet {
    /// For each of many invalidations, the time until each node received it, in µs.
    async fn lags(&mut self, nodes: usize) -> Vec<f64> {
        let mut lags = Vec::with_capacity(LAGS * nodes);
        for i in 0..LAGS as u64 {
            let start = Instant::now();
            let (_, ()) = tokio::join!(self.cache.invalidate(&i), async {
                for _ in 0..nodes {
                    let at = self.heard.recv().await.expect("a node");
                    lags.push((at - start).as_nanos() as f64 / 1000.0);
                }
            });
        }
        lags
    }

    /// Invalidations per second that all nodes can process.
    async fn rate(&mut self, nodes: usize) -> f64 {
        let start = Instant::now();
        let keys: Vec<u64> = (0..BURST as u64).collect();
        let (done, ()) = tokio::join!(self.cache.invalidate_many(&keys), async {
            for _ in 0..BURST * nodes {
                self.heard.recv().await.expect("a node");
            }
        });
        done.expect("invalidations");
        BURST as f64 / start.elapsed().as_secs_f64()
    }
}

/// This measurement with a bare PUBLISH.
async fn hops(url: &str, nodes: usize) -> Vec<f64> {
    let client = redis::Client::open(url).expect("a client");
    let (sender, mut heard) = unbounded_channel();
    let mut tasks = Vec::new();
    for _ in 0..nodes {
        let mut bus = client.get_async_pubsub().await.expect("a subscriber");
        bus.subscribe("hop").await.expect("SUBSCRIBE");
        let sender = sender.clone();
        tasks.push(tokio::spawn(async move {
            use futures_util::StreamExt;
            let mut messages = bus.into_on_message();
            while messages.next().await.is_some() {
                let _ = sender.send(Instant::now());
            }
        }));
    }
    let mut connection = client.get_multiplexed_async_connection().await.expect("a connection");
    let mut lags = Vec::with_capacity(LAGS * nodes);
    for i in 0..LAGS {
        let start = Instant::now();
        let (_, ()): (redis::RedisResult<()>, ()) = tokio::join!(connection.publish("hop", i), async {
            for _ in 0..nodes {
                let at = heard.recv().await.expect("a subscriber");
                lags.push((at - start).as_nanos() as f64 / 1000.0);
            }
        });
    }
    tasks.iter().for_each(tokio::task::JoinHandle::abort);
    lags
}

pub(crate) fn run(context: &Context, sizes: &[usize]) -> Vec<Table> {
    let mut lags = Table::new("Invalidation reaching other nodes", "µs from the call until a node has heard");
    let mut rates =
        Table::new("Invalidations that all nodes keep up with", "invalidations per second").more_is_better();
    let (runtime, url) = (runtime(), context.redis.url());
    for &nodes in sizes {
        runtime.block_on(async {
            let mut fleet = fleet(&url, nodes).await;
            let mut samples: [Vec<f64>; 5] = Default::default();
            for round in 0..=context.rounds.min(5) {
                let (mut ours, mut bare) = (fleet.lags(nodes).await, hops(&url, nodes).await);
                let rate = fleet.rate(nodes).await;
                if round > 0 {
                    let figures = [
                        percentile(&mut ours, 0.5),
                        percentile(&mut bare, 0.5),
                        percentile(&mut ours, 0.99),
                        percentile(&mut bare, 0.99),
                        rate,
                    ];
                    samples.iter_mut().zip(figures).for_each(|(taken, figure)| taken.push(figure));
                }
            }
            let [p50, bare50, p99, bare99, rate] = samples;
            let figure = |side: &str, taken| Figure::of(side.to_owned(), Ok(taken));
            let sides = |ours, bare| vec![figure("async-cache", ours), figure("bare PUBLISH", bare)];
            let name = if nodes == 1 { "1 node".to_owned() } else { format!("{nodes} nodes") };
            lags.row(format!("{name}, p50"), Some("bare PUBLISH"), sides(p50, bare50));
            lags.row(format!("{name}, p99"), Some("bare PUBLISH"), sides(p99, bare99));
            rates.row(name, None, vec![figure("async-cache", rate)]);
        });
    }
    lags.note("All nodes are in one process, on connections of their own: with many, the lag is mostly that of its processors.");
    vec![lags, rates]
}
