//! The mistakes that memoizing caches are known for, each as what happens here instead.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use async_cache::key::Key;
use async_cache::{DataLoader, Error, MemoryBackend, TieredCache, cached};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};

type Cache = TieredCache<u64, Vec<u64>>;
type Batch = Result<HashMap<u64, u64>, std::io::Error>;

fn cache() -> Cache {
    TieredCache::builder().l1(MemoryBackend::new(1000)).build().expect("a valid cache")
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A load that notes that it has begun, and ends when it is told to.
#[derive(Clone)]
struct Slow {
    begun: Arc<Semaphore>,
    go: Arc<Semaphore>,
}

impl Slow {
    fn new() -> Self {
        Self { begun: Arc::new(Semaphore::new(0)), go: Arc::new(Semaphore::new(0)) }
    }

    async fn load(self, value: u64) -> Result<Vec<u64>, std::io::Error> {
        self.begun.add_permits(1);
        self.go.acquire().await.expect("never closed").forget();
        Ok(vec![value])
    }

    /// Begins a load of key 1, and waits until it runs.
    async fn begin(
        &self,
        cache: &Cache,
        value: u64,
    ) -> tokio::task::JoinHandle<Result<Arc<Vec<u64>>, Error>> {
        let (cache, slow) = (cache.clone(), self.clone());
        let task = tokio::spawn(async move { cache.get_or_load(&1, move || slow.load(value)).await });
        self.begun.acquire().await.expect("never closed").forget();
        task
    }

    fn end(&self) {
        self.go.add_permits(1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_is_cancelled_does_not_hang_those_who_wait() {
    let (cache, slow) = (cache(), Slow::new());
    let leader = slow.begin(&cache, 7).await;
    let waiting =
        cache.get_or_load(&1, || async { Err::<Vec<u64>, _>(std::io::Error::other("a second load")) });
    leader.abort();
    slow.end();
    let value = tokio::time::timeout(ms(1000), waiting).await.expect("nobody hangs").unwrap();
    assert_eq!(*value, [7]);
}

#[tokio::test(start_paused = true)]
async fn a_set_during_a_load_is_not_overwritten_by_it() {
    let (cache, slow) = (cache(), Slow::new());
    let old = slow.begin(&cache, 1).await;
    cache.insert(&1, vec![2]).await.unwrap();
    slow.end();
    assert_eq!(*old.await.unwrap().unwrap(), [1]);
    assert_eq!(*cache.get(&1).await.unwrap().unwrap(), [2]);
}

#[tokio::test(start_paused = true)]
async fn a_delete_during_a_load_is_not_undone_by_it() {
    let (cache, slow) = (cache(), Slow::new());
    let old = slow.begin(&cache, 1).await;
    cache.invalidate(&1).await.unwrap();
    slow.end();
    assert_eq!(*old.await.unwrap().unwrap(), [1]);
    assert_eq!(cache.get(&1).await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn a_forced_refresh_does_not_join_the_load_under_way() {
    let (cache, slow) = (cache(), Slow::new());
    let old = slow.begin(&cache, 1).await;
    let fresh = cache.refresh(&1, || async { Ok::<_, std::io::Error>(vec![2]) }).await.unwrap();
    assert_eq!(*fresh, [2]);
    slow.end();
    old.await.unwrap().unwrap();
    assert_eq!(*cache.get(&1).await.unwrap().unwrap(), [2]);
}

#[tokio::test(start_paused = true)]
async fn a_short_batch_result_is_not_cached_as_none() {
    let cache: TieredCache<u64, u64> = TieredCache::builder().l1(MemoryBackend::new(10)).build().unwrap();
    let limited = |limit: Arc<AtomicUsize>| {
        move |keys: Vec<u64>| {
            let limit = limit.load(Ordering::SeqCst);
            async move { Batch::Ok(keys.into_iter().take(limit).map(|key| (key, key)).collect()) }
        }
    };
    let limit = Arc::new(AtomicUsize::new(1));
    let over_a_cache = cache.data_loader(limited(limit.clone()));
    let alone = DataLoader::new(limited(limit.clone()));
    for loader in [&over_a_cache, &alone] {
        limit.store(1, Ordering::SeqCst);
        let found = loader.load_many([1, 2]).await;
        assert_eq!(found[1].as_ref().unwrap(), &None);
        limit.store(2, Ordering::SeqCst);
        assert_eq!(loader.load(2).await.unwrap().as_deref(), Some(&2));
    }
    let answers = cache.get_many_or_load(&[8, 9], limited(Arc::new(AtomicUsize::new(1)))).await.unwrap();
    assert_eq!(answers[1], None);
    let answers = cache.get_many_or_load(&[9], limited(limit)).await.unwrap();
    assert_eq!(answers[0].as_deref(), Some(&9));
}

#[tokio::test(start_paused = true)]
async fn duplicate_keys_do_not_reach_the_batch_loader() {
    let calls: Arc<Mutex<Vec<Vec<u64>>>> = Arc::default();
    let noting = |calls: Arc<Mutex<Vec<Vec<u64>>>>| {
        move |keys: Vec<u64>| {
            calls.lock().unwrap().push(keys.clone());
            async move { Batch::Ok(keys.into_iter().map(|key| (key, key)).collect()) }
        }
    };
    let cache: TieredCache<u64, u64> = TieredCache::builder().l1(MemoryBackend::new(10)).build().unwrap();
    let answers = cache.get_many_or_load(&[1, 2, 1], noting(calls.clone())).await.unwrap();
    assert_eq!(answers.iter().flatten().map(|value| **value).collect::<Vec<u64>>(), [1, 2, 1]);
    cache.invalidate_all().await.unwrap();
    for loader in [cache.data_loader(noting(calls.clone())), DataLoader::new(noting(calls.clone()))] {
        assert_eq!(loader.load_many([1, 2, 1]).await.len(), 3);
    }
    assert_eq!(*calls.lock().unwrap(), [[1, 2], [1, 2], [1, 2]]);
}

#[tokio::test(start_paused = true)]
async fn warming_goes_on_after_a_failure_and_is_not_serial() {
    let load = |key: u64| async move {
        sleep(ms(100)).await;
        if key == 0 { Err(std::io::Error::other("the first")) } else { Ok(vec![key]) }
    };
    let begun = Instant::now();
    let report = cache().warm(0..32, load).concurrency(16).await;
    assert_eq!((report.loaded, report.failed.len()), (31, 1));
    assert!(begun.elapsed() < ms(250), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_cached_absence_is_not_a_miss() {
    let (cache, loads) = (cache(), Arc::new(AtomicUsize::new(0)));
    for _ in 0..3 {
        let loads = Arc::clone(&loads);
        let load = move || async move {
            loads.fetch_add(1, Ordering::SeqCst);
            Ok::<Option<Vec<u64>>, std::io::Error>(None)
        };
        assert_eq!(cache.get_or_load_optional(&1, load).await.unwrap(), None);
    }
    assert_eq!(loads.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn what_a_caller_does_to_its_value_is_not_seen_by_others() {
    let cache = cache();
    cache.insert(&1, vec![1]).await.unwrap();
    let mut mine = cache.get(&1).await.unwrap().unwrap();
    assert!(Arc::get_mut(&mut mine).is_none(), "shared, so not to be changed in place");
    Arc::make_mut(&mut mine).push(2);
    assert_eq!(*mine, [1, 2]);
    assert_eq!(*cache.get(&1).await.unwrap().unwrap(), [1]);
}

static SQUARES: LazyLock<TieredCache<String, u64>> = LazyLock::new(|| {
    TieredCache::builder().namespace("squares").l1(MemoryBackend::new(100)).build().expect("a valid cache")
});

#[cached(cache = SQUARES)]
async fn square(n: u64) -> Result<u64, Error> {
    Ok(n * n)
}

#[cached(cache = SQUARES)]
async fn lit(on: bool) -> Result<u64, Error> {
    Ok(u64::from(on) * 1000)
}

#[tokio::test(start_paused = true)]
async fn a_call_loads_once_however_it_is_spelt_and_one_is_not_true() {
    let n = 1;
    assert_eq!((square(1).await.unwrap(), square(n).await.unwrap(), square(2 - 1).await.unwrap()), (1, 1, 1));
    assert_eq!(SQUARES.stats().loads, 1);
    assert_eq!(lit(true).await.unwrap(), 1000);
    assert_eq!(square(1).await.unwrap(), 1);
    assert_ne!(Key::encode(&1).unwrap(), Key::encode(&true).unwrap());
    assert_ne!(Key::encode(&("a", 1)).unwrap(), Key::encode(&("a", true)).unwrap());
}
