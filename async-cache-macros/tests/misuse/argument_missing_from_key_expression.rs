use async_cache::cached;

#[cached(cache = cache, key = format!("user:{id}"), skip(cache))]
async fn find(cache: &async_cache::TieredCache<String, u64>, team: u32, id: u64) -> u64 {
    id
}

fn main() {}
