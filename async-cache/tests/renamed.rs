//! The macros in a crate that has this one under another name: here there is no `::async_cache`.
#![cfg(all(feature = "macros", feature = "memory"))]

extern crate async_cache as renamed;
// Hides the crate's own name.
extern crate core as async_cache;

/// As a crate has it that re-exports this one.
mod reexported {
    pub(crate) mod deep {
        pub(crate) use renamed as cache_lib;
    }
}

use renamed::{CacheKey, MemoryBackend, TieredCache, cached};

#[derive(Clone, CacheKey)]
#[cache_key(crate = renamed)]
struct Id(u64);

#[derive(Clone, CacheKey)]
#[cache_key(crate = "crate::reexported::deep::cache_lib")]
enum Of<T> {
    Nobody,
    Pair(T, Id),
}

type Cache = TieredCache<String, u64>;

#[cached(cache = cache, skip(cache), ttl = "5m", tags("all"), crate = renamed)]
async fn of_id(cache: &Cache, id: Id, name: Option<&str>) -> Result<u64, renamed::Error> {
    Ok(id.0 + name.map_or(0, str::len) as u64)
}

#[cached(crate = "crate::reexported::deep::cache_lib", cache = cache, key = "{of}", skip(cache))]
async fn of_pair(cache: &Cache, of: Of<u64>) -> Option<u64> {
    match of {
        Of::Nobody => None,
        Of::Pair(a, Id(b)) => Some(a + b),
    }
}

#[tokio::test]
async fn a_crate_under_another_name_is_named() {
    let cache: Cache =
        TieredCache::builder().namespace("renamed").l1(MemoryBackend::new(10)).build().unwrap();
    for _ in 0..2 {
        assert_eq!(of_id(&cache, Id(1), Some("a")).await.unwrap(), 2);
        assert_eq!(of_pair(&cache, Of::Pair(1, Id(2))).await, Some(3));
        assert_eq!(of_pair(&cache, Of::Nobody).await, None);
    }
    assert_eq!(cache.stats().loads, 3);
    of_id_refresh(&cache, Id(1), Some("a")).await.unwrap();
    of_id_invalidate(&cache, Id(1), Some("a")).await.unwrap();
    of_pair_refresh(&cache, Of::Nobody).await;
    of_pair_invalidate(&cache, Of::Nobody).await.unwrap();
}
