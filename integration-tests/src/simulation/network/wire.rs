//! The link of one node as the backend of its cache.

use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_cache::backend::{
    Acquire, Acquired, Backend, Baseline, BusEvent, Check, Fill, Filled, Info, Lease, Listener, Pulse,
    ReadMany, Region, RegionSpec, Renewed,
};
use async_cache::key::Key;
use async_cache::{Error, ErrorKind, Result, Tags};
use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use super::{Bus, Link};

/// Sends the messages of the server to the node over the link.
struct Relay {
    link: Arc<Link>,
}

impl Listener for Relay {
    fn notify(&self, event: BusEvent) {
        let first = {
            let mut state = self.link.state.lock();
            let first = event == BusEvent::Subscribed && !state.joined;
            state.joined |= first;
            if state.bus == Bus::Down || (state.bus == Bus::Deaf && !first) {
                return;
            }
            first
        };
        // After the first one, the link itself reports the end and the start of the subscription.
        if !first && matches!(event, BusEvent::Lost | BusEvent::Subscribed) {
            return;
        }
        if !first && self.link.chance(self.link.network.weather.lost_messages) {
            return;
        }
        self.link.queue(event);
    }
}

/// A [`Link`] as a backend.
#[derive(Debug, Clone)]
pub struct Wire(pub Arc<Link>);

impl Backend for Wire {
    fn open(&self, spec: RegionSpec, listener: Weak<dyn Listener>) -> Result<Arc<dyn Region>> {
        let relay = Arc::new(Relay { link: Arc::clone(&self.0) });
        let weak: Weak<dyn Listener> = Arc::downgrade(&(Arc::clone(&relay) as Arc<dyn Listener>));
        let server = self.0.network.server.open(spec, weak)?;
        tokio::spawn(Arc::clone(&self.0).deliver(listener));
        Ok(Arc::new(Distant { server, link: Arc::clone(&self.0), _relay: relay }))
    }
}

/// A region of the server, reached over a link.
struct Distant {
    server: Arc<dyn Region>,
    link: Arc<Link>,
    _relay: Arc<Relay>,
}

impl fmt::Debug for Distant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Distant")
    }
}

impl Distant {
    /// Sends a command about many leases. The command is executed in the middle of the time that the server takes
    /// for it. A command about one lease takes no time.
    async fn send_many<T, C, F>(&self, name: &'static str, count: usize, command: C) -> Result<T>
    where
        T: fmt::Debug + Send + 'static,
        C: FnOnce(Arc<dyn Region>) -> F + Send + 'static,
        F: Future<Output = Result<T>> + Send,
    {
        let half = self.link.network.weather.per_key * u32::try_from(count).unwrap_or(u32::MAX) / 2;
        if count == 1 || half.is_zero() {
            return self.send(name, command).await;
        }
        let slowly = move |server| async move {
            sleep(half).await;
            let outcome = command(server).await;
            sleep(half).await;
            outcome
        };
        self.send(name, slowly).await
    }

    async fn send<T, C, F>(&self, name: &'static str, command: C) -> Result<T>
    where
        T: fmt::Debug + Send + 'static,
        C: FnOnce(Arc<dyn Region>) -> F + Send + 'static,
        F: Future<Output = Result<T>> + Send,
    {
        if !self.link.is_reachable() {
            return Err(Error::new(ErrorKind::Backend, "not tried: the server is away"));
        }
        let (answer, answered) = oneshot::channel();
        let (server, link) = (Arc::clone(&self.server), Arc::clone(&self.link));
        let epoch = link.network.epoch.load(Ordering::SeqCst);
        tokio::spawn(async move {
            let arrives = link.travel().await;
            if !arrives || link.network.epoch.load(Ordering::SeqCst) != epoch {
                return;
            }
            let outcome = command(server).await;
            link.trace(name, &outcome);
            if link.travel().await {
                let _ = answer.send(outcome);
            }
        });
        let answered = async {
            match answered.await {
                Ok(outcome) => outcome,
                Err(_) => std::future::pending().await,
            }
        };
        let late = |_| Error::new(ErrorKind::Backend, "no answer in time");
        timeout(self.link.network.weather.command_timeout, answered).await.map_err(late)?
    }
}

#[async_trait]
impl Region for Distant {
    fn info(&self) -> Info {
        let Info { partitions, .. } = self.server.info();
        let deadline = self.link.network.weather.command_timeout;
        Info { partitions, deadline, available: self.link.is_reachable() }
    }

    async fn read(&self, keys: &[Key], check: Check) -> Result<ReadMany> {
        let keys = keys.to_vec();
        self.send("read", move |server| async move { server.read(&keys, check).await }).await
    }

    async fn baseline(&self, partition: u16, tags: Option<&Tags>) -> Result<Baseline> {
        let tags = tags.cloned();
        self.send("baseline", move |server| async move { server.baseline(partition, tags.as_ref()).await })
            .await
    }

    async fn acquire(&self, asks: &[(Key, Acquire)]) -> Vec<Result<Acquired>> {
        let (count, asks) = (asks.len(), asks.to_vec());
        let ask = move |server: Arc<dyn Region>| async move { Ok(server.acquire(&asks).await) };
        self.send_many("acquire", count, ask).await.unwrap_or_else(|error| vec![Err(error); count])
    }

    async fn fill(&self, fills: &[Fill]) -> Vec<Result<Filled>> {
        let (count, fills) = (fills.len(), fills.to_vec());
        let fill = move |server: Arc<dyn Region>| async move { Ok(server.fill(&fills).await) };
        self.send_many("fill", count, fill).await.unwrap_or_else(|error| vec![Err(error); count])
    }

    async fn renew(&self, leases: &[(Key, Lease)], ttl: Duration) -> Result<Vec<Renewed>> {
        let (count, leases) = (leases.len(), leases.to_vec());
        let renew = move |server: Arc<dyn Region>| async move { server.renew(&leases, ttl).await };
        self.send_many("renew", count, renew).await
    }

    async fn release(&self, leases: &[(Key, Lease)]) -> Result<()> {
        let (count, leases) = (leases.len(), leases.to_vec());
        let release = move |server: Arc<dyn Region>| async move { server.release(&leases).await };
        self.send_many("release", count, release).await
    }

    async fn put(&self, entries: &[(Key, Bytes)], life: Duration, not_after_ms: u64) -> Result<Vec<u64>> {
        let entries = entries.to_vec();
        self.send("put", move |server| async move { server.put(&entries, life, not_after_ms).await }).await
    }

    async fn invalidate(&self, keys: &[Key]) -> Result<Vec<u64>> {
        let keys = keys.to_vec();
        self.send("invalidate", move |server| async move { server.invalidate(&keys).await }).await
    }

    async fn invalidate_tags(&self, partition: u16, tags: &Tags) -> Result<u64> {
        let tags = tags.clone();
        let change =
            move |server: Arc<dyn Region>| async move { server.invalidate_tags(partition, &tags).await };
        self.send("invalidate_tags", change).await
    }

    async fn expire(&self, keys: &[Key]) -> Result<Vec<u64>> {
        let keys = keys.to_vec();
        self.send("expire", move |server| async move { server.expire(&keys).await }).await
    }

    async fn expire_tags(&self, partition: u16, tags: &Tags) -> Result<u64> {
        let tags = tags.clone();
        let change = move |server: Arc<dyn Region>| async move { server.expire_tags(partition, &tags).await };
        self.send("expire_tags", change).await
    }

    async fn clear(&self, partition: u16) -> Result<u64> {
        self.send("clear", move |server| async move { server.clear(partition).await }).await
    }

    async fn heartbeat(&self, partition: u16, beat: u64) -> Result<Pulse> {
        self.send("heartbeat", move |server| async move { server.heartbeat(partition, beat).await }).await
    }
}
