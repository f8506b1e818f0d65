//! Code of the user's that panics where the cache calls it: who is told, and what is left behind.

use std::panic::{AssertUnwindSafe, resume_unwind};
use std::time::Duration;

use async_cache_core::key::KeyWriter;
use async_cache_core::testing::{Source, until};
use async_cache_core::{BoxError, CacheKey, Codec, DataLoader, ErrorKind, TieredCache};
use async_cache_memory::MemoryBackend;
use futures_util::FutureExt;

/// Ends the thread's work without the noise of a report.
fn panic() -> ! {
    resume_unwind(Box::new("unlucky"))
}

/// A codec that panics at 13.
struct Superstitious;

impl Codec<u64> for Superstitious {
    fn name(&self) -> &'static str {
        "u64"
    }

    fn encode(&self, value: &u64, out: &mut Vec<u8>) -> Result<(), BoxError> {
        if *value == 13 {
            panic();
        }
        out.extend_from_slice(&value.to_be_bytes());
        Ok(())
    }

    fn decode(&self, bytes: &[u8]) -> Result<u64, BoxError> {
        match Plain.decode(bytes)? {
            13 => panic(),
            value => Ok(value),
        }
    }
}

/// The same format without the superstition.
struct Plain;

impl Codec<u64> for Plain {
    fn name(&self) -> &'static str {
        "u64"
    }

    fn encode(&self, value: &u64, out: &mut Vec<u8>) -> Result<(), BoxError> {
        out.extend_from_slice(&value.to_be_bytes());
        Ok(())
    }

    fn decode(&self, bytes: &[u8]) -> Result<u64, BoxError> {
        Ok(u64::from_be_bytes(bytes.try_into()?))
    }
}

async fn node(l2: &MemoryBackend, codec: impl Codec<u64>) -> TieredCache<u64, u64> {
    let cache = TieredCache::builder()
        .namespace("rows")
        .l2_with(l2.clone(), codec)
        .l1(MemoryBackend::new(100))
        .build()
        .unwrap();
    until("the node serves", || cache.is_serving()).await;
    cache
}

#[tokio::test(start_paused = true)]
async fn a_value_whose_encoding_panics_reaches_its_callers_and_is_an_error_of_an_insert() {
    let cache = node(&MemoryBackend::new(100), Superstitious).await;
    let load = || async { Ok::<u64, std::io::Error>(13) };
    let (a, b) = tokio::join!(cache.get_or_load(&1, load), cache.get_or_load(&1, load));
    assert_eq!((*a.unwrap(), *b.unwrap()), (13, 13));
    assert_eq!(cache.stats().loads, 1, "nobody loads again for it");

    let error = cache.insert(&2, 13).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Codec);
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("panicked: unlucky"), "{cause}");
    until("nothing is left", || cache.is_idle()).await;
}

#[tokio::test(start_paused = true)]
async fn a_stored_value_at_which_decoding_panics_is_a_miss_and_takes_no_other_with_it() {
    let l2 = MemoryBackend::new(100);
    let (plain, touchy) = (node(&l2, Plain).await, node(&l2, Superstitious).await);
    plain.insert_many([(1, 1), (13, 13), (2, 2)]).await.unwrap();

    assert_eq!(touchy.get(&13).await.unwrap(), None);
    let found = touchy.get_many(&[1, 13, 2]).await.unwrap();
    assert_eq!(found.iter().map(Option::as_deref).collect::<Vec<_>>(), [Some(&1), None, Some(&2)]);
    assert!(touchy.stats().unreadable >= 2);
    let loaded = touchy.get_or_load(&13, || async { Ok::<u64, std::io::Error>(14) }).await.unwrap();
    assert_eq!(*loaded, 14);
    let fresh = node(&l2, Plain).await;
    assert_eq!(fresh.get(&13).await.unwrap().as_deref(), Some(&14), "it was replaced");
    until("nothing is left", || touchy.is_idle()).await;
}

/// A key that cannot be encoded once.
struct Unnameable;

impl CacheKey for Unnameable {
    fn encode(&self, _: &mut KeyWriter<'_>) {
        panic();
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_whose_encoding_panics_is_its_caller_s_alone() {
    let cache: TieredCache<Unnameable, u64> =
        TieredCache::builder().l1(MemoryBackend::new(100)).build().unwrap();
    assert!(AssertUnwindSafe(cache.get(&Unnameable)).catch_unwind().await.is_err());
    let source = Source::new();
    let load = AssertUnwindSafe(cache.get_or_load(&Unnameable, move || source.now())).catch_unwind();
    assert!(load.await.is_err());
    assert!(AssertUnwindSafe(cache.invalidate(&Unnameable)).catch_unwind().await.is_err());
    assert!(cache.is_idle());
}

/// A value whose end panics.
#[derive(Debug)]
struct Sore;

impl Drop for Sore {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_value_whose_drop_panics_leaves_the_cache_working() {
    let cache: TieredCache<u64, Sore> =
        TieredCache::builder().l1(MemoryBackend::new(100)).ttl(Duration::from_secs(1)).build().unwrap();
    for round in 0..3 {
        let load = cache.get_or_load(&1, || async { Ok::<Sore, std::io::Error>(Sore) }).await;
        drop(load.unwrap());
        let dropped = AssertUnwindSafe(cache.invalidate(&1)).catch_unwind().await;
        assert!(dropped.is_err(), "round {round}: L1 had the last of it");
        assert!(cache.get(&1).await.unwrap().is_none(), "round {round}: it is gone all the same");
        assert!(cache.is_idle(), "round {round}");
    }
}

tokio::task_local! {
    static TENANT: u64;
}

/// What every way to load tells of a loader that reads what only its caller's task carries.
#[tokio::test(start_paused = true)]
async fn a_task_local_is_not_set_in_a_loader_and_the_error_says_so() {
    type Rows = std::collections::HashMap<u64, u64>;
    let cache: TieredCache<u64, u64> = TieredCache::builder().l1(MemoryBackend::new(100)).build().unwrap();
    async fn one() -> Result<u64, std::io::Error> {
        Ok(TENANT.get())
    }
    let many = |keys: Vec<u64>| async move {
        Ok::<Rows, std::io::Error>(keys.into_iter().map(|key| (key, TENANT.get())).collect())
    };
    TENANT
        .scope(9, async {
            let errors = [
                cache.get_or_load(&1, one).await.unwrap_err(),
                cache.refresh(&1, one).await.unwrap_err(),
                cache.get_many_or_load(&[1, 2], many).await.unwrap_err(),
                DataLoader::new(many).load(1).await.unwrap_err(),
                cache.warm([1], |_| one()).await.failed.remove(0).1,
            ];
            for error in errors {
                assert_eq!(error.kind(), ErrorKind::LoaderPanicked, "{error}");
                assert!(error.to_string().contains("task-local"), "{error}");
            }
            let tenant = TENANT.get();
            let moved = move || async move { Ok::<_, std::io::Error>(tenant) };
            assert_eq!(*cache.get_or_load(&1, moved).await.unwrap(), 9);
        })
        .await;
    assert!(cache.is_idle());
}
