//! The settings of a builder about several servers: a Redis Cluster, or a master that Sentinels watch.

#[cfg(feature = "sentinel")]
use async_cache_core::{BoxError, Result};

use super::RedisBackendBuilder;
#[cfg(feature = "sentinel")]
use crate::connection::credentials::{Credentials, Provider};
#[cfg(feature = "sentinel")]
use crate::connection::sentinel::settings::Watched;
#[cfg(all(feature = "sentinel", feature = "tls"))]
use crate::connection::tls::Tls;
use crate::parts::Target;

impl RedisBackendBuilder {
    /// A Redis Cluster of Redis 7.0 or later, or Valkey, by the URLs of some of its nodes. The others are found.
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
}
