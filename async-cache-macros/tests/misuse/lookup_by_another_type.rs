use async_cache::TieredCache;

async fn find(cache: &TieredCache<u64, u64>) {
    let _ = cache.get("42").await;
}

fn main() {}
