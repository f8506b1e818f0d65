use async_cache::{Error, TieredCache};

async fn find(cache: &TieredCache<u64, u64>) {
    let _ = cache.get_or_load(&42, || async { Ok::<_, Error>(Some(7_u64)) }).await;
}

async fn find_text(cache: &TieredCache<u64, u64>) {
    let _ = cache.refresh(&42, || async { Ok::<_, Error>("7") }).await;
}

fn main() {}
