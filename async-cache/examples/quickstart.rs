//! One process, one tier: `cargo run --example quickstart`.
//!
//! A thousand tasks ask for one row at once, and the database gets one query.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_cache::{Error, MemoryBackend, TieredCache};

/// Replaces a query that takes 100 ms.
async fn query(queries: Arc<AtomicUsize>, id: u64) -> Result<String, std::io::Error> {
    queries.fetch_add(1, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_millis(100)).await;
    Ok(format!("user {id}"))
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let users: TieredCache<u64, String> = TieredCache::builder()
        .namespace("users")
        .l1(MemoryBackend::new(10_000))
        .ttl(Duration::from_secs(300))
        .build()?;

    let queries = Arc::new(AtomicUsize::new(0));
    let begun = Instant::now();
    let tasks: Vec<_> = (0..1000)
        .map(|_| {
            let (users, queries) = (users.clone(), Arc::clone(&queries));
            tokio::spawn(async move { users.get_or_load(&42, move || query(queries, 42)).await })
        })
        .collect();
    for task in tasks {
        assert_eq!(*task.await.expect("no panic")?, "user 42");
    }
    println!("1000 tasks, {} query, {:?}", queries.load(Ordering::Relaxed), begun.elapsed());
    assert_eq!(queries.load(Ordering::Relaxed), 1);

    users.invalidate(&42).await?;
    assert!(users.get(&42).await?.is_none());
    println!("after invalidate: {:?}, hit rate {:.3}", users.get(&42).await?, users.stats().hit_rate());
    Ok(())
}
