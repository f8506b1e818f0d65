//! The settings of a builder about a master with replicas, without Sentinels.

use super::RedisBackendBuilder;
use crate::connection::replicas::SubscribeOn;
use crate::parts::Target;

impl RedisBackendBuilder {
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
