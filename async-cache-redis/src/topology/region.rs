//! One namespace on a cluster: each operation goes to the servers of its keys, and their answers are joined.
//!
//! A server that does not have a slot says so, and has executed nothing. Then the operation is repeated at the server
//! that has the slot, within its deadline. While a slot moves key by key, neither server may have all keys of a script.
//! Then the operation is repeated until one has.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_cache_core::backend::{
    Acquire, Acquired, Baseline, Check, Fill, Filled, Info, Lease, Listener, NodeId, Pulse, Read, ReadMany,
    Region, RegionSpec, Renewed, RunId,
};
use async_cache_core::key::Key;
use async_cache_core::{Error, ErrorKind, Result, Tags};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared, WeakShared};
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::cluster::Cluster;
use super::seats::Seats;
use super::spread::{Spread, is_redirected, whole};
use crate::commands::operations::Echo;
#[cfg(feature = "tools")]
use crate::commands::region::RedisRegion;
use crate::keys::PartitionKeys;
use crate::limits::Purpose;

pub(crate) struct ClusterRegion {
    cluster: Arc<Cluster>,
    seats: Arc<Seats>,
    /// The record has been compared in partition 0.
    checked: AtomicBool,
    /// The visit to partition 0 that is under way.
    visit: Mutex<Option<WeakShared<Visit>>>,
}

/// A visit to partition 0. The operations that wait for it share it: at the start there are two for each partition.
/// `None` if the task has ended with its runtime.
type Visit = BoxFuture<'static, Option<Result<()>>>;

/// Opens a namespace.
pub(crate) fn open(
    cluster: &Arc<Cluster>,
    spec: RegionSpec,
    listener: Weak<dyn Listener>,
    partitions: u16,
) -> Arc<ClusterRegion> {
    cluster.ensure();
    let names: Arc<[PartitionKeys]> =
        (0..partitions).map(|p| PartitionKeys::new(&spec.namespace, p, 0)).collect();
    let seats = Arc::new(Seats::new(spec, names, listener));
    cluster.topology.enter(&seats);
    let (checked, visit) = (AtomicBool::new(false), Mutex::default());
    Arc::new(ClusterRegion { cluster: Arc::clone(cluster), seats, checked, visit })
}

impl ClusterRegion {
    fn spread(&self, purpose: Purpose, doing: &'static str) -> Spread<'_> {
        self.cluster.ensure();
        Spread {
            topology: &self.cluster.topology,
            seats: &self.seats,
            limit: self.cluster.deadlines.of(purpose),
            doing,
        }
    }

    /// For the operations that change or create something. Nodes with different numbers of partitions have only
    /// partition 0 in common. So the record is compared there before an operation on another partition.
    async fn checked_spread(&self, purpose: Purpose, doing: &'static str) -> Result<Spread<'_>> {
        let spread = self.spread(purpose, doing);
        if !self.checked.load(Ordering::Relaxed) {
            // The visit has a deadline itself. Its runtime may have ended.
            let visited = timeout(2 * spread.limit, self.visit(spread.limit, doing)).await;
            visited.ok().flatten().unwrap_or_else(|| Err(spread.late()))?;
            self.checked.store(true, Ordering::Relaxed);
        }
        Ok(spread)
    }

    /// Visits partition 0, or joins the visit that is under way. It ends within the deadline of its first caller.
    ///
    /// It runs on the runtime of the background, because nothing may run that of the first caller any more.
    fn visit(&self, limit: Duration, doing: &'static str) -> Shared<Visit> {
        let mut visit = self.visit.lock();
        let under_way = visit.as_ref().and_then(WeakShared::upgrade);
        if let Some(under_way) = under_way.filter(|visit| visit.peek().is_none()) {
            return under_way;
        }
        let (topology, seats) = (Arc::clone(&self.cluster.topology), Arc::clone(&self.seats));
        let (told, outcome) = oneshot::channel();
        self.cluster.run(async move {
            let spread = Spread { topology: &topology, seats: &seats, limit, doing };
            let states = spread.run(
                &[0],
                |_: &u16| 0,
                |region, _| Box::pin(async move { vec![region.state_of(0, doing).await] }),
            );
            // The callers may be gone.
            let _ = told.send(whole(states.await).map(drop));
        });
        let begun = outcome.map(std::result::Result::ok).boxed().shared();
        *visit = begun.downgrade();
        begun
    }

    /// The operations at the server of a partition, if one is known.
    #[cfg(feature = "tools")]
    pub(crate) fn at_server_of(&self, partition: u16) -> Option<Arc<RedisRegion>> {
        self.seats.region_of(partition)
    }

    fn place(&self) -> impl Fn(&Key) -> u16 + Sync + use<> {
        let count = self.seats.partition_count();
        move |key| key.partition(count)
    }

    fn exists(&self, partition: u16) -> Result<()> {
        let count = self.seats.partition_count();
        if partition < count {
            return Ok(());
        }
        let message = format!("partition {partition} does not exist: there are {count}");
        Err(Error::new(ErrorKind::Config, message).in_namespace(&self.seats.spec.namespace))
    }

    fn leave(&self) {
        if self.seats.close() {
            self.cluster.open_names.lock().remove(&self.seats.spec.namespace);
        }
    }
}

#[async_trait]
impl Region for ClusterRegion {
    fn info(&self) -> Info {
        let map = self.cluster.topology.map();
        Info {
            partitions: self.seats.partition_count(),
            deadline: self.cluster.deadlines.write,
            // With one master away, the others answer.
            available: map.servers.values().any(|server| server.slots.available()),
        }
    }

    /// That of one server: the first that has a partition and is away.
    fn outage(&self) -> Option<Error> {
        let spread = self.spread(Purpose::Read, "sending a heartbeat");
        (0..self.seats.partition_count()).find_map(|partition| spread.outage_of(partition))
    }

    fn close(&self) {
        self.leave();
    }

    async fn read(&self, keys: &[Key], check: Check) -> Result<ReadMany> {
        // A read of a single key takes this path, where nothing is copied.
        if let ([key], Check::Plain) = (keys, check)
            && let Some(region) = self.seats.region_of(key.partition(self.seats.partition_count()))
        {
            let read = region.read(keys, check).await;
            if !is_redirected(&read) {
                return read;
            }
        }
        let read = whole(self.read_each(keys, check).await)?;
        // Answers of several servers have no run in common, so this one is made up of theirs.
        let run = match read.split_first() {
            Some((first, rest)) if rest.iter().all(|read| read.run == first.run) => first.run,
            _ => RunId(read.iter().fold(1, |run, read| run.rotate_left(7) ^ read.run.0)),
        };
        Ok(ReadMany { run, values: read.into_iter().map(|read| read.value).collect() })
    }

    async fn read_each(&self, keys: &[Key], check: Check) -> Vec<Result<Read>> {
        let doing = if keys.len() == 1 { "reading a value" } else { "reading values" };
        let spread = match check {
            Check::Plain => self.spread(Purpose::Read, doing),
            Check::Valid => match self.checked_spread(Purpose::Read, doing).await {
                Ok(spread) => spread,
                Err(error) => return vec![Err(error); keys.len()],
            },
        };
        let place = self.place();
        spread
            .run(keys, place, |region, keys| {
                Box::pin(async move {
                    match region.read(&keys, check).await {
                        Ok(ReadMany { run, values }) => {
                            values.into_iter().map(|value| Ok(Read { run, value })).collect()
                        }
                        Err(error) => vec![Err(error); keys.len()],
                    }
                })
            })
            .await
    }

    async fn baseline(&self, partition: u16, tags: Option<&Tags>) -> Result<Baseline> {
        self.exists(partition)?;
        let spread = self.checked_spread(Purpose::Read, "reading the state of the namespace").await?;
        spread.one(partition, |region| Box::pin(async move { region.baseline(partition, tags).await })).await
    }

    async fn acquire(&self, asks: &[(Key, Acquire)]) -> Vec<Result<Acquired>> {
        let spread = match self.checked_spread(Purpose::Read, "asking for leases").await {
            Ok(spread) => spread,
            Err(error) => return vec![Err(error); asks.len()],
        };
        let place = self.place();
        spread
            .run(
                asks,
                |ask| place(&ask.0),
                |region, asks| Box::pin(async move { region.acquire(&asks).await }),
            )
            .await
    }

    async fn fill(&self, fills: &[Fill]) -> Vec<Result<Filled>> {
        let spread = match self.checked_spread(Purpose::Write, "storing loaded values").await {
            Ok(spread) => spread,
            Err(error) => return vec![Err(error); fills.len()],
        };
        let place = self.place();
        spread
            .run(
                fills,
                |fill| place(&fill.key),
                |region, fills| Box::pin(async move { region.fill(&fills).await }),
            )
            .await
    }

    async fn renew(&self, leases: &[(Key, Lease)], ttl: Duration) -> Result<Vec<Renewed>> {
        let spread = self.checked_spread(Purpose::Write, "renewing leases").await?;
        let place = self.place();
        let renewed = spread.run(
            leases,
            |lease| place(&lease.0),
            |region, leases| Box::pin(async move { each(region.renew(&leases, ttl).await, leases.len()) }),
        );
        whole(renewed.await)
    }

    async fn release(&self, leases: &[(Key, Lease)]) -> Result<()> {
        let spread = self.checked_spread(Purpose::Write, "releasing leases").await?;
        let place = self.place();
        let released = spread.run(
            leases,
            |lease| place(&lease.0),
            |region, leases| Box::pin(async move { vec![region.release(&leases).await; leases.len()] }),
        );
        whole(released.await).map(drop)
    }

    async fn put(&self, entries: &[(Key, Bytes)], life: Duration, not_after_ms: u64) -> Result<Vec<u64>> {
        let spread = self.checked_spread(Purpose::Write, "storing values").await?;
        let place = self.place();
        let put = spread.run(
            entries,
            |entry| place(&entry.0),
            |region, entries| {
                Box::pin(async move { each(region.put(&entries, life, not_after_ms).await, entries.len()) })
            },
        );
        whole(put.await)
    }

    async fn invalidate(&self, keys: &[Key]) -> Result<Vec<u64>> {
        let spread = self.checked_spread(Purpose::Write, "invalidating keys").await?;
        let place = self.place();
        let invalidated = spread.run(keys, place, |region, keys| {
            Box::pin(async move { each(region.invalidate(&keys).await, keys.len()) })
        });
        whole(invalidated.await)
    }

    async fn invalidate_tags(&self, partition: u16, tags: &Tags) -> Result<u64> {
        self.exists(partition)?;
        let spread = self.checked_spread(Purpose::Write, "invalidating tags").await?;
        spread
            .one(partition, |region| Box::pin(async move { region.invalidate_tags(partition, tags).await }))
            .await
    }

    async fn expire(&self, keys: &[Key]) -> Result<Vec<u64>> {
        let spread = self.checked_spread(Purpose::Write, "expiring keys").await?;
        let place = self.place();
        let expired = spread.run(keys, place, |region, keys| {
            Box::pin(async move { each(region.expire(&keys).await, keys.len()) })
        });
        whole(expired.await)
    }

    async fn expire_tags(&self, partition: u16, tags: &Tags) -> Result<u64> {
        self.exists(partition)?;
        let spread = self.checked_spread(Purpose::Write, "expiring tags").await?;
        spread
            .one(partition, |region| Box::pin(async move { region.expire_tags(partition, tags).await }))
            .await
    }

    async fn clear(&self, partition: u16) -> Result<u64> {
        self.exists(partition)?;
        let spread = self.checked_spread(Purpose::Write, "clearing the namespace").await?;
        spread.one(partition, |region| Box::pin(async move { region.clear(partition).await })).await
    }

    async fn heartbeat(&self, partition: u16, beat: u64) -> Result<Pulse> {
        self.exists(partition)?;
        let spread = self.checked_spread(Purpose::Read, "sending a heartbeat").await?;
        let seats = &self.seats;
        spread
            .one(partition, |region| {
                let echo = if seats.hears(partition) { Echo::Due } else { Echo::Uncertain };
                Box::pin(async move { region.beat(partition, beat, echo).await })
            })
            .await
    }

    async fn ask(&self, id: u64, question: &[u8]) -> Result<u64> {
        // Every node hears every partition, so one message is enough.
        let spread = self.spread(Purpose::Write, "asking the nodes of the namespace");
        spread.one(0, |region| Box::pin(async move { region.ask(id, question).await })).await
    }

    async fn answer(&self, asker: NodeId, id: u64, answer: &[u8]) -> Result<()> {
        let spread = self.spread(Purpose::Write, "answering a tool");
        spread.one(0, |region| Box::pin(async move { region.answer(asker, id, answer).await })).await
    }
}

/// The outcome of a whole group, for each of its members.
fn each<T>(outcome: Result<Vec<T>>, count: usize) -> Vec<Result<T>> {
    match outcome {
        Ok(values) => values.into_iter().map(Ok).collect(),
        Err(error) => (0..count).map(|_| Err(error.clone())).collect(),
    }
}

impl Drop for ClusterRegion {
    fn drop(&mut self) {
        self.leave();
    }
}

impl fmt::Debug for ClusterRegion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterRegion")
            .field("namespace", &self.seats.spec.namespace)
            .field("node", &self.seats.spec.node)
            .field("cluster", &self.cluster.seeds())
            .finish_non_exhaustive()
    }
}
