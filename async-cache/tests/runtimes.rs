//! Caches that outlive the runtime they were built on: a static one, used by one test after the other.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::sync::mpsc;
use std::time::Duration;

use async_cache::testing::{No, Source, until};
use async_cache::{MemoryBackend, TieredCache};
use tokio::runtime::Runtime;

type Cache = TieredCache<String, u64>;

const AT_LAST: Duration = Duration::from_secs(20);

fn one_thread() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn two_threads() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

fn build(l2: &MemoryBackend) -> Cache {
    TieredCache::builder().namespace("rows").l1(MemoryBackend::new(100)).l2(l2.clone()).build().unwrap()
}

/// Work on a runtime of its own, which then ends.
fn on<T>(runtime: Runtime, work: impl Future<Output = T>) -> T {
    let done = runtime.block_on(async { tokio::time::timeout(AT_LAST, work).await.expect("it hangs") });
    drop(runtime);
    done
}

#[test]
fn a_cache_serves_again_on_the_runtime_that_uses_it() {
    for runtime in [one_thread, two_threads] {
        let l2 = MemoryBackend::new(100);
        let cache = on(runtime(), async { build(&l2) });
        for turn in 0..3 {
            on(runtime(), async {
                cache.ready().await.unwrap();
                cache.insert("k", turn).await.unwrap();
                until("L1 answers", || cache.is_serving()).await;
                let other = build(&l2);
                // Another thread may be delivering the messages, and have this one still to deliver.
                let stamp = other.insert("k", 10 + turn).await.unwrap();
                let source = Source::new();
                let load = source.clone();
                let found = cache.get_or_load("k", move || load.now()).at_least(&stamp).await.unwrap();
                assert_eq!((*found, source.loads()), (10 + turn, 0));
                // Longer than what its last heartbeat has proved.
                tokio::time::sleep(Duration::from_millis(1_200)).await;
                until("it goes on serving", || cache.is_serving()).await;
            });
        }
    }
}

/// Its own runtime ends while it is used, and waited for, on another.
#[test]
fn who_waits_on_another_runtime_takes_the_work_over() {
    let l2 = MemoryBackend::new(100);
    let first = two_threads();
    let cache = first.block_on(async { build(&l2) });
    on(one_thread(), async {
        cache.ready().await.unwrap();
        drop(tokio::task::spawn_blocking(move || drop(first)).await);
        until("its last heartbeat is too old", || !cache.is_serving()).await;
        cache.ready().await.unwrap();
        assert!(cache.is_serving());
    });
}

/// A load that its runtime took along is not waited for.
#[test]
fn a_load_that_ended_with_its_runtime_is_begun_again() {
    let l2 = MemoryBackend::new(100);
    for cache in [
        on(one_thread(), async { build(&l2) }),
        on(one_thread(), async { TieredCache::builder().l1(MemoryBackend::new(100)).build().unwrap() }),
    ] {
        let source = Source::new();
        on(one_thread(), async {
            let load = source.clone();
            tokio::select! {
                answer = cache.get_or_load("k", move || load.held()) => panic!("{answer:?}"),
                () = source.begun(1) => {}
            }
        });
        on(one_thread(), async {
            let load = || async { Ok::<_, No>(2) };
            assert_eq!(*cache.get_or_load("k", load).lease_ttl(Duration::from_secs(1)).await.unwrap(), 2);
            assert_eq!(cache.shutdown().await.pending_invalidations, 0);
        });
    }
}

/// What is freed in the background is freed on the next runtime, too.
#[test]
fn expired_values_are_freed_on_the_next_runtime() {
    struct Told(mpsc::Sender<()>);
    impl Drop for Told {
        fn drop(&mut self) {
            let _ = self.0.send(());
        }
    }
    let cache: TieredCache<u64, Told> =
        on(one_thread(), async { TieredCache::builder().l1(MemoryBackend::new(100)).build().unwrap() });
    let (told, freed) = mpsc::channel();
    on(one_thread(), async {
        cache.insert(&1, Told(told)).ttl(Duration::from_millis(50)).await.unwrap();
        until("it is freed", || freed.try_recv().is_ok()).await;
    });
}

#[test]
fn a_cache_is_built_only_where_its_background_work_can_run() {
    let build = || TieredCache::<u64, u64>::builder().l1(MemoryBackend::new(1)).build().map(drop);
    let bare = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for (refused, what) in
        [(build(), "outside a Tokio runtime"), (bare.block_on(async { build() }), "timers")]
    {
        let error = refused.unwrap_err();
        assert_eq!(error.kind(), async_cache::ErrorKind::Config);
        assert!(error.to_string().contains(what), "{error}");
    }
}
