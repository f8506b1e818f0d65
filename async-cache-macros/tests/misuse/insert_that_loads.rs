use async_cache::TieredCache;
use std::time::Duration;

async fn store(cache: &TieredCache<u64, u64>) {
    let limit = Duration::from_secs(1);
    let _ = cache.insert(&1, 1).load_timeout(limit).await;
    let _ = cache.insert_many([(1, 1)]).soft_timeout(limit).await;
    let _ = cache.insert(&1, 1).negative_ttl(limit).await;
}

async fn reload(cache: &TieredCache<u64, u64>) {
    let load = || async { Ok::<u64, std::io::Error>(1) };
    let _ = cache.refresh(&1, load).stale_while_revalidate(true).await;
}

fn main() {}
