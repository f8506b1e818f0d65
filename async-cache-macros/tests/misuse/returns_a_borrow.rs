use async_cache::{TieredCache, cached};

type Cache = TieredCache<String, u64>;

#[cached(cache = cache, skip(cache))]
async fn find<'a>(cache: &Cache, name: &'a str) -> &'a str {
    name
}

fn main() {}
