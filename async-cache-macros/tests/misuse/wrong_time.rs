use async_cache::{TieredCache, cached};

type Cache = TieredCache<String, u64>;

#[cached(cache = cache, ttl = "5 parsecs", skip(cache))]
async fn find(cache: &Cache, id: u64) -> u64 {
    id
}

fn main() {}
