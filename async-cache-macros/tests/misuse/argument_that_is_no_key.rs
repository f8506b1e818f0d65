use async_cache::{TieredCache, cached};

#[derive(Clone)]
struct Filter;

#[cached(cache = cache, skip(cache))]
async fn find(cache: &TieredCache<String, u64>, filter: Filter) -> u64 {
    0
}

fn main() {}
