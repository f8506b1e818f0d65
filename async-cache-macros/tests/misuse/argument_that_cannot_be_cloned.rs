use async_cache::{TieredCache, cached};

type Cache = TieredCache<String, u64>;

struct Connection;

#[cached(cache = cache, skip(cache, connection))]
async fn find(cache: &Cache, connection: &Connection, id: u64) -> u64 {
    let _ = connection;
    id
}

fn main() {}
