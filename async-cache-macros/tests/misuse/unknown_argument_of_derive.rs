use async_cache::CacheKey;

#[derive(CacheKey)]
#[cache_key(rename = "id")]
struct Id(u64);

fn main() {}
