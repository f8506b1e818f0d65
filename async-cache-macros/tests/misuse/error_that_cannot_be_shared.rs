use async_cache::{TieredCache, cached};

type Cache = TieredCache<String, u64>;

#[derive(Debug)]
struct DbError;

impl std::fmt::Display for DbError {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        Ok(())
    }
}

impl std::error::Error for DbError {}

#[cached(cache = cache, skip(cache))]
async fn find(cache: &Cache, id: u64) -> Result<u64, DbError> {
    Ok(id)
}

fn main() {}
