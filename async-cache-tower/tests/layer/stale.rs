//! Stale responses: RFC 5861.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_cache_tower::{CacheLayer, CacheTags};
use axum::Extension;
use axum::http::StatusCode;
use axum::response::IntoResponse;

use crate::site::{Answer, Site, cache, layer, numbered};

/// Asks until the answer is as wanted. Ages are of the machine's clock, so this takes as long as the response is fresh.
async fn wait_for(site: &Site, path: &str, wanted: impl Fn(&Answer) -> bool) -> Answer {
    for _ in 0..3_000 {
        let answer = site.get(path).await;
        if wanted(&answer) {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("no such answer within 30 s");
}

#[tokio::test]
async fn a_stale_response_answers_at_once_while_it_is_loaded_again() {
    let site = Site::with_headers(layer(), &[("cache-control", "max-age=1, stale-while-revalidate=600")]);
    assert_eq!(site.get("/").await.text(), "1");
    let stale = wait_for(&site, "/", |answer| answer.outcome() == "hit; detail=stale").await;
    assert_eq!(stale.text(), "1");
    assert!(stale.header("age").parse::<u64>().expect("a number") >= 1);
    wait_for(&site, "/", |answer| answer.text() == "2").await;
}

/// A site that fails as soon as it is told to, with a lifetime of 1 s.
fn failing(control: &'static str) -> (Site, Arc<AtomicBool>) {
    let fails = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&fails);
    let site = Site::new(layer(), move |run, _| match told.load(Ordering::SeqCst) {
        true => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        false => numbered(run, &[("cache-control", control)]),
    });
    (site, fails)
}

#[tokio::test]
async fn a_stale_response_answers_for_a_handler_that_fails() {
    let (site, fails) = failing("max-age=1, stale-if-error=600");
    site.get("/").await;
    fails.store(true, Ordering::SeqCst);
    let is_stale = |answer: &Answer| answer.outcome() == "hit; detail=stale";
    let stale = wait_for(&site, "/", |answer| is_stale(answer) && site.runs() > 1).await;
    assert_eq!((stale.status, stale.text()), (StatusCode::OK, "1"));
    fails.store(false, Ordering::SeqCst);
    wait_for(&site, "/", |answer| answer.text() != "1").await;
}

#[tokio::test]
async fn without_permission_the_failure_is_answered() {
    for control in ["max-age=1", "max-age=1, stale-if-error=600, must-revalidate"] {
        let (site, fails) = failing(control);
        site.get("/").await;
        fails.store(true, Ordering::SeqCst);
        let answer = wait_for(&site, "/", |answer| answer.outcome() != "hit").await;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{control}");
    }
}

#[tokio::test]
async fn a_handler_may_say_that_the_stale_response_has_not_changed() {
    let site = Site::new(layer(), |run, request| {
        let headers: &[(&str, &str)] = &[
            ("cache-control", "max-age=1, stale-while-revalidate=600"),
            ("etag", "\"a\""),
            ("content-type", "text/x"),
        ];
        match request.headers().get("if-none-match") {
            Some(_) => {
                (StatusCode::NOT_MODIFIED, [("cache-control", "max-age=600"), ("x-run", "2")]).into_response()
            }
            None => (Extension(CacheTags::new(["t"])), numbered(run, headers)).into_response(),
        }
    });
    site.get("/").await;
    let renewed = wait_for(&site, "/", |answer| answer.header("x-run") == "2").await;
    assert_eq!(
        (renewed.status, renewed.text(), renewed.header("content-type")),
        (StatusCode::OK, "1", "text/x")
    );
    assert_eq!((renewed.header("cache-control"), renewed.outcome()), ("max-age=600", "hit"));
    site.layer.cache().invalidate_tag("t").await.expect("an L1 alone");
    assert_ne!(site.get("/").await.outcome(), "hit", "it keeps its tags");
}

/// The response is young, and it would be fresh but for the change. Neither the layer nor a client may take it for fresh.
#[tokio::test]
async fn a_response_that_was_expired_by_a_change_is_not_said_to_be_fresh() {
    let fails = Arc::new(AtomicBool::new(false));
    for (control, at_once) in [
        ("max-age=60, stale-if-error=600", false),
        ("public, s-maxage=50, max-age=60, stale-while-revalidate=600", true),
    ] {
        let cache = cache();
        fails.store(false, Ordering::SeqCst);
        let told = Arc::clone(&fails);
        let layer = CacheLayer::new(cache.clone()).cache_status("test");
        let site = Site::new(layer, move |run, _| match told.load(Ordering::SeqCst) {
            true => StatusCode::SERVICE_UNAVAILABLE.into_response(),
            false => (Extension(CacheTags::new(["t"])), numbered(run, &[("cache-control", control)]))
                .into_response(),
        });
        assert_eq!(site.get("/").await.text(), "1");
        assert_eq!(site.get("/").await.outcome(), "hit");
        fails.store(true, Ordering::SeqCst);
        cache.expire_tag("t").await.expect("it is expired");
        let stale = site.get("/").await;
        assert_eq!((stale.text(), stale.outcome()), ("1", "hit; detail=stale"), "{control}");
        assert!(stale.header("age").parse::<u64>().expect("a number") >= 60, "{control}: {stale:?}");
        assert!(at_once || site.runs() == 2, "{control}: the handler is asked before a fallback answers");
        fails.store(false, Ordering::SeqCst);
        wait_for(&site, "/", |answer| answer.text() != "1" && answer.outcome() == "hit").await;
    }
}
