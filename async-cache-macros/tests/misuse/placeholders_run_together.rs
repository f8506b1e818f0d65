use async_cache::{TieredCache, cached};

type Cache = TieredCache<String, u64>;

#[cached(cache = cache, key = "{a}-{b}", skip(cache))]
async fn find(cache: &Cache, a: String, b: String) -> u64 {
    0
}

fn main() {}
