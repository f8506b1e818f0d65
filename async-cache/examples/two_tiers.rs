//! Two nodes on one shared tier: `cargo run --example two_tiers [-- redis://127.0.0.1:6379]`.
//!
//! Without a URL the shared tier is inside this process, and the output does not change.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_cache::backend::Backend;
use async_cache::{Error, MemoryBackend, RedisBackend, TieredCache};

type Prices = TieredCache<String, u64>;

/// A node of the service. On Redis each node has its own connections, as in separate processes.
async fn node(url: Option<&str>, shared: &MemoryBackend) -> Result<Prices, Error> {
    let l2: Arc<dyn Backend> = match url {
        Some(url) => Arc::new(RedisBackend::connect(url).await?),
        None => Arc::new(shared.clone()),
    };
    TieredCache::builder().namespace("prices").l1(MemoryBackend::new(1000)).l2(l2).build()
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let url = std::env::args().nth(1);
    let shared = MemoryBackend::new(10_000);
    let (one, two) = (node(url.as_deref(), &shared).await?, node(url.as_deref(), &shared).await?);
    one.invalidate_all().await?; // removes the entries of an earlier run
    while !two.is_serving() {
        tokio::time::sleep(Duration::from_millis(1)).await; // until it receives the changes of others, its L1 does not answer
    }

    // The row, and how often it was read.
    let (price, reads) = (Arc::new(AtomicU64::new(100)), Arc::new(AtomicU64::new(0)));
    let load = || {
        let (price, reads) = (Arc::clone(&price), Arc::clone(&reads));
        move || async move {
            reads.fetch_add(1, Ordering::SeqCst);
            Ok::<u64, std::io::Error>(price.load(Ordering::SeqCst))
        }
    };
    println!("one: {}", one.get_or_load("tea", load()).await?); // loads
    println!("two: {}", two.get_or_load("tea", load()).await?); // from the shared tier
    println!("two: {}", two.get_or_load("tea", load()).await?); // from its own memory
    assert_eq!(reads.load(Ordering::SeqCst), 1);

    // Commit first, then invalidate. With the stamp every node answers with the new row at once.
    price.store(120, Ordering::SeqCst);
    let stamp = one.invalidate("tea").await?;
    let seen = two.get_or_load("tea", load()).at_least(&stamp).await?;
    println!("two, at least at {stamp}: {seen}");
    assert_eq!(*seen, 120);

    // Without the stamp it takes one message: a millisecond or so, a second at worst.
    price.store(140, Ordering::SeqCst);
    one.invalidate("tea").await?;
    while *two.get_or_load("tea", load()).await? != 140 {
        tokio::time::sleep(Duration::from_micros(100)).await;
    }
    println!("two: 140; {} reads of the database in all", reads.load(Ordering::SeqCst));
    println!("two: {:?}", two.stats());
    Ok(())
}
