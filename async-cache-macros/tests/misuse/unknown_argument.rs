use async_cache::{TieredCache, cached};

type Cache = TieredCache<String, u64>;

#[cached(cache = cache, time_to_live = "5m", skip(cache))]
async fn find(cache: &Cache, id: u64) -> u64 {
    id
}

fn main() {}
