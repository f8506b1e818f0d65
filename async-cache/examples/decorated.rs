//! A cache in front of functions whose code does not mention it: `cargo run --example decorated`.

use std::sync::LazyLock;
use std::time::Duration;

use async_cache::{Error, MemoryBackend, TieredCache, cached};

static QUOTES: LazyLock<TieredCache<String, f64>> = LazyLock::new(|| {
    TieredCache::builder().namespace("quotes").l1(MemoryBackend::new(10_000)).build().expect("a valid cache")
});

/// A free function. The key is its path and its arguments.
#[cached(cache = QUOTES, ttl = "30s")]
async fn quote(symbol: &str, day: u32) -> Result<f64, Error> {
    println!("  querying {symbol} of day {day}");
    Ok(symbol.len() as f64 * f64::from(day))
}

#[derive(Clone)]
struct Directory {
    people: TieredCache<String, String>,
}

impl Directory {
    /// A method. It sets its key, so that `people.get("acme:7")` finds its entry. A `None` is cached, too.
    #[cached(cache = self.people, key = "{tenant}:{id}", skip(self), negative_ttl = "10s")]
    async fn person(&self, tenant: &str, id: u64) -> Result<Option<String>, Error> {
        println!("  querying person {id} of {tenant}");
        Ok((id < 100).then(|| format!("person {id}")))
    }
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    println!("{}", quote("tea", 3).await?);
    println!("{}", quote("tea", 3).await?);
    println!("refreshed: {}", quote_refresh("tea", 3).await?);
    quote_invalidate("tea", 3).await?;
    println!("{}", quote("tea", 3).await?);
    assert_eq!(QUOTES.stats().loads, 3);

    let people = TieredCache::builder()
        .namespace("people")
        .l1(MemoryBackend::new(1000))
        .ttl(Duration::from_secs(60))
        .build()?;
    let directory = Directory { people };
    for id in [7, 7, 500, 500] {
        println!("{:?}", directory.person("acme", id).await?);
    }
    assert_eq!(directory.people.stats().loads, 2);
    assert!(directory.people.contains("acme:7").await?);
    Ok(())
}
