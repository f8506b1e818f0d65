use async_cache::{Error, TieredCache, cached};

type Cache = TieredCache<String, u32>;

#[cached(cache = cache, skip(cache))]
async fn find(cache: &Cache, id: u64) -> Result<String, Error> {
    Ok(id.to_string())
}

#[cached(cache = cache, skip(cache))]
async fn find_optional(cache: &Cache, id: u64) -> Option<String> {
    Some(id.to_string())
}

fn main() {}
