//! The settings of a backend.

use std::fmt;
use std::time::Duration;

use async_cache_core::{BoxError, Result};
use deadpool_redis::Pool;
use futures_util::future::BoxFuture;
use redis::{Client, ConnectionInfo};

use crate::backend::RedisBackend;
use crate::config::RedisConfig;
use crate::connection::credentials::{Credentials, Provider};
use crate::connection::refusals::Address;
use crate::connection::server::{IdentifyBy, UnknownServers};
#[cfg(feature = "tls")]
use crate::connection::tls::Tls;
#[cfg(feature = "testing")]
use crate::faults::Mutant;
#[cfg(feature = "tools")]
use crate::parts::Parts;
use crate::parts::{Settings, Target};
use crate::runtime;
#[cfg(feature = "cluster")]
use crate::topology::cluster::Cluster;

mod several;

/// Settings of a [`RedisBackend`]; made by [`RedisBackend::builder`].
#[must_use = "nothing happens before `connect`"]
pub struct RedisBackendBuilder {
    settings: Settings,
}

impl RedisBackend {
    /// Connects to `redis://[user[:password]@]host[:port][/database]`, or by TLS to `rediss://..` (feature `tls`), and
    /// proves the connection.
    ///
    /// # Errors
    ///
    /// Within two seconds. The error names the fault: a wrong URL or password, no server at the address, a server that
    /// is not Redis. See [`RedisBackendBuilder::connect`].
    pub async fn connect(url: impl AsRef<str>) -> Result<Self> {
        Self::builder().url(url.as_ref()).connect().await
    }

    /// For a service that must start while Redis is away: see [`RedisBackendBuilder::connect_lazy`].
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](async_cache_core::ErrorKind::Config) if the URL is malformed.
    pub async fn connect_lazy(url: impl AsRef<str>) -> Result<Self> {
        Self::builder().url(url.as_ref()).connect_lazy().await
    }

    /// Starts with the defaults.
    pub fn builder() -> RedisBackendBuilder {
        RedisBackendBuilder::new()
    }

    /// Starts with the settings of a configuration file. Await it to connect, or go on building:
    ///
    /// ```no_run
    /// # async fn example(config: async_cache_redis::RedisConfig) -> async_cache_core::Result<()> {
    /// use async_cache_redis::RedisBackend;
    ///
    /// let redis = RedisBackend::from_config(config.clone()).await?;
    /// let redis = RedisBackend::from_config(config).connections(4).connect_lazy().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// A setting that is wrong, or a file that cannot be read, is an error of connecting.
    pub fn from_config(config: RedisConfig) -> RedisBackendBuilder {
        let wrong = |error| Settings { target: Target::Wrong(error), ..Settings::default() };
        RedisBackendBuilder { settings: config.settings().unwrap_or_else(wrong) }
    }

    /// **Escape hatch:** uses the caller's own pool for commands, and `client` to open the
    /// subscriber; both must lead to the same database of the same server.
    ///
    /// Connections are taken out of the pool for good, two unless set by
    /// [`RedisBackendBuilder::connections`]: the pool makes them, and makes new ones when they break, but they do not
    /// count against its size. The caller sets the socket options.
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
        Self { settings: Settings::default() }
    }

    /// The server: `redis://[user[:password]@]host[:port][/database]`, or `unix:///path[?db=1&user=..&pass=..]`.
    ///
    /// `rediss://` asks for TLS (feature `tls`). `valkey://` and `valkeys://` are the same as `redis://` and `rediss://`.
    pub fn url(mut self, url: impl Into<String>) -> Self {
        self.settings.target = Target::Url(url.into());
        self
    }

    /// **Escape hatch:** the server as a type of the `redis` crate, for settings that a URL cannot express.
    ///
    /// TCP_NODELAY is always set; keepalive and user timeout are set unless given.
    pub fn connection_info(mut self, info: ConnectionInfo) -> Self {
        self.settings.target = Target::Info(Box::new(info));
        self
    }

    /// **Escape hatch:** see [`RedisBackend::from_pool`].
    pub fn pool(mut self, pool: Pool, client: Client) -> Self {
        self.settings.target = Target::Pool(pool, Box::new(client));
        self
    }

    /// How to speak TLS with a server at `rediss://` or `valkeys://`. Unless set, the certificate authorities of this
    /// machine are trusted.
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// use async_cache_redis::{RedisBackend, Tls};
    ///
    /// let tls = Tls::new()
    ///     .ca(std::fs::read("ca.pem")?)
    ///     .client_cert(std::fs::read("client.pem")?, std::fs::read("client.key")?);
    /// let redis = RedisBackend::builder().url("rediss://cache.internal:6380").tls(tls).connect().await?;
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "tls")]
    pub fn tls(mut self, tls: Tls) -> Self {
        self.settings.tls = Some(tls);
        self
    }

    /// Asks `provider` for the credentials of each connection, when it is made: for tokens that expire, and passwords
    /// that are changed. The address then has no credentials.
    ///
    /// A connection keeps the credentials that it was made with, until it is lost. If the provider fails, panics, or
    /// takes longer than [`credentials_timeout`](Self::credentials_timeout), the attempt to connect fails, and is
    /// repeated as any other. While the server is away, each attempt calls the provider, several times a second. So if
    /// issuing a token is slow, limited or billed, the provider must keep the token while it is valid.
    ///
    /// ```no_run
    /// # async fn token() -> std::io::Result<String> { Ok(String::new()) }
    /// # async fn example() -> async_cache_core::Result<()> {
    /// use async_cache_redis::{Credentials, RedisBackend};
    ///
    /// let redis = RedisBackend::builder()
    ///     .url("redis://cache.internal")
    ///     .credentials(|| async { Ok(Credentials::new("app", token().await?)) })
    ///     .connect()
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn credentials<F, Fut>(mut self, provider: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Credentials, BoxError>> + Send + 'static,
    {
        self.settings.provider = Some(Provider::new(provider));
        self
    }

    /// Deadline of the credentials provider: 5 s unless set. It is apart from
    /// [`connect_timeout`](Self::connect_timeout).
    pub fn credentials_timeout(mut self, limit: Duration) -> Self {
        self.settings.credentials_timeout = limit;
        self
    }

    /// Connections for commands, each shared by any number of tasks: 1 to 64, 2 unless set. One more is
    /// for the bus.
    ///
    /// Commands use them in turn. Reads of single keys use one of them until it is crowded, so that reads
    /// that are under way at the same time share commands.
    pub fn connections(mut self, count: usize) -> Self {
        self.settings.connections = count;
        self
    }

    /// Partitions of each namespace: 1 to 1024. Unless set, 1, and 64 in a cluster.
    ///
    /// Part of the storage format: every node of a namespace must use the same number, and a
    /// node that uses another is refused. More than one is of use on a Redis Cluster only: each
    /// partition is on one of its masters.
    pub fn partitions(mut self, count: u16) -> Self {
        self.settings.partitions = Some(count);
        self
    }

    /// Deadline of every command, 500 ms unless set: [`read_timeout`](Self::read_timeout) and
    /// [`write_timeout`](Self::write_timeout) in one.
    ///
    /// Operations on many keys send pipelines of at most 512 keys or 4 MiB, each with this deadline. Three missed
    /// deadlines in a row close a connection, reads and writes counted together.
    pub fn command_timeout(self, limit: Duration) -> Self {
        self.read_timeout(limit).write_timeout(limit)
    }

    /// Deadline of the commands that a lookup waits for: reading values, asking for the lease to load one, reading the
    /// state of the namespace, heartbeats. A lookup may wait for it twice, once for the value and once for the lease.
    /// Then its cache's outage policy decides.
    pub fn read_timeout(mut self, limit: Duration) -> Self {
        self.settings.deadlines.read = limit;
        self
    }

    /// Deadline of the commands that change something: storing values, invalidating keys and tags, clearing, renewing
    /// and releasing leases. If an insert misses it, Redis never executes the insert afterwards.
    pub fn write_timeout(mut self, limit: Duration) -> Self {
        self.settings.deadlines.write = limit;
        self
    }

    /// Deadline for making a connection, handshake included: 1 s unless set.
    pub fn connect_timeout(mut self, limit: Duration) -> Self {
        self.settings.connect_timeout = limit;
        self
    }

    /// Values are never read from replicas: one that lags behind would answer with a value that was invalidated. So
    /// `false` changes nothing, and `true` is an error of connecting. It is here for settings that say so.
    pub fn read_from_replicas(mut self, read: bool) -> Self {
        self.settings.reads_replicas = read;
        self
    }

    /// With `true`, servers are used that are neither Redis nor Valkey, at the caller's own risk: old values might be
    /// served. `false` unless set: such servers are refused by name. Servers that are known to be unsafe, such as
    /// Garnet, are always refused.
    pub fn allow_unknown_server(mut self, allow: bool) -> Self {
        self.settings.unknown = if allow { UnknownServers::Allow } else { UnknownServers::Refuse };
        self
    }

    /// How a node knows that the same server process answers it as before: by `INFO` unless set.
    ///
    /// [`IdentifyBy::Scripts`] is for a user that may not run `INFO`, and for a proxy that leads an open connection to
    /// another server. It needs the right `+script|exists`, Redis 7 or later or Valkey, and one partition. A Redis
    /// Cluster is refused: use [`IdentifyBy::Info`] there. A proxy must not load scripts by itself. All nodes of a
    /// namespace must be set alike: the first one with scripts shuts the others out.
    pub fn identify_server_by(mut self, identify: IdentifyBy) -> Self {
        self.settings.identify = identify;
        self
    }

    /// Breaks one rule of the Redis tier, to show that a test fails then. Rules of connections and maps are broken for
    /// all backends of this process.
    #[cfg(feature = "testing")]
    #[doc(hidden)]
    pub fn mutant(mut self, mutant: Mutant) -> Self {
        match mutant.scripts() {
            Some(scripts) => self.settings.scripts = scripts,
            None => mutant.plant(),
        }
        self
    }

    /// The parts of a backend on one server, and the deadline of a command. For a cluster they are the parts for the
    /// first node that is named.
    #[cfg(feature = "tools")]
    pub(crate) fn prepare(self) -> Result<(Parts, Duration)> {
        let limit = self.settings.deadlines.longest();
        Ok((self.settings.prepare()?, limit))
    }

    /// The settings if they are those of a cluster, and otherwise the builder.
    #[cfg(all(feature = "cluster", feature = "tools"))]
    pub(crate) fn into_cluster(self) -> Result<Settings, Box<Self>> {
        match self.settings.target {
            Target::Cluster(_) => Ok(self.settings),
            _ => Err(Box::new(self)),
        }
    }

    /// Checks the settings as far as that needs no server.
    #[cfg(feature = "tools")]
    pub(crate) fn check(self) -> Result<()> {
        match self.settings.target {
            #[cfg(feature = "cluster")]
            Target::Cluster(_) => self.settings.validate(),
            _ => self.settings.prepare().map(drop),
        }
    }

    /// Connects, and proves the connection and the rights of the user. Must be called inside a Tokio runtime,
    /// where the background tasks will run. If that runtime ends while the backend is still used on another
    /// one, it connects again there.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](async_cache_core::ErrorKind::Config) for faults that only a change of settings can mend: a wrong URL, a wrong
    /// password, a missing right or command, a database there is not, a server that is a replica, a Sentinel, too old
    /// or a cluster; and for a call outside a Tokio runtime, or in one without timers or I/O. [`ErrorKind::Backend`](async_cache_core::ErrorKind::Backend) if
    /// the server cannot be reached or does not speak Redis.
    pub async fn connect(self) -> Result<RedisBackend> {
        self.connect_boxed().await
    }

    /// Connects for a service that must start while Redis is away: one attempt is made, and if it fails, others
    /// follow in the background. Until one succeeds, caches on this backend are in an outage.
    ///
    /// Some faults only a change of settings can mend. Attempts to connect go on, and meanwhile caches report the
    /// fault: calls that need Redis and [`ready`](async_cache_core::TieredCache::ready) fail with
    /// [`ErrorKind::Config`](async_cache_core::ErrorKind::Config), and
    /// [`Event::L2Refused`](async_cache_core::Event::L2Refused) is sent.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](async_cache_core::ErrorKind::Config) for invalid settings, such as a malformed URL or a
    /// limit out of range; and for a call outside a Tokio runtime, or in one without timers or I/O.
    pub async fn connect_lazy(self) -> Result<RedisBackend> {
        self.connect_lazy_boxed().await
    }

    // Every crate that awaits an `async fn` compiles its body, and what that awaits, once more. So these two are functions that
    // return a box: their bodies are compiled in this crate alone.

    fn connect_boxed(self) -> BoxFuture<'static, Result<RedisBackend>> {
        Box::pin(async move {
            runtime::check()?;
            #[cfg(feature = "cluster")]
            if matches!(self.settings.target, Target::Cluster(_)) {
                return Ok(RedisBackend::of_cluster(Cluster::connect(self.settings).await?));
            }
            let parts = self.settings.prepare()?;
            let link = parts.connector.link().await;
            let proven = match link {
                Ok(link) => parts.subscriber.prove().await.map(|()| link),
                Err(refusal) => Err(refusal),
            };
            match proven {
                Ok(link) => Ok(RedisBackend::of_server(parts.build(Ok(link)))),
                Err(refusal) => Err(parts.connector.explain(refusal, &parts.secrets).await),
            }
        })
    }

    fn connect_lazy_boxed(self) -> BoxFuture<'static, Result<RedisBackend>> {
        Box::pin(async move {
            runtime::check()?;
            #[cfg(feature = "cluster")]
            if matches!(self.settings.target, Target::Cluster(_)) {
                return Ok(RedisBackend::of_cluster(Cluster::connect_lazy(self.settings).await?));
            }
            let parts = self.settings.prepare()?;
            let link = parts.connector.link().await;
            let first = link.map_err(|refusal| refusal.outage(&parts.secrets, Address::Unproven));
            Ok(RedisBackend::of_server(parts.build(first)))
        })
    }
}

/// [`connect`](RedisBackendBuilder::connect).
impl IntoFuture for RedisBackendBuilder {
    type Output = Result<RedisBackend>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        self.connect_boxed()
    }
}

impl fmt::Debug for RedisBackendBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the target: it holds credentials.
        let Settings { connections, partitions, deadlines, connect_timeout, credentials_timeout, .. } =
            &self.settings;
        f.debug_struct("RedisBackendBuilder")
            .field("connections", connections)
            .field("partitions", partitions)
            .field("read_timeout", &deadlines.read)
            .field("write_timeout", &deadlines.write)
            .field("connect_timeout", connect_timeout)
            .field("credentials_timeout", credentials_timeout)
            .finish_non_exhaustive()
    }
}
