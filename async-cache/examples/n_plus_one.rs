//! Loads 1,000 posts and their authors: one by one, and through a `DataLoader`.
//!
//! Run `cargo run --example n_plus_one`. With `-- --redis redis://127.0.0.1:6379` it uses both tiers on
//! a real server, and counts the server's commands.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_cache::backend::Backend;
use async_cache::{DataLoader, Error, MemoryBackend, RedisBackend, TieredCache};
use futures_util::StreamExt;
use futures_util::future::join_all;

type Authors = TieredCache<u64, String>;
type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

const POSTS: u64 = 1000;

/// A database whose queries take 20 ms each, whatever they ask for.
#[derive(Clone, Default)]
struct Database {
    queries: Arc<AtomicUsize>,
}

impl Database {
    async fn author(self, id: u64) -> Result<String, std::io::Error> {
        self.queries.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(20)).await;
        Ok(format!("author {id}"))
    }

    /// `SELECT id, name FROM authors WHERE id = ANY(ids)`
    async fn authors(self, ids: Vec<u64>) -> Result<HashMap<u64, String>, std::io::Error> {
        self.queries.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(20)).await;
        Ok(ids.into_iter().map(|id| (id, format!("author {id}"))).collect())
    }
}

/// Counts the commands on keys that clients send to a server.
struct Counter(Option<redis::Client>);

impl Counter {
    /// Runs some work, and returns the number of its commands if there is a server.
    async fn during(&self, work: impl Future<Output = Outcome<()>>) -> Outcome<Option<usize>> {
        let Some(client) = &self.0 else {
            work.await?;
            return Ok(None);
        };
        let monitor = client.get_async_monitor().await?;
        let mut lines = Box::pin(monitor.into_on_message::<String>());
        let count = tokio::spawn(async move {
            let mut commands = 0;
            while let Some(line) = lines.next().await {
                if line.contains("end of count") {
                    break;
                }
                // Commands inside scripts are not sent by a client.
                commands += usize::from(line.contains("{n_plus_one:0}V:") && !line.contains(" lua] "));
            }
            commands
        });
        work.await?;
        let mut connection = client.get_multiplexed_async_connection().await?;
        let _: String = redis::cmd("ECHO").arg("end of count").query_async(&mut connection).await?;
        Ok(Some(count.await?))
    }
}

async fn one_by_one(authors: &Authors, database: &Database) -> Outcome<()> {
    for post in 0..POSTS {
        let (id, database) = (post, database.clone());
        authors.get_or_load(&id, move || database.author(id)).await?;
    }
    Ok(())
}

async fn batched(loader: &DataLoader<u64, String>) -> Outcome<()> {
    // Each post is resolved alone, as in a GraphQL server, without knowing the other posts.
    let resolved = join_all((0..POSTS).map(|post| tokio::spawn(loader.load(post)))).await;
    for author in resolved {
        author??.ok_or("every post has an author")?;
    }
    Ok(())
}

async fn cache(backend: Arc<dyn Backend>) -> Result<Authors, Error> {
    let cache = TieredCache::builder()
        .namespace("n_plus_one")
        .l1(MemoryBackend::new(10_000))
        .l2(backend)
        // Without this the count would contain heartbeats.
        .max_staleness(Duration::from_secs(600))
        .build()?;
    while !cache.is_serving() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    cache.invalidate_all().await?;
    Ok(cache)
}

#[tokio::main]
async fn main() -> Outcome<()> {
    let url = std::env::args().skip_while(|argument| argument != "--redis").nth(1);
    let counter = Counter(url.as_deref().map(redis::Client::open).transpose()?);
    let memory = Arc::new(MemoryBackend::new(10_000));
    println!("{POSTS} posts, each with an author of its own; a query takes 20 ms\n");
    println!("{:<28}{:>10}{:>16}{:>10}", "", "queries", "Redis commands", "time");
    for way in ["one by one", "DataLoader, cold", "DataLoader, L2 warm"] {
        let backend: Arc<dyn Backend> = match &url {
            Some(url) => Arc::new(RedisBackend::connect(url).await?),
            None => memory.clone(),
        };
        let (authors, database) = (cache(backend).await?, Database::default());
        let source = database.clone();
        let loader = authors
            .data_loader(move |ids| source.clone().authors(ids))
            .max_batch_size(100)
            .delay(Duration::from_millis(1))
            .build();
        if way == "DataLoader, L2 warm" {
            // The authors that another node has loaded.
            authors
                .insert_many((0..POSTS).map(|id| (id, format!("author {id}"))))
                .l1_ttl(Duration::from_millis(1))
                .await?;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let begun = Instant::now();
        let commands = match way {
            "one by one" => counter.during(one_by_one(&authors, &database)).await?,
            _ => counter.during(batched(&loader)).await?,
        };
        let commands = commands.map_or("-".to_owned(), |commands| commands.to_string());
        let queries = database.queries.load(Ordering::Relaxed);
        println!("{way:<28}{queries:>10}{commands:>16}{:>7} ms", begun.elapsed().as_millis());
        authors.shutdown().await;
    }
    Ok(())
}
