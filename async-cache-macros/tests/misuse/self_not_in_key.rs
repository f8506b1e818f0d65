use async_cache::{TieredCache, cached};

type Cache = TieredCache<String, u64>;

struct Service(Cache);

impl Service {
    #[cached(cache = self.0)]
    async fn find(&self, id: u64) -> u64 {
        id
    }
}

fn main() {}
