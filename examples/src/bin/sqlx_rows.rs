//! Rows of a database, through sqlx: one row, several rows, and a write. `cargo run --bin sqlx_rows`.

use std::collections::HashMap;
use std::sync::Arc;

use async_cache::{Error, Loaded, MemoryBackend, TieredCache};
use serde::{Deserialize, Serialize};
use sqlx::sqlite::{SqlitePool, SqlitePoolOptions};

#[derive(Debug, Clone, PartialEq, sqlx::FromRow, Serialize, Deserialize)]
struct User {
    id: i64,
    team: i64,
    name: String,
}

/// Handles only, so a clone is cheap: each load owns one.
#[derive(Clone)]
struct Users {
    pool: SqlitePool,
    cache: TieredCache<i64, User>,
}

impl Users {
    async fn find(&self, id: i64) -> Result<Option<Arc<User>>, Error> {
        let pool = self.pool.clone();
        let query = move || async move {
            let user = sqlx::query_as::<_, User>("SELECT id, team, name FROM users WHERE id = ?").bind(id);
            let user = user.fetch_optional(&pool).await?;
            // Tags are known once the row is.
            Ok::<_, sqlx::Error>(user.map(|user| Loaded::new(user.clone()).tag(team(user.team))))
        };
        self.cache.get_or_load_optional(&id, query).await
    }

    /// One query for all rows that are not cached.
    async fn find_many(&self, ids: &[i64]) -> Result<Vec<Option<Arc<User>>>, Error> {
        let pool = self.pool.clone();
        let query = |missing: Vec<i64>| async move {
            let mut query = sqlx::QueryBuilder::new("SELECT id, team, name FROM users WHERE id IN (");
            let mut list = query.separated(", ");
            missing.iter().for_each(|id| _ = list.push_bind(*id));
            query.push(")");
            let users: Vec<User> = query.build_query_as().fetch_all(&pool).await?;
            // `None` for those that do not exist: the absence is cached.
            let mut found: HashMap<_, _> = missing.into_iter().map(|id| (id, None)).collect();
            for user in users {
                found.insert(user.id, Some(Loaded::new(user.clone()).tag(team(user.team))));
            }
            Ok::<_, sqlx::Error>(found)
        };
        self.cache.get_many_or_load(ids, query).await
    }

    async fn rename(&self, id: i64, name: &str) -> Result<(), sqlx::Error> {
        let mut tx = self.pool.begin().await?;
        sqlx::query("UPDATE users SET name = ? WHERE id = ?").bind(name).bind(id).execute(&mut *tx).await?;
        tx.commit().await?;
        // After the commit. Between the two a crash loses the invalidation; the crate `async-cache-outbox` does not.
        if let Err(error) = self.cache.invalidate(&id).await {
            eprintln!("{error:?}"); // the write is committed, and the cache retries the invalidation
        }
        Ok(())
    }
}

fn team(id: i64) -> String {
    format!("team:{id}")
}

/// Makes some calls, and checks the answers.
async fn check() -> Result<(), Box<dyn std::error::Error>> {
    // One connection: each has its own database in memory.
    let pool = SqlitePoolOptions::new().max_connections(1).connect("sqlite::memory:").await?;
    sqlx::query("CREATE TABLE users (id INTEGER PRIMARY KEY, team INTEGER, name TEXT)")
        .execute(&pool)
        .await?;
    sqlx::query("INSERT INTO users VALUES (1, 9, 'Ada'), (2, 9, 'Grace'), (3, 8, 'Edsger')")
        .execute(&pool)
        .await?;
    let cache = TieredCache::builder().namespace("users").l1(MemoryBackend::new(10_000)).build()?;
    let users = Users { pool, cache };
    let name = |user: Option<Arc<User>>| user.map(|user| user.name.clone()).unwrap_or_default();

    assert_eq!(name(users.find(1).await?), "Ada");
    assert_eq!(name(users.find(1).await?), "Ada");
    assert_eq!(users.cache.stats().loads, 1);

    let many: Vec<_> = users.find_many(&[1, 2, 3, 99]).await?.into_iter().map(name).collect();
    assert_eq!(many, ["Ada", "Grace", "Edsger", ""]);
    assert_eq!(users.find(99).await?, None);
    let loads = users.cache.stats().loads;

    users.rename(1, "Ada Lovelace").await?;
    assert_eq!(name(users.find(1).await?), "Ada Lovelace");
    users.cache.invalidate_tag(team(9)).await?; // the whole team
    users.find_many(&[1, 2, 3]).await?;
    println!("{loads} loads before the write, {} after", users.cache.stats().loads - loads);
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    check().await
}

#[cfg(test)]
#[tokio::test]
async fn it_does_what_it_says() -> Result<(), Box<dyn std::error::Error>> {
    check().await
}
