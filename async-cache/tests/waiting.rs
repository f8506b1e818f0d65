//! Who waits for another's load: it costs one load more at most, and ends within limits of its own.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_cache::{Error, ErrorKind, MemoryBackend, TieredCache};
use futures_util::future::join_all;
use tokio::time::{sleep, timeout};

type Cache = TieredCache<u64, u64>;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Of one process, of one node on an L2, and of an L2 alone.
fn kinds() -> [Cache; 3] {
    let l1 = || MemoryBackend::new(1_000);
    let builder = || TieredCache::builder().namespace("waiting");
    [
        builder().l1(l1()).build().unwrap(),
        builder().l1(l1()).l2(MemoryBackend::new(1_000)).build().unwrap(),
        builder().l2(MemoryBackend::new(1_000)).build().unwrap(),
    ]
}

/// A database that counts its queries.
#[derive(Clone, Default)]
struct Database(Arc<AtomicUsize>);

impl Database {
    async fn find(self) -> io::Result<u64> {
        sleep(ms(50)).await;
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(7)
    }
}

#[tokio::test(start_paused = true)]
async fn those_who_need_a_value_share_one_load_after_an_absence() {
    for cache in kinds() {
        let (database, gone) = (Database::default(), ms(100));
        let absent = cache.get_or_load_optional(&1, move || async move {
            sleep(gone).await;
            Ok::<Option<u64>, io::Error>(None)
        });
        let values = async {
            sleep(ms(10)).await;
            let calls = (0..500).map(|_| {
                let (cache, database) = (cache.clone(), database.clone());
                tokio::spawn(async move { cache.get_or_load(&1, move || database.find()).await })
            });
            join_all(calls).await
        };
        let (absent, values) = tokio::join!(absent.into_future(), values);
        assert_eq!(absent.unwrap(), None);
        for value in values {
            assert_eq!(*value.unwrap().unwrap(), 7);
        }
        assert_eq!(database.0.load(Ordering::SeqCst), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn those_who_need_a_value_share_one_load_after_a_batch_that_left_the_key_out() {
    for cache in kinds() {
        let database = Database::default();
        let batch = cache.get_many_or_load(&[1, 2], |_| async {
            sleep(ms(100)).await;
            Ok::<HashMap<u64, u64>, io::Error>(HashMap::from([(2, 2)]))
        });
        let values = async {
            sleep(ms(10)).await;
            let calls = (0..300).map(|_| {
                let (cache, database) = (cache.clone(), database.clone());
                tokio::spawn(async move { cache.get_or_load(&1, move || database.find()).await })
            });
            join_all(calls).await
        };
        let (found, values) = tokio::join!(batch.into_future(), values);
        assert_eq!(found.unwrap()[0], None);
        for value in values {
            assert_eq!(*value.unwrap().unwrap(), 7);
        }
        assert_eq!(database.0.load(Ordering::SeqCst), 1);
    }
}

/// A load that is led from a runtime which nobody drives any more.
fn lead_and_leave(cache: &Cache) -> tokio::runtime::Runtime {
    let left = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let cache = cache.clone();
    left.block_on(async move {
        let slow = || async {
            sleep(Duration::from_secs(60)).await;
            Ok::<_, io::Error>(1)
        };
        assert!(timeout(ms(50), cache.get_or_load(&1, slow).into_future()).await.is_err());
        let batch = |keys: Vec<u64>| async move {
            sleep(Duration::from_secs(60)).await;
            Ok::<HashMap<u64, u64>, io::Error>(keys.into_iter().map(|key| (key, key)).collect())
        };
        assert!(timeout(ms(50), cache.get_many_or_load(&[2, 3], batch).into_future()).await.is_err());
    });
    left
}

fn healthy() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

async fn seven() -> io::Result<u64> {
    Ok(7)
}

async fn sevens(keys: Vec<u64>) -> io::Result<HashMap<u64, u64>> {
    Ok(keys.into_iter().map(|key| (key, 7)).collect())
}

/// Long beyond every limit of the calls that it is put around.
async fn ends<T>(call: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(30), call).await.expect("the call ends within its own limits")
}

#[test]
fn a_load_on_a_runtime_nobody_drives_holds_nobody_for_ever() {
    let healthy = healthy();
    let (l1, l2) = (MemoryBackend::new(100), MemoryBackend::new(100));
    let builder = TieredCache::builder().namespace("left").l1(l1).l2(l2).load_timeout(ms(300));
    let cache: Cache = healthy.block_on(async { builder.wait_timeout(ms(300)).build().unwrap() });
    let left = lead_and_leave(&cache);
    healthy.block_on(async {
        let (one, many) = tokio::join!(
            ends(cache.get_or_load(&1, seven).into_future()),
            ends(cache.get_many_or_load(&[2, 3], sevens).into_future()),
        );
        for outcome in [one.map(drop), many.map(drop)] {
            assert!(outcome.is_ok() || outcome.is_err_and(|error| error.kind() == ErrorKind::Timeout));
        }
        // Whoever comes later is not held at all.
        assert_eq!(*ends(cache.get_or_load(&1, seven).into_future()).await.unwrap(), 7);
        let found = ends(cache.get_many_or_load(&[2, 3], sevens).into_future()).await.unwrap();
        assert_eq!(found.into_iter().map(|value| *value.unwrap()).collect::<Vec<_>>(), [7, 7]);
    });
    drop(left);
}

#[test]
fn a_loader_that_blocks_its_thread_holds_nobody_past_the_limit() {
    let runtime = healthy();
    let begun = Instant::now();
    let outcome: Result<_, Error> = runtime.block_on(async {
        let cache: Cache =
            TieredCache::builder().l1(MemoryBackend::new(100)).load_timeout(ms(100)).build().unwrap();
        let blocks = || async {
            std::thread::sleep(Duration::from_secs(20));
            Ok::<_, io::Error>(1)
        };
        let outcome = cache.get_or_load(&1, blocks).await;
        assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
        assert_eq!(*cache.get_or_load(&1, seven).await.unwrap(), 7);
        outcome
    });
    runtime.shutdown_background();
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Timeout);
}
