use async_cache::cached;

#[cached(cache = cache, skip(cache), negative_ttl = "5s")]
async fn find(cache: &async_cache::TieredCache<String, u64>, id: u64) -> u64 {
    id
}

fn main() {}
