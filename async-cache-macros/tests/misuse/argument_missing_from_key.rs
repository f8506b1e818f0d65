use async_cache::{TieredCache, cached};

type Cache = TieredCache<String, u64>;

#[cached(cache = cache, key = "user:{id}", skip(cache))]
async fn find(cache: &Cache, team: u32, id: u64) -> u64 {
    id + u64::from(team)
}

fn main() {}
