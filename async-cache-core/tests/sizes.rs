//! A value has 64 MiB encoded at most, whatever its codec writes.

use std::collections::HashMap;

use async_cache_core::frame::MAX_PAYLOAD;
use async_cache_core::testing::No;
use async_cache_core::{BoxError, Codec, ErrorKind, TieredCache};
use async_cache_memory::MemoryBackend;

/// A value is so many bytes.
struct Wide;

impl Codec<usize> for Wide {
    fn name(&self) -> &'static str {
        "wide"
    }

    fn encode(&self, value: &usize, out: &mut Vec<u8>) -> Result<(), BoxError> {
        out.resize(out.len() + value, 0);
        Ok(())
    }

    fn decode(&self, bytes: &[u8]) -> Result<usize, BoxError> {
        Ok(bytes.len())
    }
}

/// What is larger is answered, and not stored; who stores it is told.
#[tokio::test]
async fn a_value_that_is_too_large_is_answered_and_not_stored() {
    let node = |l2: &MemoryBackend| {
        TieredCache::<String, usize>::builder().namespace("rows").l2_with(l2.clone(), Wide).build().unwrap()
    };
    let l2 = MemoryBackend::new(100);
    let (cache, other) = (node(&l2), node(&l2));
    let most = MAX_PAYLOAD - 1_024;
    cache.insert("k", most).await.unwrap();
    assert_eq!(other.get("k").await.unwrap().as_deref(), Some(&most), "what fits is stored");
    cache.invalidate("k").await.unwrap();

    let over = MAX_PAYLOAD + 1;
    let loaded = cache.get_or_load("k", move || async move { Ok::<_, No>(over) }).await.unwrap();
    assert_eq!((*loaded, other.get("k").await.unwrap()), (over, None));
    let all = move |keys: Vec<String>| async move {
        Ok::<_, No>(keys.into_iter().map(|key| (key, over)).collect::<HashMap<_, _>>())
    };
    let loaded = cache.get_many_or_load(["k"], all).await.unwrap();
    assert_eq!((loaded[0].as_deref(), other.get("k").await.unwrap()), (Some(&over), None));
    let refused = cache.insert("k", over).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Codec);
    assert!(refused.to_string().contains("67108864"), "{refused}");
    assert_eq!(cache.stats().codec_failures, 3);
}
