//! The links of one node to several servers as the backend of its cache. As in a Redis Cluster, each partition is on one
//! server, and is lost and subscribed to with the link to that server.

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_cache::backend::{
    Acquire, Acquired, Backend, Baseline, BusEvent, Check, Fill, Filled, Info, Lease, Listener, Pulse, Read,
    ReadMany, Region, RegionSpec, Renewed, RunId,
};
use async_cache::key::Key;
use async_cache::{Error, Result, Tags};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::{BoxFuture, join_all};

use super::{Link, Wire};

/// The server of a partition.
#[must_use]
pub(in super::super) fn server_of(partition: u16, servers: usize) -> usize {
    usize::from(partition) % servers
}

/// Links to servers as a backend.
#[derive(Debug, Clone)]
pub struct Wires {
    /// One to each server.
    pub links: Vec<Arc<Link>>,
    /// The number of partitions of all servers together.
    pub partitions: u16,
}

impl Backend for Wires {
    fn open(&self, spec: RegionSpec, listener: Weak<dyn Listener>) -> Result<Arc<dyn Region>> {
        if let [only] = &self.links[..] {
            return Wire(Arc::clone(only)).open(spec, listener);
        }
        let servers = self.links.len();
        let mut spread = Spread { regions: Vec::new(), _sorters: Vec::new() };
        for (server, link) in self.links.iter().enumerate() {
            let own = (0..self.partitions).filter(|partition| server_of(*partition, servers) == server);
            let sorter = Arc::new(Sorter { partitions: own.collect(), listener: listener.clone() });
            let weak: Weak<dyn Listener> = Arc::downgrade(&(Arc::clone(&sorter) as Arc<dyn Listener>));
            spread.regions.push(Wire(Arc::clone(link)).open(spec.clone(), weak)?);
            spread._sorters.push(sorter);
        }
        Ok(Arc::new(spread))
    }
}

/// Passes on the events of the partitions that one server has.
struct Sorter {
    partitions: Vec<u16>,
    listener: Weak<dyn Listener>,
}

impl Listener for Sorter {
    fn notify(&self, event: BusEvent) {
        let Some(listener) = self.listener.upgrade() else { return };
        let each = |of: fn(u16) -> BusEvent| {
            self.partitions.iter().for_each(|partition| listener.notify(of(*partition)));
        };
        match event {
            BusEvent::Subscribed => each(|partition| BusEvent::PartitionSubscribed { partition }),
            BusEvent::Lost => each(|partition| BusEvent::PartitionLost { partition }),
            // The double of each server has all partitions, and sends events of the other servers' partitions, too.
            // These are dropped.
            BusEvent::Invalidated { partition, .. }
            | BusEvent::Expired { partition, .. }
            | BusEvent::Cleared { partition, .. }
            | BusEvent::TagsInvalidated { partition, .. }
            | BusEvent::TagsExpired { partition, .. }
            | BusEvent::Echo { partition, .. }
                if !self.partitions.contains(&partition) => {}
            other => listener.notify(other),
        }
    }
}

/// The regions of a namespace, one for each server.
struct Spread {
    regions: Vec<Arc<dyn Region>>,
    /// The regions hold them weakly.
    _sorters: Vec<Arc<Sorter>>,
}

impl fmt::Debug for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Spread")
    }
}

impl Spread {
    fn at(&self, partition: u16) -> &dyn Region {
        &*self.regions[server_of(partition, self.regions.len())]
    }

    /// The run of a server, unlike those of the others.
    fn run_at(&self, partition: u16, run: RunId) -> RunId {
        RunId(run.0 ^ (server_of(partition, self.regions.len()) as u64) << 32)
    }

    fn partition_of(&self, key: &Key) -> u16 {
        key.partition(self.info().partitions)
    }

    /// Runs an operation on the items of each server. Returns an outcome for each item, in their order.
    async fn each<I: Clone, T>(
        &self,
        items: &[I],
        key: impl Fn(&I) -> &Key,
        operation: impl Fn(Arc<dyn Region>, Vec<I>) -> BoxFuture<'static, Vec<Result<T>>>,
    ) -> Vec<Result<T>> {
        let mut places = vec![Vec::new(); self.regions.len()];
        for (place, item) in items.iter().enumerate() {
            places[server_of(self.partition_of(key(item)), self.regions.len())].push(place);
        }
        let asked = self.regions.iter().zip(&places).filter(|(_, places)| !places.is_empty());
        let sent: Vec<_> = asked
            .map(|(region, places)| {
                let items = places.iter().map(|place| items[*place].clone()).collect();
                operation(Arc::clone(region), items)
            })
            .collect();
        let answers = join_all(sent).await;
        let mut outcomes: Vec<_> = places.into_iter().flatten().zip(answers.into_iter().flatten()).collect();
        outcomes.sort_by_key(|(place, _)| *place);
        outcomes.into_iter().map(|(_, outcome)| outcome).collect()
    }
}

/// The outcome of all items of one server, for each of them.
fn alike<T>(outcome: Result<Vec<T>>, count: usize) -> Vec<Result<T>> {
    match outcome {
        Ok(values) => values.into_iter().map(Ok).collect(),
        Err(error) => vec![error; count].into_iter().map(Err).collect(),
    }
}

/// All values, or an error. One whose effect is unknown comes first.
fn whole<T>(outcomes: Vec<Result<T>>) -> Result<Vec<T>> {
    let unknown = |error: &&Error| !error.effect_is_known();
    match outcomes.iter().filter_map(|outcome| outcome.as_ref().err()).find(unknown) {
        Some(error) => Err(error.clone()),
        None => outcomes.into_iter().collect(),
    }
}

#[async_trait]
impl Region for Spread {
    fn info(&self) -> Info {
        let infos = self.regions.iter().map(|region| region.info());
        let info = infos.reduce(|one, other| Info { available: one.available || other.available, ..one });
        info.expect("there is a server")
    }

    async fn read(&self, keys: &[Key], check: Check) -> Result<ReadMany> {
        let read = whole(self.read_each(keys, check).await)?;
        // Answers of several servers have no run in common, so this one is made up of theirs.
        let run = match read.split_first() {
            Some((first, rest)) if rest.iter().all(|read| read.run == first.run) => first.run,
            _ => RunId(read.iter().fold(1, |run, read| run.rotate_left(7) ^ read.run.0)),
        };
        Ok(ReadMany { run, values: read.into_iter().map(|read| read.value).collect() })
    }

    async fn read_each(&self, keys: &[Key], check: Check) -> Vec<Result<Read>> {
        let read = |region: Arc<dyn Region>, keys: Vec<Key>| -> BoxFuture<'static, _> {
            Box::pin(async move { region.read_each(&keys, check).await })
        };
        let mut outcomes = self.each(keys, |key| key, read).await;
        for (key, read) in keys.iter().zip(outcomes.iter_mut().map(Result::as_mut)) {
            if let Ok(read) = read {
                read.run = self.run_at(self.partition_of(key), read.run);
            }
        }
        outcomes
    }

    async fn baseline(&self, partition: u16, tags: Option<&Tags>) -> Result<Baseline> {
        let mut baseline = self.at(partition).baseline(partition, tags).await?;
        baseline.state.run = self.run_at(partition, baseline.state.run);
        Ok(baseline)
    }

    async fn acquire(&self, asks: &[(Key, Acquire)]) -> Vec<Result<Acquired>> {
        let acquire = |region: Arc<dyn Region>, asks: Vec<(Key, Acquire)>| -> BoxFuture<'static, _> {
            Box::pin(async move { region.acquire(&asks).await })
        };
        self.each(asks, |ask| &ask.0, acquire).await
    }

    async fn fill(&self, fills: &[Fill]) -> Vec<Result<Filled>> {
        let fill = |region: Arc<dyn Region>, fills: Vec<Fill>| -> BoxFuture<'static, _> {
            Box::pin(async move { region.fill(&fills).await })
        };
        self.each(fills, |fill| &fill.key, fill).await
    }

    async fn renew(&self, leases: &[(Key, Lease)], ttl: Duration) -> Result<Vec<Renewed>> {
        let renew = move |region: Arc<dyn Region>, leases: Vec<(Key, Lease)>| -> BoxFuture<'static, _> {
            Box::pin(async move { alike(region.renew(&leases, ttl).await, leases.len()) })
        };
        whole(self.each(leases, |lease| &lease.0, renew).await)
    }

    async fn release(&self, leases: &[(Key, Lease)]) -> Result<()> {
        let release = |region: Arc<dyn Region>, leases: Vec<(Key, Lease)>| -> BoxFuture<'static, _> {
            Box::pin(async move { vec![region.release(&leases).await; leases.len()] })
        };
        whole(self.each(leases, |lease| &lease.0, release).await).map(drop)
    }

    async fn put(&self, entries: &[(Key, Bytes)], life: Duration, not_after_ms: u64) -> Result<Vec<u64>> {
        let put = move |region: Arc<dyn Region>, entries: Vec<(Key, Bytes)>| -> BoxFuture<'static, _> {
            Box::pin(async move { alike(region.put(&entries, life, not_after_ms).await, entries.len()) })
        };
        whole(self.each(entries, |entry| &entry.0, put).await)
    }

    async fn invalidate(&self, keys: &[Key]) -> Result<Vec<u64>> {
        let invalidate = |region: Arc<dyn Region>, keys: Vec<Key>| -> BoxFuture<'static, _> {
            Box::pin(async move { alike(region.invalidate(&keys).await, keys.len()) })
        };
        whole(self.each(keys, |key| key, invalidate).await)
    }

    async fn invalidate_tags(&self, partition: u16, tags: &Tags) -> Result<u64> {
        self.at(partition).invalidate_tags(partition, tags).await
    }

    async fn expire(&self, keys: &[Key]) -> Result<Vec<u64>> {
        let expire = |region: Arc<dyn Region>, keys: Vec<Key>| -> BoxFuture<'static, _> {
            Box::pin(async move { alike(region.expire(&keys).await, keys.len()) })
        };
        whole(self.each(keys, |key| key, expire).await)
    }

    async fn expire_tags(&self, partition: u16, tags: &Tags) -> Result<u64> {
        self.at(partition).expire_tags(partition, tags).await
    }

    async fn clear(&self, partition: u16) -> Result<u64> {
        self.at(partition).clear(partition).await
    }

    async fn heartbeat(&self, partition: u16, beat: u64) -> Result<Pulse> {
        let Pulse { run, time_ms } = self.at(partition).heartbeat(partition, beat).await?;
        Ok(Pulse { run: self.run_at(partition, run), time_ms })
    }
}
