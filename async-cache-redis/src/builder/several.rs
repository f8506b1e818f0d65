//! The settings of a builder about several servers: a Redis Cluster, or a master with replicas.

#[cfg(feature = "sentinel")]
use async_cache_core::{BoxError, Result};

use super::RedisBackendBuilder;
#[cfg(feature = "sentinel")]
use crate::connection::credentials::{Credentials, Provider};
use crate::connection::replicas::SubscribeOn;
#[cfg(feature = "sentinel")]
use crate::connection::sentinel::settings::Watched;
#[cfg(all(feature = "sentinel", feature = "tls"))]
use crate::connection::tls::Tls;
use crate::parts::Target;

impl RedisBackendBuilder {
    /// A Redis Cluster of Redis 6.0 or later, or Valkey, by the URLs of some of its nodes. The others are found.
    ///
    /// The nodes have the same user, password and kind of encryption. Which node is given does not matter, and one that
    /// answers suffices: the name of a service that leads to any of them will do. The nodes must be reachable at the
    /// addresses that they tell.
    ///
    /// ```no_run
    /// # async fn example() -> async_cache_core::Result<()> {
    /// use async_cache_redis::RedisBackend;
    ///
    /// let redis = RedisBackend::builder().cluster(["redis://n1:6379", "redis://n2:6379"]).connect().await?;
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "cluster")]
    pub fn cluster<U: Into<String>>(mut self, urls: impl IntoIterator<Item = U>) -> Self {
        self.settings.target = Target::Cluster(urls.into_iter().map(Into::into).collect());
        self
    }

    /// The master that these Sentinels watch under the name `master`: `redis://[user[:password]@]host[:port][/database]`
    /// for each Sentinel, 1 to 32 of them. The port is 26379 unless given (feature `sentinel`).
    ///
    /// Each connection, for commands and for messages, is made to the server that is the master at that time. All
    /// Sentinels are asked at once; of different answers the newest is tried first; and the server must say itself that
    /// it is a master. Until there is one, caches are in an outage, and attempts go on.
    ///
    /// User, password, database and scheme hold for the servers. A Sentinel is given the servers' user and password if it
    /// asks for some, and is spoken to by TLS if its URL says `rediss://`. See
    /// [`sentinel_credentials`](Self::sentinel_credentials) and `sentinel_tls` for what differs. With
    /// `redis://` and `tls` the servers speak TLS, and the Sentinels do not.
    ///
    /// ```no_run
    /// # async fn example() -> async_cache_core::Result<()> {
    /// use async_cache_redis::RedisBackend;
    ///
    /// let redis = RedisBackend::builder()
    ///     .sentinel("mymaster", ["redis://:secret@s1.internal", "redis://:secret@s2.internal"])
    ///     .connect()
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "sentinel")]
    pub fn sentinel(
        mut self,
        master: impl Into<String>,
        urls: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        let urls = urls.into_iter().map(Into::into).collect();
        self.settings.target = Target::Sentinels(Watched { master: master.into(), urls });
        self
    }

    /// Asks `provider` for the credentials of each connection to a Sentinel, instead of using the servers'.
    #[cfg(feature = "sentinel")]
    pub fn sentinel_credentials<F, Fut>(mut self, provider: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Credentials, BoxError>> + Send + 'static,
    {
        self.settings.sentinels.provider = Some(Provider::new(provider));
        self
    }

    /// How to speak TLS with the Sentinels, if it differs from that with the servers. Their URLs say `rediss://`.
    #[cfg(all(feature = "sentinel", feature = "tls"))]
    pub fn sentinel_tls(mut self, tls: Tls) -> Self {
        self.settings.sentinels.tls = Some(tls);
        self
    }

    /// Several addresses of one server, or those of a master and its replicas: 1 to 16 URLs, which differ in the address
    /// alone.
    ///
    /// At each connection, for commands and for messages, all of them are asked at once. The first one is used whose server
    /// says that it is the master. Replicas are passed over until one is promoted. Two different servers that both say that
    /// they are the master are refused, because a node at one would not hear of changes at the other: an error of kind
    /// [`Config`](async_cache_core::ErrorKind::Config), or an outage if it happens later. It is noticed only where both
    /// can be reached: whoever promotes a replica must see to it that the old master serves nobody, as Sentinels do (feature
    /// `sentinel`).
    ///
    /// ```no_run
    /// # async fn example() -> async_cache_core::Result<()> {
    /// use async_cache_redis::RedisBackend;
    ///
    /// let redis = RedisBackend::builder().urls(["redis://r1.internal", "redis://r2.internal"]).connect().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn urls<U: Into<String>>(mut self, urls: impl IntoIterator<Item = U>) -> Self {
        self.settings.target = Target::Urls(urls.into_iter().map(Into::into).collect());
        self
    }

    /// Where the messages about changes are received: on the master unless set.
    ///
    /// With [`SubscribeOn::Replicas`] each node chooses one of the replicas that the master tells of in
    /// `INFO replication`, at random. That divides the work of sending each message to all nodes. Everything else still goes
    /// to the master. The master is used if no replica can be reached at the address that the master tells, with the same
    /// user, password and encryption, or if none keeps up; and then for as long as the connection lives. A replica that
    /// lags makes invalidations arrive later, but no promise depends on it: see the page `docs/operations.md` of the
    /// repository.
    ///
    /// It needs [`IdentifyBy::Info`](crate::IdentifyBy::Info), and is not for a Redis Cluster or a [`pool`](Self::pool).
    pub fn subscribe_on(mut self, servers: SubscribeOn) -> Self {
        self.settings.subscribe_on = servers;
        self
    }
}
