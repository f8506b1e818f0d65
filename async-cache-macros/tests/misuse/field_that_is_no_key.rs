use async_cache::CacheKey;

struct Id(u64);

#[derive(CacheKey)]
struct Page {
    owner: Id,
    number: u64,
}

fn main() {}
