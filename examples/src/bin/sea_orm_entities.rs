//! Entities of sea-orm: the model is the cached value. `cargo run --bin sea_orm_entities`.

use std::sync::Arc;

use async_cache::{Error, MemoryBackend, TieredCache};
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ConnectOptions, ConnectionTrait, Database, DatabaseConnection,
};
use sea_orm::{DbErr, EntityTrait, Schema};

/// The entity `post`.
mod post {
    use sea_orm::entity::prelude::*;
    use serde::{Deserialize, Serialize};

    /// With serde's derives an L2 can store it.
    #[derive(Clone, Debug, PartialEq, DeriveEntityModel, Serialize, Deserialize)]
    #[sea_orm(table_name = "posts")]
    pub(crate) struct Model {
        #[sea_orm(primary_key)]
        pub(crate) id: i32,
        pub(crate) title: String,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub(crate) enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

#[derive(Clone)]
struct Posts {
    database: DatabaseConnection,
    cache: TieredCache<i32, post::Model>,
}

impl Posts {
    async fn find(&self, id: i32) -> Result<Option<Arc<post::Model>>, Error> {
        let database = self.database.clone();
        let query = move || async move { post::Entity::find_by_id(id).one(&database).await };
        self.cache.get_or_load_optional(&id, query).await
    }

    async fn save(&self, id: i32, title: &str) -> Result<(), DbErr> {
        let post = post::ActiveModel { id: Set(id), title: Set(title.to_owned()) };
        match self.find(id).await {
            Ok(None) => post.insert(&self.database).await?,
            _ => post.update(&self.database).await?,
        };
        // After the commit, also for a new row: its absence may be cached.
        if let Err(error) = self.cache.invalidate(&id).await {
            eprintln!("{error:?}"); // the write is committed, and the cache retries the invalidation
        }
        Ok(())
    }
}

/// Makes some calls, and checks the answers.
async fn check() -> Result<(), Box<dyn std::error::Error>> {
    let mut options = ConnectOptions::new("sqlite::memory:");
    options.max_connections(1); // each has its own database in memory
    let database = Database::connect(options).await?;
    let schema = Schema::new(database.get_database_backend());
    database.execute(&schema.create_table_from_entity(post::Entity)).await?;

    let cache = TieredCache::builder().namespace("posts").l1(MemoryBackend::new(10_000)).build()?;
    let posts = Posts { database, cache };
    assert_eq!(posts.find(1).await?, None);
    posts.save(1, "Caches").await?;
    for _ in 0..3 {
        assert_eq!(posts.find(1).await?.map(|post| post.title.clone()).as_deref(), Some("Caches"));
    }
    posts.save(1, "Caches, revised").await?;
    assert_eq!(posts.find(1).await?.map(|post| post.title.clone()).as_deref(), Some("Caches, revised"));
    println!("{} queries for 7 lookups", posts.cache.stats().loads);
    assert_eq!(posts.cache.stats().loads, 3);
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
