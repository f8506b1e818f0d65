//! A change and its invalidation in one transaction, on SQLite: no server is needed.
//!
//! ```sh
//! cargo run -p async-cache-outbox --features sqlite --example outbox
//! ```

use std::error::Error;
use std::time::Duration;

use async_cache::{MemoryBackend, TieredCache};
use async_cache_outbox::{Outbox, Relay};
use sqlx::sqlite::SqlitePoolOptions;
use sqlx::{Sqlite, SqlitePool};

type Users = TieredCache<i64, String>;

/// Two instances of a service have one database and one L2. Here they are in one process.
struct Instance {
    pool: SqlitePool,
    users: Users,
    outbox: Outbox<Sqlite>,
    relay: Relay,
}

impl Instance {
    fn start(pool: &SqlitePool, l2: &MemoryBackend) -> Result<Self, Box<dyn Error>> {
        let users: Users =
            TieredCache::builder().namespace("users").l1(MemoryBackend::new(1_000)).l2(l2.clone()).build()?;
        let outbox = Outbox::<Sqlite>::new();
        let relay = outbox.relay(pool).cache(&users).poll_interval(Duration::from_millis(50)).start()?;
        Ok(Self { pool: pool.clone(), users, outbox, relay })
    }

    async fn name(&self, id: i64) -> Result<String, Box<dyn Error>> {
        let pool = self.pool.clone();
        let query = move || async move {
            sqlx::query_scalar::<_, String>("SELECT name FROM users WHERE id = ?")
                .bind(id)
                .fetch_one(&pool)
                .await
        };
        let name = self.users.get_or_load(&id, query).await?;
        Ok(name.to_string())
    }

    async fn rename(&self, id: i64, name: &str) -> Result<(), Box<dyn Error>> {
        let mut tx = self.pool.begin().await?;
        sqlx::query("UPDATE users SET name = ? WHERE id = ?").bind(name).bind(id).execute(&mut *tx).await?;
        self.outbox.invalidate(&mut tx, &self.users, &id).await?;
        tx.commit().await?;
        // A crash here loses nothing: the row is committed.
        self.relay.wake_up(); // saves the wait for the next poll, if this instance is the one at work
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let url = format!("sqlite://{}?mode=rwc", folder.path().join("shop.db").display());
    let pool = SqlitePoolOptions::new().max_connections(4).connect(&url).await?;
    sqlx::query("CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT NOT NULL)").execute(&pool).await?;
    sqlx::query("INSERT INTO users VALUES (42, 'Ada')").execute(&pool).await?;
    Outbox::<Sqlite>::new().migrate(&pool).await?;

    let l2 = MemoryBackend::new(10_000);
    let (here, there) = (Instance::start(&pool, &l2)?, Instance::start(&pool, &l2)?);
    println!("both instances cache: {}, {}", here.name(42).await?, there.name(42).await?);

    here.rename(42, "Ada Lovelace").await?;
    while there.name(42).await? != "Ada Lovelace" {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    println!("both instances show:  {}, {}", here.name(42).await?, there.name(42).await?);

    // A transaction that is rolled back takes its invalidation with it.
    let mut tx = pool.begin().await?;
    here.outbox.invalidate(&mut tx, &here.users, &42).await?;
    tx.rollback().await?;
    let rows: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM async_cache_outbox").fetch_one(&pool).await?;
    assert_eq!(rows, 0, "nothing is left");
    assert!(there.users.contains(&42).await?, "nothing was invalidated");

    let (first, second) = (here.relay.shutdown().await, there.relay.shutdown().await);
    assert_eq!(first.applied + second.applied, 1);
    println!("rows applied by the relay at work: 1");
    Ok(())
}
