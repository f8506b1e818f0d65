//! The setting of a builder about a Redis Cluster.

use super::RedisBackendBuilder;
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
    pub fn cluster<U: Into<String>>(mut self, urls: impl IntoIterator<Item = U>) -> Self {
        self.settings.target = Target::Cluster(urls.into_iter().map(Into::into).collect());
        self
    }
}
