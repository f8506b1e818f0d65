//! How caches are put together: what two of them may share, and what `build` refuses.

use async_cache::{Error, ErrorKind, MemoryBackend, TieredCache};

type Numbers = TieredCache<u64, u64>;

fn refused(built: Result<Numbers, Error>) -> String {
    let error = built.expect_err("it is refused");
    assert_eq!(error.kind(), ErrorKind::Config);
    error.to_string()
}

/// Whoever else is on that L2 would share the default's keys.
#[tokio::test]
async fn an_l2_asks_for_a_namespace() {
    let l2 = MemoryBackend::new(100);
    let message = refused(TieredCache::builder().l2(l2.clone()).build());
    assert!(message.contains("namespace") && message.contains(".namespace("), "{message}");
    let message = refused(TieredCache::builder().l1(MemoryBackend::new(100)).l2(l2.clone()).build());
    assert!(message.contains("namespace"), "{message}");
    assert!(Numbers::builder().namespace("numbers").l2(l2).build().is_ok());
    assert!(Numbers::builder().l1(MemoryBackend::new(100)).build().is_ok(), "nobody else is in an L1");
}
