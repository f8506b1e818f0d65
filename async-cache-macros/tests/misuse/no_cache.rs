use async_cache::{TieredCache, cached};

type Cache = TieredCache<String, u64>;

#[cached(ttl = "5m")]
async fn find(id: u64) -> u64 {
    id
}

fn main() {}
