//! How caches are put together: what two of them may share, and what `build` refuses.

use async_cache::{BoxError, Codec, Engine, Error, ErrorKind, MemoryBackend, TieredCache};
use bytes::Bytes;

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

fn cache(namespace: &str, l1: &MemoryBackend<u64>) -> Result<Numbers, Error> {
    Numbers::builder().namespace(namespace).l1(l1.clone()).build()
}

/// Two caches on one memory would answer with each other's values, and empty each other.
#[tokio::test]
async fn an_l1_belongs_to_one_cache() {
    for engine in [Engine::Quick, Engine::Moka] {
        let l1 = MemoryBackend::builder().engine(engine).build();
        let a = cache("a", &l1).unwrap();
        a.insert(&1, 10).await.unwrap();
        for namespace in ["b", "a"] {
            let message = refused(cache(namespace, &l1));
            assert!(message.contains("`a`") && message.contains("MemoryBackend::new"), "{message}");
        }
        let with_l2 = Numbers::builder().namespace("b").l1(l1.clone()).l2(MemoryBackend::new(100)).build();
        refused(with_l2);
        assert_eq!(a.get(&1).await.unwrap().as_deref(), Some(&10));

        // A builder that came to nothing takes nothing.
        drop(a);
        refused(Numbers::builder().namespace("").l1(l1.clone()).build());
        let a = cache("a", &l1).unwrap();
        assert_eq!(a.get(&1).await.unwrap(), None, "nothing is left of the cache before");
    }
}

/// The same where the next has another type of keys: what is encoded alike is not the same.
#[tokio::test]
async fn an_l1_is_free_when_its_cache_is_shut_down_though_handles_live() {
    let l1 = MemoryBackend::new(100);
    let a = cache("a", &l1).unwrap();
    let other_handle = a.clone();
    a.insert(&1, 10).await.unwrap();
    a.shutdown().await;
    let b: TieredCache<String, u64> = TieredCache::builder().namespace("b").l1(l1.clone()).build().unwrap();
    assert_eq!(b.get("1").await.unwrap(), None);
    b.insert("1", 11).await.unwrap();
    assert!(other_handle.get(&1).await.is_err());
    assert_eq!(b.get("1").await.unwrap().as_deref(), Some(&11));
    refused(cache("c", &l1));
}

/// A load that ends when its cache is closed does not reach the next one's memory.
#[tokio::test]
async fn a_load_from_before_a_shutdown_leaves_nothing_in_the_next_cache() {
    let l1 = MemoryBackend::new(100);
    let a = cache("a", &l1).unwrap();
    let (go, wait) = tokio::sync::oneshot::channel::<()>();
    let load = tokio::spawn({
        let a = a.clone();
        async move {
            let load = || async move {
                wait.await.ok();
                Ok::<u64, std::io::Error>(10)
            };
            a.get_or_load(&1, load).await
        }
    });
    while a.stats().loads == 0 {
        tokio::task::yield_now().await;
    }
    let closing = tokio::spawn({
        let a = a.clone();
        async move {
            a.shutdown().await;
        }
    });
    closing.await.unwrap();
    let b = cache("b", &l1).unwrap();
    let _ = go.send(());
    let _ = load.await;
    assert_eq!((b.get(&1).await.unwrap(), b.stats().entries, a.stats().entries), (None, 0, 0));
}

/// As L1 and as L2 it is two stores.
#[tokio::test]
async fn one_backend_may_be_both_tiers() {
    struct Raw;
    impl Codec<Bytes> for Raw {
        fn name(&self) -> &'static str {
            "raw"
        }
        fn encode(&self, value: &Bytes, out: &mut Vec<u8>) -> Result<(), BoxError> {
            out.extend_from_slice(value);
            Ok(())
        }
        fn decode(&self, bytes: &[u8]) -> Result<Bytes, BoxError> {
            Ok(Bytes::copy_from_slice(bytes))
        }
    }
    let both = MemoryBackend::new(100);
    let cache = |namespace: &str| {
        let builder = TieredCache::<u64, Bytes>::builder().namespace(namespace);
        builder.l1(both.clone()).l2_with(both.clone(), Raw).build()
    };
    let a = cache("a").unwrap();
    assert!(cache("b").is_err(), "its L1 is taken");
    a.insert(&1, Bytes::from_static(b"x")).await.unwrap();
    assert_eq!(a.get(&1).await.unwrap().as_deref(), Some(&Bytes::from_static(b"x")));
    a.shutdown().await;
    let b = cache("b").unwrap();
    assert_eq!(b.get(&1).await.unwrap(), None);
    b.shutdown().await;
    let again = cache("a").unwrap();
    assert_eq!(again.get(&1).await.unwrap().as_deref(), Some(&Bytes::from_static(b"x")), "L2 lives on");
}
