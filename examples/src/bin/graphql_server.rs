//! A GraphQL server: each level of a query is one batch, and the cache is shared by all queries and instances.
//! `cargo run --bin graphql_server -- 127.0.0.1:3000` serves.

use std::collections::HashMap;
use std::sync::Arc;

use async_cache::{Error, MemoryBackend, TieredCache};
use async_cache_graphql::CacheLoader;
use async_graphql::dataloader::DataLoader;
use async_graphql::{Context, EmptySubscription, Object, Schema};
use axum::routing::post;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Author {
    id: u64,
    name: String,
}

type Authors = TieredCache<u64, Author>;
type AuthorLoader = DataLoader<CacheLoader<u64, Author>>;

struct Post(u64);

#[Object]
impl Post {
    async fn title(&self) -> String {
        format!("post {}", self.0)
    }

    /// Each post asks for its own author. The loader makes one batch of them.
    async fn author(&self, context: &Context<'_>) -> async_graphql::Result<Option<AuthorObject>> {
        let loader = context.data::<AuthorLoader>()?;
        Ok(loader.load_one(self.0 % 7).await?.map(AuthorObject))
    }
}

/// A cached value as an object: an `Arc`, so that a hit copies a pointer.
struct AuthorObject(Arc<Author>);

#[Object(name = "Author")]
impl AuthorObject {
    async fn id(&self) -> u64 {
        self.0.id
    }

    async fn name(&self) -> &str {
        &self.0.name
    }
}

struct Query;

#[Object]
impl Query {
    async fn posts(&self, first: u64) -> Vec<Post> {
        (0..first).map(Post).collect()
    }
}

struct Mutation;

#[Object]
impl Mutation {
    async fn rename(&self, context: &Context<'_>, author: u64) -> async_graphql::Result<bool> {
        // Commit first. Then every instance drops the author, and its next query loads it.
        if let Err(error) = context.data::<Authors>()?.invalidate(&author).await {
            eprintln!("{error:?}"); // the cache retries it
        }
        Ok(true)
    }
}

type AppSchema = Schema<Query, Mutation, EmptySubscription>;

fn schema() -> Result<(AppSchema, Authors), Error> {
    let authors: Authors =
        TieredCache::builder().namespace("authors").l1(MemoryBackend::new(10_000)).build()?;
    let loader = CacheLoader::new(&authors, |ids: Vec<u64>| async move {
        println!("SELECT id, name FROM authors WHERE id IN ({ids:?})");
        let author = |id| (id, Author { id, name: format!("author {id}") });
        Ok::<HashMap<_, _>, std::io::Error>(ids.into_iter().map(author).collect())
    });
    let schema = Schema::build(Query, Mutation, EmptySubscription)
        .data(DataLoader::new(loader, tokio::spawn))
        .data(authors.clone());
    Ok((schema.finish(), authors))
}

fn router(schema: AppSchema) -> Router {
    let execute = move |Json(request): Json<async_graphql::Request>| {
        let schema = schema.clone();
        async move { Json(schema.execute(request).await) }
    };
    Router::new().route("/graphql", post(execute))
}

/// Runs some queries, and checks the answers.
async fn check() -> Result<(), Box<dyn std::error::Error>> {
    let (schema, authors) = schema()?;
    let query = "{ posts(first: 100) { title author { name } } }";
    for _ in 0..2 {
        let answer = schema.execute(query).await.into_result().map_err(|errors| format!("{errors:?}"))?;
        let answer = answer.data.into_json()?;
        assert_eq!(
            answer["posts"][99],
            serde_json::json!({ "title": "post 99", "author": { "name": "author 1" } })
        );
    }
    assert_eq!(authors.stats().loads, 1, "one batch, and the second query needs none");
    schema
        .execute("mutation { rename(author: 1) }")
        .await
        .into_result()
        .map_err(|errors| format!("{errors:?}"))?;
    schema.execute(query).await;
    assert_eq!(authors.stats().loads, 2);
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let Some(address) = std::env::args().nth(1) else { return check().await };
    let listener = tokio::net::TcpListener::bind(address).await?;
    println!("POST http://{}/graphql", listener.local_addr()?);
    Ok(axum::serve(listener, router(schema()?.0)).await?)
}

#[cfg(test)]
#[tokio::test]
async fn it_does_what_it_says() -> Result<(), Box<dyn std::error::Error>> {
    check().await
}
