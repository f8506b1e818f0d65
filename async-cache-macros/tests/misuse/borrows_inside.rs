use async_cache::{TieredCache, cached};

type Cache = TieredCache<String, u64>;

#[cached(cache = cache, skip(cache))]
async fn find(cache: &Cache, name: Vec<&str>) -> u64 {
    0
}

fn main() {}
