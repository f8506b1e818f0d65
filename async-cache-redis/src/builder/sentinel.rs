//! The settings of a builder about Sentinels.

use async_cache_core::{BoxError, Result};

use super::RedisBackendBuilder;
use crate::connection::credentials::{Credentials, Provider};
use crate::connection::sentinel::settings::Watched;
#[cfg(feature = "tls")]
use crate::connection::tls::Tls;
use crate::parts::Target;

impl RedisBackendBuilder {
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
    pub fn sentinel_credentials<F, Fut>(mut self, provider: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Credentials, BoxError>> + Send + 'static,
    {
        self.settings.sentinels.provider = Some(Provider::new(provider));
        self
    }

    /// How to speak TLS with the Sentinels, if it differs from that with the servers. Their URLs say `rediss://`.
    #[cfg(feature = "tls")]
    pub fn sentinel_tls(mut self, tls: Tls) -> Self {
        self.settings.sentinels.tls = Some(tls);
        self
    }
}
