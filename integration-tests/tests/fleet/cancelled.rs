//! Cancelled callers: each method is dropped after each of its polls, and no other caller waits for ever.

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use async_cache::testing::{No, Source, ms, until};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use integration_tests::fleet::{Cache, Fleet};
use integration_tests::on_both_tiers;
use tokio::time::timeout;

/// The moment at which a future is dropped.
#[derive(Debug, Clone, Copy)]
enum Cut {
    /// After this poll has returned.
    After(usize),
    /// Before the next poll, after the wake-up for it.
    Instead(usize),
}

/// Polls a future until the cut. Returns whether it ended.
async fn cut(future: impl Future<Output = ()>, cut: Cut) -> bool {
    let mut future = pin!(future);
    let mut polls = 0;
    poll_fn(|cx| {
        if matches!(cut, Cut::Instead(n) if n == polls) {
            return Poll::Ready(false);
        }
        polls += 1;
        match future.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(true),
            Poll::Pending if matches!(cut, Cut::After(n) if n <= polls) => Poll::Ready(false),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

type Verb = fn(Cache, Source) -> BoxFuture<'static, ()>;

macro_rules! verbs {
    ($($name:literal: |$cache:ident, $source:ident| $call:expr;)*) => {
        &[$(($name, |$cache: Cache, $source: Source| async move {
            let _source = &$source;
            drop($call.await);
        }.boxed())),*]
    };
}

async fn many(keys: Vec<String>, source: Source) -> Result<HashMap<String, u64>, No> {
    let version = source.slow(ms(2)).await?;
    Ok(keys.into_iter().map(|key| (key, version)).collect())
}

const LOOKUPS: &[(&str, Verb)] = verbs! {
    "get": |cache, source| cache.get("k");
    "contains": |cache, source| cache.contains("k");
    "get_many": |cache, source| cache.get_many(["k", "l"]);
    "get_or_load": |cache, source| cache.get_or_load("k", { let s = source.clone(); move || s.slow(ms(2)) });
    "get_or_load_with": |cache, source| cache.get_or_load_with("k", { let s = source.clone(); move |_| s.slow(ms(2)) });
    "get_or_load_optional": |cache, source| cache.get_or_load_optional("k", { let s = source.clone(); move || s.slow(ms(2)).map(|row| row.map(Some)) });
    "get_many_or_load": |cache, source| cache.get_many_or_load(["k", "l"], { let s = source.clone(); move |keys| many(keys, s) });
    "refresh": |cache, source| cache.refresh("k", { let s = source.clone(); move || s.slow(ms(2)) });
    "warm": |cache, source| cache.warm(["k".to_owned(), "l".to_owned()], { let s = source.clone(); move |_| s.slow(ms(2)) });
    "warm_many": |cache, source| cache.warm_many(["k".to_owned(), "l".to_owned()], { let s = source.clone(); move |keys| many(keys, s.clone()) });
    "DataLoader::load_many": |cache, source| cache.data_loader({ let s = source.clone(); move |keys| many(keys, s.clone()) }).load_many(["k".to_owned(), "l".to_owned()]);
    "ready": |cache, source| cache.ready();
};

/// Changes after which the committed version must be read.
const CHANGES: &[(&str, Verb)] = verbs! {
    "insert": |cache, source| cache.insert("k", source.version()).tag("t");
    "insert_many": |cache, source| cache.insert_many([("k".to_owned(), source.version()), ("l".to_owned(), 0)]).tag("t");
    "invalidate": |cache, source| cache.invalidate("k");
    "invalidate_many": |cache, source| cache.invalidate_many(["k", "l"]);
    "invalidate_tag": |cache, source| cache.invalidate_tag("t");
    "invalidate_all": |cache, source| cache.invalidate_all();
};

/// More polls than any method takes, except those that wait for one load after another.
const POLLS: usize = 6;

fn cuts() -> impl Iterator<Item = Cut> {
    (0..POLLS).flat_map(|polls| [Cut::Instead(polls), Cut::After(polls + 1)])
}

async fn load(node: &Cache, source: &Source) -> u64 {
    let source = source.clone();
    let load = node.get_or_load("k", move || source.slow(ms(2))).tag("t").into_future();
    *timeout(Duration::from_secs(3), load).await.expect("nobody waits for who has gone").unwrap()
}

async fn a_lookup_that_is_dropped_strands_nobody(fleet: Fleet) {
    let (one, two) = (fleet.node().await, fleet.node().await);
    for (name, verb) in LOOKUPS {
        for at in cuts() {
            let source = Source::new();
            one.invalidate_all().await.unwrap();
            let dropped = cut(verb(one.clone(), source.clone()), at);
            let (_, here, there) = tokio::join!(dropped, load(&one, &source), load(&two, &source));
            assert_eq!((here, there), (1, 1), "{name} {at:?}");
            let idle = || one.is_idle() && two.is_idle();
            until(&format!("nothing is left of {name} {at:?}"), idle).await;
        }
    }
}

async fn a_change_that_is_dropped_is_made_whole(fleet: Fleet) {
    let (one, two) = (fleet.node().await, fleet.node().await);
    for (name, verb) in CHANGES {
        for at in cuts() {
            let source = Source::new();
            one.invalidate_all().await.unwrap();
            assert_eq!((load(&one, &source).await, load(&two, &source).await), (1, 1));
            source.write();
            cut(verb(one.clone(), source.clone()), at).await;
            if matches!(at, Cut::Instead(0)) {
                // The change was never begun.
                continue;
            }
            for node in [&one, &two] {
                let changed = async {
                    while load(node, &source).await != 2 {
                        tokio::time::sleep(ms(1)).await;
                    }
                };
                timeout(Duration::from_secs(3), changed)
                    .await
                    .unwrap_or_else(|_| panic!("{name} {at:?} was lost"));
            }
            until(&format!("nothing is left of {name} {at:?}"), || one.is_idle() && two.is_idle()).await;
        }
    }
}

async fn a_shutdown_that_is_dropped_is_a_shutdown(fleet: Fleet) {
    for at in cuts().skip(1) {
        let (node, source) = (fleet.node().await, Source::new());
        let (cache, held) = (node.clone(), source.clone());
        let waiting = tokio::spawn(async move { cache.get_or_load("k", move || held.held()).await });
        source.begun(1).await;
        cut(
            async {
                let _ = node.shutdown().await;
            },
            at,
        )
        .await;
        let outcome = timeout(Duration::from_secs(3), waiting).await.expect("the load is ended").unwrap();
        assert_eq!(outcome.unwrap_err().kind(), async_cache::ErrorKind::Shutdown, "{at:?}");
        node.shutdown().await;
        assert!(node.is_idle(), "{at:?}");
    }
}

on_both_tiers! {
    a_lookup_that_is_dropped_strands_nobody,
    a_change_that_is_dropped_is_made_whole,
    a_shutdown_that_is_dropped_is_a_shutdown,
}
