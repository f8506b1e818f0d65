//! Whoever waits for a load has a deadline of its own, and one load follows one that brought nothing.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::Sender;
use std::time::Duration;

use async_cache::{ErrorKind, MemoryBackend, TieredCache};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

type Cache = TieredCache<u64, String>;

/// Longer than any limit that is set here, even on a machine that is busy.
const AT_LAST: Duration = Duration::from_secs(30);

fn cache(load_timeout: Duration) -> Cache {
    let users = TieredCache::builder().l1(MemoryBackend::new(10_000)).load_timeout(load_timeout);
    users.build().unwrap()
}

fn with_l2(load_timeout: Duration) -> Cache {
    let (l1, l2) = (MemoryBackend::new(100), MemoryBackend::new(100));
    TieredCache::builder().namespace("users").l1(l1).l2(l2).load_timeout(load_timeout).build().unwrap()
}

fn current_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// Begins a load of key 1 on a runtime that is not run any more. Nor is it dropped, which would end the load.
fn strand(users: &Cache) {
    let idle = current_thread();
    let begun = users.get_or_load(&1, || async {
        sleep(AT_LAST).await;
        Ok::<_, io::Error>("never".to_owned())
    });
    let cut = idle.block_on(async { timeout(Duration::from_millis(20), begun).await });
    assert!(cut.is_err() && users.stats().in_flight == 1);
    std::mem::forget(idle);
}

/// Begins a load of key 1 that blocks its thread until the sender is dropped.
async fn block_a_loader(users: &Cache) -> (Sender<()>, JoinHandle<async_cache::Result<Arc<String>>>) {
    let (free, blocked) = std::sync::mpsc::channel::<()>();
    let (blocked, blocking) = (std::sync::Mutex::new(blocked), users.clone());
    let leader = tokio::spawn(async move {
        let load = blocking.get_or_load(&1, move || async move {
            let _ = blocked.lock().unwrap().recv();
            Ok::<_, io::Error>("late".to_owned())
        });
        load.await
    });
    while users.stats().loads == 0 {
        tokio::task::yield_now().await;
    }
    (free, leader)
}

fn value(text: &str) -> std::future::Ready<io::Result<String>> {
    std::future::ready(Ok(text.to_owned()))
}

#[tokio::test]
async fn a_get_is_not_captured_by_a_load_whose_runtime_nobody_runs() {
    let users = cache(Duration::from_millis(200));
    let begun = users.clone();
    std::thread::spawn(move || strand(&begun)).join().unwrap();

    let first = timeout(AT_LAST, users.get_or_load(&1, || value("new"))).await.expect("it waits for ever");
    if let Err(error) = &first {
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    }
    let next = timeout(AT_LAST, users.get_or_load(&1, || value("new"))).await.expect("it waits for ever");
    assert_eq!(*next.unwrap(), "new");
}

#[tokio::test]
async fn no_verb_waits_for_ever_for_a_load_whose_runtime_nobody_runs() {
    let users = cache(Duration::from_millis(200));
    let begun = users.clone();
    std::thread::spawn(move || strand(&begun)).join().unwrap();
    let all = async |keys: Vec<u64>| {
        Ok::<_, io::Error>(keys.into_iter().map(|key| (key, "new".to_owned())).collect::<HashMap<_, _>>())
    };
    let loader = users.data_loader(all).build();
    let waits = async {
        let optional = users.get_or_load_optional(&1, || async { Ok::<_, io::Error>(None::<String>) });
        let many = users.get_many_or_load(&[1, 2], all);
        let warming = users.warm([1], |_| value("new"));
        let (_, many, _, report) = tokio::join!(optional, many, loader.load(1), warming);
        if let Err(error) = many {
            assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
        }
        assert!(report.failed.iter().all(|(_, error)| error.kind() == ErrorKind::Timeout), "{report:?}");
        assert_eq!(*users.refresh(&1, || value("newer")).await.unwrap(), "newer");
    };
    timeout(AT_LAST, waits).await.expect("a verb waits for ever");
    timeout(AT_LAST, users.shutdown()).await.expect("shutdown waits for ever");
}

#[tokio::test]
async fn a_data_loader_goes_on_where_its_first_batch_was_left_on_a_runtime_nobody_runs() {
    let users = cache(Duration::from_millis(200));
    let loader = users
        .data_loader(async |keys: Vec<u64>| {
            Ok::<_, io::Error>(keys.into_iter().map(|key| (key, key.to_string())).collect::<HashMap<_, _>>())
        })
        .delay(Duration::from_millis(1))
        .build();
    let gathered = loader.clone();
    std::thread::spawn(move || {
        let idle = current_thread();
        // The key is gathered, and the runtime is left before its batch is due.
        idle.block_on(async { assert!(futures_util::poll!(std::pin::pin!(gathered.load(1))).is_pending()) });
        std::mem::forget(idle);
    })
    .join()
    .unwrap();
    let loads = async { tokio::join!(loader.load(1), loader.load(2)) };
    let (one, two) = timeout(AT_LAST, loads).await.expect("it waits for ever");
    assert_eq!(one.unwrap().unwrap().as_str(), "1");
    assert_eq!(two.unwrap().unwrap().as_str(), "2");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_loader_that_blocks_its_thread_holds_nobody_past_the_limit() {
    let users = cache(Duration::from_millis(100));
    let (free, leader) = block_a_loader(&users).await;
    let joined = timeout(AT_LAST, users.get_or_load(&1, || value("new"))).await.expect("it is held");
    let led = timeout(AT_LAST, leader).await.expect("it is held").unwrap();
    drop(free);
    assert_eq!(led.unwrap_err().kind(), ErrorKind::Timeout);
    assert!(
        joined.is_ok_and(|value| *value == "new") || users.get_or_load(&1, || value("new")).await.is_ok()
    );
}

/// With an L2 a whole lookup may take longer than a load, but not the load that a caller waits for.
#[tokio::test(start_paused = true)]
async fn a_caller_that_joins_waits_for_a_load_no_longer_than_its_own_limit() {
    let users = with_l2(AT_LAST);
    let leading = users.clone();
    let leader = tokio::spawn(async move {
        let slow = || async {
            sleep(Duration::from_secs(2)).await;
            Ok::<_, io::Error>("slow".to_owned())
        };
        leading.get_or_load(&1, slow).await
    });
    while users.stats().loads == 0 {
        sleep(Duration::from_millis(1)).await;
    }
    let limit = Duration::from_millis(200);
    let begun = tokio::time::Instant::now();
    let one = users.get_or_load(&1, || value("new")).load_timeout(limit);
    let batch = |keys: Vec<u64>| async {
        Ok::<_, io::Error>(keys.into_iter().map(|key| (key, "new".to_owned())).collect())
    };
    let many = users.get_many_or_load(&[1], batch).load_timeout(limit);
    let (one, many) = tokio::join!(one, many);
    assert_eq!(one.unwrap_err().kind(), ErrorKind::Timeout);
    assert_eq!(many.unwrap_err().kind(), ErrorKind::Timeout);
    assert!(begun.elapsed() < 2 * limit, "{:?}", begun.elapsed());
    assert_eq!(*leader.await.unwrap().unwrap(), "slow", "the load goes on");
}

/// The loader is let go only after both callers have their errors.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn with_an_l2_too_a_loader_that_blocks_its_thread_holds_nobody() {
    let users = with_l2(Duration::from_millis(100));
    users.ready().await.unwrap();
    let (free, leader) = block_a_loader(&users).await;
    let joined = timeout(AT_LAST, users.get_or_load(&1, || value("new"))).await.expect("it is held");
    let led = timeout(AT_LAST, leader).await.expect("it is held").unwrap();
    drop(free);
    assert_eq!(led.unwrap_err().kind(), ErrorKind::Timeout);
    assert_eq!(joined.unwrap_err().kind(), ErrorKind::Timeout);
}

/// What a loader holds is dropped when the load is ended.
#[tokio::test(start_paused = true)]
async fn a_loader_whose_drop_panics_is_an_error_for_everyone() {
    struct Brittle;
    impl Drop for Brittle {
        fn drop(&mut self) {
            panic!("dropped");
        }
    }
    for users in [cache(Duration::from_millis(100)), with_l2(Duration::from_millis(100))] {
        let leading = users.clone();
        let leader = tokio::spawn(async move {
            let hang = || async {
                let _brittle = Brittle;
                std::future::pending::<io::Result<String>>().await
            };
            leading.get_or_load(&1, hang).await
        });
        while users.stats().loads == 0 {
            sleep(Duration::from_millis(1)).await;
        }
        let joined = users.get_or_load(&1, || value("new")).load_timeout(AT_LAST).await;
        let led = leader.await.unwrap();
        assert_eq!(led.unwrap_err().kind(), ErrorKind::LoaderPanicked);
        assert_eq!(joined.unwrap_err().kind(), ErrorKind::LoaderPanicked);
    }
}

#[tokio::test(start_paused = true)]
async fn one_load_follows_one_that_found_nothing_however_many_need_a_value() {
    let users = cache(AT_LAST);
    let loads = Arc::new(AtomicUsize::new(0));
    let (found, finding) = tokio::sync::oneshot::channel::<()>();
    let leading = users.clone();
    let leader = tokio::spawn(async move {
        let load = leading.get_or_load_optional(&1, || async {
            let _ = finding.await;
            Ok::<_, io::Error>(None::<String>)
        });
        load.await
    });
    while users.stats().in_flight == 0 {
        tokio::task::yield_now().await;
    }
    let waiting = (0..500).map(|_| {
        let (users, loads) = (users.clone(), Arc::clone(&loads));
        tokio::spawn(async move {
            let load = users.get_or_load(&1, || async move {
                loads.fetch_add(1, SeqCst);
                sleep(Duration::from_millis(10)).await;
                value("made").await
            });
            load.await
        })
    });
    let waiting: Vec<_> = waiting.collect();
    tokio::task::yield_now().await;
    found.send(()).unwrap();
    for waiter in waiting {
        assert_eq!(*waiter.await.unwrap().unwrap(), "made");
    }
    assert_eq!(leader.await.unwrap().unwrap(), None);
    assert_eq!(loads.load(SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn one_load_follows_a_batch_that_left_the_key_out() {
    let users = cache(AT_LAST);
    let loads = Arc::new(AtomicUsize::new(0));
    let (found, finding) = tokio::sync::oneshot::channel::<()>();
    let finding = Arc::new(tokio::sync::Mutex::new(Some(finding)));
    let leading = users.clone();
    let leader = tokio::spawn(async move {
        let batch = leading.get_many_or_load(&[1, 2], move |_: Vec<u64>| {
            let finding = Arc::clone(&finding);
            async move {
                let _ = finding.lock().await.take().unwrap().await;
                Ok::<_, io::Error>(HashMap::from([(2, "two".to_owned())]))
            }
        });
        batch.await
    });
    while users.stats().in_flight == 0 {
        tokio::task::yield_now().await;
    }
    let waiting = (0..300).map(|_| {
        let (users, loads) = (users.clone(), Arc::clone(&loads));
        tokio::spawn(async move {
            let load = users.get_or_load(&1, || async move {
                loads.fetch_add(1, SeqCst);
                sleep(Duration::from_millis(10)).await;
                value("made").await
            });
            load.await
        })
    });
    let waiting: Vec<_> = waiting.collect();
    tokio::task::yield_now().await;
    found.send(()).unwrap();
    for waiter in waiting {
        assert_eq!(*waiter.await.unwrap().unwrap(), "made");
    }
    leader.await.unwrap().unwrap();
    assert_eq!(loads.load(SeqCst), 1);
}

fn many(keys: u64, mutant: Option<async_cache::testing::Mutant>) -> (Cache, Vec<u64>) {
    let users = TieredCache::builder().namespace("users").l2(MemoryBackend::new(200_000));
    let users = users.lease_ttl(Duration::from_millis(10));
    let users = match mutant {
        Some(mutant) => users.mutant(mutant),
        None => users,
    };
    (users.build().unwrap(), (0..keys).collect())
}

async fn refused_of(keys: u64, mutant: Option<async_cache::testing::Mutant>) -> u64 {
    let (users, keys) = many(keys, mutant);
    let load = users.get_many_or_load(&keys, |keys: Vec<u64>| async move {
        Ok::<_, io::Error>(keys.into_iter().map(|key| (key, key.to_string())).collect::<HashMap<_, _>>())
    });
    let values = load.await.unwrap();
    assert!(values.iter().all(Option::is_some));
    users.stats().fills_rejected
}

#[tokio::test]
async fn a_batch_stores_what_it_loads_however_long_granting_takes() {
    assert_eq!(refused_of(20_000, None).await, 0);
    let refused = refused_of(20_000, Some(async_cache::testing::Mutant::LeasesKeptFromLoad)).await;
    assert!(refused > 0, "what was not stored is counted");
}

/// Runs a future as an executor does that knows nothing of Tokio.
fn outside_tokio<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(std::thread::current())).into();
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut std::task::Context::from_waker(&waker)) {
            std::task::Poll::Ready(output) => return output,
            std::task::Poll::Pending => std::thread::park(),
        }
    }
}

#[test]
fn outside_a_runtime_every_verb_says_so_and_none_panics() {
    let runtime = current_thread();
    let users = runtime.block_on(async { cache(AT_LAST) });
    let both = runtime.block_on(async {
        let tiers = TieredCache::<u64, String>::builder().namespace("both").l1(MemoryBackend::new(100));
        tiers.l2(MemoryBackend::new(100)).build().unwrap()
    });
    for users in [&users, &both] {
        let none = async |_: Vec<u64>| Ok::<_, io::Error>(HashMap::<u64, String>::new());
        let loader = users.data_loader(none).build();
        let outcomes = outside_tokio(async {
            [
                users.get(&1).await.map(drop),
                users.get_many(&[1, 2]).await.map(drop),
                users.get_or_load(&1, || value("new")).await.map(drop),
                users
                    .get_or_load_optional(&1, || async { Ok::<_, io::Error>(None::<String>) })
                    .await
                    .map(drop),
                users.get_many_or_load(&[1, 2], none).await.map(drop),
                users.refresh(&1, || value("new")).await.map(drop),
                users.insert(&1, "new".to_owned()).await.map(drop),
                users.invalidate(&1).await.map(drop),
                users.invalidate_all().await.map(drop),
                users.invalidate_tags(["tag"]).await.map(drop),
                loader.load(1).await.map(drop),
                loader.prime(1, "new".to_owned()).await,
                loader.clear(&1).await,
                loader.clear_all().await,
            ]
        });
        for outcome in outcomes {
            let error = outcome.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.to_string().contains("Tokio runtime"), "{error}");
        }
        let report = outside_tokio(async { users.warm([1], |_| value("new")).await });
        assert_eq!(report.loaded, 0);
        assert_eq!(outside_tokio(users.shutdown()).pending_invalidations, 0);
    }
}
