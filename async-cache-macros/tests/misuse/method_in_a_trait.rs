use async_cache::{TieredCache, cached};

trait Finder: Clone + Send + Sync + 'static {
    fn cache(&self) -> &TieredCache<String, u64>;

    #[cached(cache = self.cache(), skip(self))]
    async fn find(&self, id: u64) -> u64 {
        id
    }
}

trait Declared {
    #[cached(cache = CACHE, skip(self))]
    async fn find(&self, id: u64) -> u64;
}

fn main() {}
