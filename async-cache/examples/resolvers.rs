//! Resolvers as in a GraphQL server. Each resolver knows only its own object, but every level of the
//! tree is one query: `cargo run --example resolvers`.

use std::collections::HashMap;
use std::sync::Arc;

use async_cache::{DataLoader, Error, MemoryBackend, TieredCache};
use futures_util::future::try_join_all;

#[derive(Clone, Debug)]
struct Post {
    title: String,
    author: u64,
}

/// The loaders of one request.
struct Context {
    /// Without a cache: remembers for this request.
    posts: DataLoader<u64, Post>,
    /// With a cache that all requests share.
    authors: DataLoader<u64, String>,
    /// Without a cache, with a result for each key.
    comments: DataLoader<u64, Vec<u64>>,
}

impl Context {
    fn new(names: &TieredCache<u64, String>) -> Self {
        Self {
            posts: DataLoader::new(|ids: Vec<u64>| async move {
                println!("  SELECT * FROM posts WHERE id IN ({} ids)", ids.len());
                let post = |id: u64| Post { title: format!("post {id}"), author: id % 7 };
                Ok::<HashMap<u64, Post>, Error>(ids.into_iter().map(|id| (id, post(id))).collect())
            }),
            authors: names
                .data_loader(|ids: Vec<u64>| async move {
                    println!("  SELECT id, name FROM authors WHERE id IN ({} ids)", ids.len());
                    Ok::<HashMap<u64, String>, Error>(
                        ids.into_iter().map(|id| (id, format!("author {id}"))).collect(),
                    )
                })
                .build(),
            comments: DataLoader::each(|posts: Vec<u64>| async move {
                println!("  SELECT post, author FROM comments WHERE post IN ({} ids)", posts.len());
                let authors = |post| match post % 10 {
                    9 => Err(std::io::Error::other("comments are closed")),
                    _ => Ok(vec![post, post + 1]),
                };
                posts.into_iter().map(|post| (post, authors(post))).collect::<HashMap<_, _>>()
            }),
        }
    }
}

async fn resolve_author(context: &Context, id: u64) -> Result<Arc<String>, Error> {
    Ok(context.authors.load(id).await?.unwrap_or_default())
}

async fn resolve_comments(context: &Context, post: u64) -> Result<Vec<Arc<String>>, Error> {
    let authors = context.comments.load(post).await?.unwrap_or_default();
    try_join_all(authors.iter().map(|author| resolve_author(context, *author))).await
}

async fn resolve_post(context: &Context, id: u64) -> Result<String, Error> {
    let Some(post) = context.posts.load(id).await? else { return Ok(format!("post {id} is gone")) };
    let (author, comments) =
        tokio::join!(resolve_author(context, post.author), resolve_comments(context, id));
    // The error of one field does not affect the others.
    let comments =
        comments.map_or_else(|error| error.to_string(), |names| format!("{} comments", names.len()));
    Ok(format!("{} by {}: {comments}", post.title, author?))
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let names = TieredCache::builder().namespace("authors").l1(MemoryBackend::new(10_000)).build()?;
    for request in 1..=2 {
        println!("request {request}:");
        let context = Context::new(&names);
        let posts = try_join_all((0..100).map(|id| resolve_post(&context, id))).await?;
        println!("  {} … {}", posts[0], posts[99]);
    }
    Ok(())
}
