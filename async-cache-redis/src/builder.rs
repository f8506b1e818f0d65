//! The settings of a backend.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_cache_core::{Error, ErrorKind, Result};
use deadpool_redis::Pool;
use redis::{Client, ConnectionInfo};

use crate::backend::RedisBackend;
use crate::connection::connect::Connector;
use crate::connection::failure::{Outage, Secrets};
use crate::connection::link::Link;
use crate::connection::settings;
use crate::connection::slots::Slots;
#[cfg(feature = "testing")]
use crate::faults::Mutant;
use crate::inner::Inner;
use crate::limits::Deadlines;
use crate::lua::{self, Scripts};
use crate::pubsub::bus::Bus;
use crate::pubsub::subscriber::{Progress, Subscriber};

/// Most connections for commands.
const MAX_CONNECTIONS: usize = 64;
/// Deadline of operations, unless set.
const DEADLINE: Duration = Duration::from_millis(500);
/// Most partitions.
const MAX_PARTITIONS: u16 = 1024;

/// Settings of a [`RedisBackend`]; made by [`RedisBackend::builder`].
#[must_use = "nothing happens before `connect`"]
pub struct RedisBackendBuilder {
    target: Target,
    connections: usize,
    partitions: u16,
    deadlines: Deadlines,
    connect_timeout: Duration,
    scripts: &'static Scripts,
}

enum Target {
    Missing,
    Url(String),
    Info(Box<ConnectionInfo>),
    Pool(Pool, Box<Client>),
}

impl RedisBackend {
    /// Connects to `redis://[user[:password]@]host[:port][/database]` and proves the connection.
    ///
    /// # Errors
    ///
    /// Within two seconds, saying which: a wrong URL or password, no server there, a server that
    /// is not Redis. See [`RedisBackendBuilder::connect`].
    pub async fn connect(url: impl AsRef<str>) -> Result<Self> {
        Self::builder().url(url.as_ref()).connect().await
    }

    /// For a service that must start while Redis is away: see [`RedisBackendBuilder::connect_lazy`].
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`] if the URL is wrong by itself.
    pub async fn connect_lazy(url: impl AsRef<str>) -> Result<Self> {
        Self::builder().url(url.as_ref()).connect_lazy().await
    }

    /// Starts with the defaults.
    pub fn builder() -> RedisBackendBuilder {
        RedisBackendBuilder::new()
    }

    /// **Escape hatch:** uses the caller's own pool for commands, and `client` to open the
    /// subscriber; both must lead to the same database of the same server.
    ///
    /// Connections are taken out of the pool for good, two unless set by
    /// [`RedisBackendBuilder::connections`]: the pool makes them, and makes new ones when they
    /// break, but they do not count against its size. Socket options are the caller's business.
    ///
    /// # Errors
    ///
    /// As [`RedisBackendBuilder::connect`].
    pub async fn from_pool(pool: Pool, client: Client) -> Result<Self> {
        Self::builder().pool(pool, client).connect().await
    }
}

impl RedisBackendBuilder {
    fn new() -> Self {
        Self {
            target: Target::Missing,
            connections: 2,
            partitions: 1,
            deadlines: Deadlines { read: DEADLINE, write: DEADLINE },
            connect_timeout: Duration::from_secs(1),
            scripts: lua::scripts(),
        }
    }

    /// The server: `redis://[user[:password]@]host[:port][/database]`, or `unix:///path`.
    pub fn url(mut self, url: impl Into<String>) -> Self {
        self.target = Target::Url(url.into());
        self
    }

    /// **Escape hatch:** the server, in the words of the `redis` crate, for what a URL cannot say.
    ///
    /// TCP_NODELAY is always set; keepalive and user timeout are set unless given.
    pub fn connection_info(mut self, info: ConnectionInfo) -> Self {
        self.target = Target::Info(Box::new(info));
        self
    }

    /// **Escape hatch:** see [`RedisBackend::from_pool`].
    pub fn pool(mut self, pool: Pool, client: Client) -> Self {
        self.target = Target::Pool(pool, Box::new(client));
        self
    }

    /// Connections for commands, each shared by any number of tasks: 1 to 64, 2 unless set. One more is
    /// for the bus.
    ///
    /// Commands use them in turn. Reads of single keys use one of them until it is crowded, so that reads
    /// that are under way at the same time share commands.
    pub fn connections(mut self, count: usize) -> Self {
        self.connections = count;
        self
    }

    /// Partitions of each namespace: 1 to 1024, 1 unless set.
    ///
    /// Part of the storage format: every node of a namespace must use the same number, and a
    /// node that uses another is refused. More than one is of use on a Redis Cluster only (64
    /// then), which is not supported yet.
    pub fn partitions(mut self, count: u16) -> Self {
        self.partitions = count;
        self
    }

    /// Deadline of every command, 500 ms unless set: [`read_timeout`](Self::read_timeout) and
    /// [`write_timeout`](Self::write_timeout) in one.
    ///
    /// Operations on many keys send pipelines of at most 512 keys or 4 MiB, each of which has the
    /// deadline for itself. Three deadlines in a row, of whichever kind, take a connection down.
    pub fn command_timeout(self, limit: Duration) -> Self {
        self.read_timeout(limit).write_timeout(limit)
    }

    /// Deadline of the commands that a lookup waits for: reading values, asking for the lease to load one,
    /// reading the state of the namespace, heartbeats. A lookup may meet it twice, once for the value
    /// and once for the lease; then its cache's outage policy decides.
    pub fn read_timeout(mut self, limit: Duration) -> Self {
        self.deadlines.read = limit;
        self
    }

    /// Deadline of the commands that change something: storing values, invalidating keys and tags, clearing,
    /// renewing and releasing leases. An insert that has met it is never executed afterwards.
    pub fn write_timeout(mut self, limit: Duration) -> Self {
        self.deadlines.write = limit;
        self
    }

    /// Deadline for making a connection, handshake included: 1 s unless set.
    pub fn connect_timeout(mut self, limit: Duration) -> Self {
        self.connect_timeout = limit;
        self
    }

    /// Breaks one rule of the Redis tier, to show that a proof objects.
    #[cfg(feature = "testing")]
    #[doc(hidden)]
    pub fn mutant(mut self, mutant: Mutant) -> Self {
        self.scripts = mutant.scripts();
        self
    }

    /// Connects, and proves the connection and the rights of the user. Must be called inside a Tokio runtime,
    /// where the background tasks will run. If that runtime ends while the backend is still used on another
    /// one, it connects again there.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`] for faults that only a change of settings can mend: a wrong URL, a wrong
    /// password, a missing right or command, a database there is not, a server that is a replica, a Sentinel, too old
    /// or a cluster. [`ErrorKind::Backend`] if the server cannot be reached or does not speak Redis.
    pub async fn connect(self) -> Result<RedisBackend> {
        let parts = self.prepare()?;
        let proven = async {
            let link = parts.connector.link().await?;
            parts.subscriber.prove().await?;
            Ok(link)
        };
        match proven.await {
            Ok(link) => Ok(parts.build(Ok(link))),
            Err(refusal) => Err(parts.connector.explain(refusal, &parts.secrets).await),
        }
    }

    /// Connects for a service that must start while Redis is away: one attempt is made, and if it fails, others
    /// follow in the background. Until one succeeds, caches on this backend are in an outage.
    ///
    /// Caches tell a fault that only a change of settings can mend, while attempts to connect go on: calls that
    /// need Redis and [`ready`](async_cache_core::TieredCache::ready) fail with [`ErrorKind::Config`], and
    /// [`Event::L2Refused`](async_cache_core::Event::L2Refused) is sent.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`] for settings that are wrong by themselves: a URL that is none, a limit out of range.
    pub async fn connect_lazy(self) -> Result<RedisBackend> {
        let parts = self.prepare()?;
        let link = parts.connector.link().await;
        let first = link.map_err(|refusal| refusal.outage(&parts.secrets));
        Ok(parts.build(first))
    }

    fn prepare(self) -> Result<Parts> {
        self.validate()?;
        let Self { target, connections, partitions, deadlines, connect_timeout, scripts } = self;
        let longest = deadlines.longest();
        let lengthened = matches!(target, Target::Pool(..)).then(|| longest.max(connect_timeout));
        let (pool, client) = match target {
            Target::Missing => return Err(wrong("no server given: call `url`")),
            Target::Url(url) => ours(settings::parse(&url)?, connections, connect_timeout)?,
            Target::Info(info) => ours(*info, connections, connect_timeout)?,
            Target::Pool(pool, client) => (pool, settings::subscriber(client.get_connection_info())?),
        };
        let info = client.get_connection_info();
        let secrets = Secrets::new(info.redis_settings().password());
        let addr = info.addr().clone();
        let connector = Arc::new(Connector::new(pool, addr, connect_timeout, lengthened, scripts));
        let bus = Arc::new(Bus::new());
        let subscriber = Subscriber {
            client,
            bus,
            connect_timeout,
            command_timeout: longest,
            secrets: secrets.clone(),
            progress: Progress::default(),
        };
        Ok(Parts { connector, subscriber, secrets, connections, partitions, deadlines })
    }

    fn validate(&self) -> Result<()> {
        if !(1..=MAX_CONNECTIONS).contains(&self.connections) {
            return Err(wrong(format!(
                "connections must be 1 to {MAX_CONNECTIONS}, not {}",
                self.connections
            )));
        }
        if !(1..=MAX_PARTITIONS).contains(&self.partitions) {
            return Err(wrong(format!("partitions must be 1 to {MAX_PARTITIONS}, not {}", self.partitions)));
        }
        let Deadlines { read, write } = self.deadlines;
        if read.min(write).min(self.connect_timeout).is_zero() {
            return Err(wrong("a timeout of zero lets nothing through"));
        }
        Ok(())
    }
}

/// The parts of a backend, before it is known whether it connects.
struct Parts {
    connector: Arc<Connector>,
    subscriber: Subscriber,
    secrets: Secrets,
    connections: usize,
    partitions: u16,
    deadlines: Deadlines,
}

impl Parts {
    fn build(self, first: Result<Link, Outage>) -> RedisBackend {
        let Self { connector, subscriber, secrets, connections, partitions, deadlines } = self;
        let server = subscriber.client.get_connection_info().addr().to_string();
        let slots = Arc::new(Slots::new(first, connections, deadlines, secrets));
        let inner = Inner::new(server, partitions, slots, connector, subscriber);
        RedisBackend { inner: Arc::new(inner) }
    }
}

fn ours(info: ConnectionInfo, connections: usize, connect_timeout: Duration) -> Result<(Pool, Client)> {
    let info = settings::with_tcp_defaults(info);
    let client = settings::subscriber(&info)?;
    Ok((settings::pool(info, connections, connect_timeout)?, client))
}

fn wrong(what: impl fmt::Display) -> Error {
    Error::new(ErrorKind::Config, format!("building a RedisBackend: {what}"))
}

impl fmt::Debug for RedisBackendBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the target: it holds credentials.
        f.debug_struct("RedisBackendBuilder")
            .field("connections", &self.connections)
            .field("partitions", &self.partitions)
            .field("read_timeout", &self.deadlines.read)
            .field("write_timeout", &self.deadlines.write)
            .field("connect_timeout", &self.connect_timeout)
            .finish_non_exhaustive()
    }
}
