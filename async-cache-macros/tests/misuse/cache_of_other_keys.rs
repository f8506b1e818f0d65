use async_cache::cached;

#[cached(cache = cache, skip(cache))]
async fn double(cache: &async_cache::TieredCache<u64, u64>, id: u64) -> u64 {
    id * 2
}

fn main() {}
