use async_cache::TieredCache;

struct Id(u64);

fn main() {
    let _ = TieredCache::<Id, u64>::builder();
}
