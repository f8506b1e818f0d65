//! Missing rows: `cargo run --example negative_caching`.
//!
//! Without cached absences, every request for a missing id reaches the database.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_cache::{Error, MemoryBackend, TieredCache};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let users: TieredCache<u64, String> = TieredCache::builder()
        .namespace("users")
        .l1(MemoryBackend::new(10_000))
        .ttl(Duration::from_secs(300))
        // Short, because a row that is created without an `invalidate` shows only after this time.
        .negative_ttl(Duration::from_secs(5))
        .build()?;

    let queries = Arc::new(AtomicUsize::new(0));
    let find = |id: u64| {
        let queries = Arc::clone(&queries);
        move || async move {
            queries.fetch_add(1, Ordering::Relaxed);
            Ok::<_, std::io::Error>((id < 100).then(|| format!("user {id}")))
        }
    };
    for _ in 0..1000 {
        assert!(users.get_or_load_optional(&666, find(666)).await?.is_none());
    }
    println!("1000 lookups of a row that is not there: {} query", queries.load(Ordering::Relaxed));
    assert_eq!(queries.load(Ordering::Relaxed), 1);

    // The row is created: insert or invalidate, as for any other change.
    users.insert(&666, "user 666".to_owned()).await?;
    println!("{:?}", users.get_or_load_optional(&666, find(666)).await?);
    Ok(())
}
