use async_cache::{TieredCache, cached};

trait Finder {
    fn find(&self, id: u64) -> impl Future<Output = u64> + Send;
}

#[derive(Clone)]
struct Repository {
    cache: TieredCache<String, u64>,
}

impl Finder for Repository {
    #[cached(cache = self.cache, skip(self))]
    async fn find(&self, id: u64) -> u64 {
        id
    }
}

fn main() {}
