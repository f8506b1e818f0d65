//! Methods other than GET.

use axum::body::Body;
use axum::http::{Method, StatusCode};
use axum::response::IntoResponse;

use crate::site::{Site, layer, numbered, request};

const HEADERS: &[(&str, &str)] = &[("cache-control", "max-age=60")];

#[tokio::test]
async fn head_is_answered_from_the_stored_get() {
    let site = Site::with_headers(layer(), HEADERS);
    let miss = site.ask("HEAD", "/", &[]).await;
    assert_eq!(miss.outcome(), "fwd=bypass");
    let get = site.get("/").await;
    let head = site.ask("HEAD", "/", &[]).await;
    assert_eq!((head.outcome(), head.text(), head.header("content-length")), ("hit", "", "1"));
    assert_eq!(head.header("etag"), get.header("etag"));
    let etag = get.header("etag");
    assert_eq!(site.ask("HEAD", "/", &[("if-none-match", etag)]).await.status, StatusCode::NOT_MODIFIED);
    assert_eq!(site.runs(), 2);
    assert_eq!(site.get("/").await.text(), "2", "HEAD stored nothing");
}

#[tokio::test]
async fn other_methods_always_reach_the_handler() {
    let site = Site::with_headers(layer(), HEADERS);
    for (run, method) in
        ["POST", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"].iter().enumerate()
    {
        assert_eq!(site.ask(method, "/", &[]).await.text(), (run + 1).to_string(), "{method}");
    }
}

#[tokio::test]
async fn a_get_with_a_body_reaches_the_handler_with_its_body() {
    let site = Site::waiting(layer(), |_, request| async move {
        let body = axum::body::to_bytes(request.into_body(), 100).await.expect("a body");
        ([("cache-control", "max-age=60")], body).into_response()
    });
    for text in ["one", "two"] {
        let mut request = request("GET", "/", &[]);
        *request.body_mut() = Body::from(text);
        let answer = site.send(request).await;
        assert_eq!((answer.text(), answer.outcome()), (text, "fwd=bypass"));
    }
}

#[tokio::test]
async fn the_success_of_an_unsafe_method_drops_the_url_in_all_variants() {
    for method in ["POST", "PUT", "PATCH", "DELETE"] {
        let site = Site::new(layer(), |run, request| {
            let fails = request.uri().query() == Some("fail") && request.method() != Method::GET;
            let status = if fails { StatusCode::CONFLICT } else { StatusCode::OK };
            (status, numbered(run, &[("cache-control", "public, max-age=60"), ("vary", "accept-language")]))
        });
        let languages = ["de", "en", "fr"].map(|language| [("accept-language", language)]);
        for path in ["/a", "/b", "/a?fail"] {
            for language in &languages {
                site.ask("GET", path, language).await;
            }
        }
        site.ask("GET", "/a", &[("cookie", "a=b")]).await;
        let before = site.runs();
        site.ask(method, "/a", &[]).await;
        site.ask(method, "/a?fail", &[]).await;
        for language in &languages {
            assert_eq!(site.ask("GET", "/b", language).await.outcome(), "hit", "another URL stays");
            assert_eq!(site.ask("GET", "/a?fail", language).await.outcome(), "hit", "the method failed");
            assert_eq!(site.ask("GET", "/a", language).await.outcome(), "fwd=miss; stored");
        }
        assert_eq!(site.ask("GET", "/a", &[("cookie", "a=b")]).await.outcome(), "fwd=miss; stored");
        assert_eq!(site.runs(), before + 2 + 4);
    }
}

#[tokio::test]
async fn a_url_is_dropped_on_demand() {
    let site = Site::with_headers(layer(), HEADERS);
    site.get("/a?b=1").await;
    site.layer.invalidate_url("Example.ORG", "/a?b=1").await.expect("an L1 alone");
    assert_eq!(site.get("/a?b=1").await.text(), "2");
}

#[tokio::test]
async fn a_url_in_a_form_that_no_request_has_is_an_error_with_the_remedy() {
    let layer = layer();
    let wrong = [
        ("example.org", "a?b=1"),
        ("example.org", ""),
        ("example.org", "https://example.org/a"),
        ("https://example.org", "/a"),
        ("example.org/", "/a"),
        ("", "/a"),
    ];
    for (host, path) in wrong {
        let error = layer.invalidate_url(host, path).await.expect_err("it would drop nothing");
        assert_eq!(error.kind(), async_cache::ErrorKind::Key, "{host} {path}");
        assert!(error.to_string().contains("leading slash"), "{error}");
    }
    assert_eq!(layer.cache().stats().invalidations_sent, 0);
}

/// Asks until the page is no hit.
async fn until_dropped(site: &Site) {
    for _ in 0..3_000 {
        if site.get("/").await.outcome() != "hit" {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("the old page is kept");
}

#[tokio::test]
async fn a_client_that_leaves_while_the_handler_of_an_unsafe_method_runs_does_not_keep_the_old_page() {
    let site = Site::waiting(layer(), |run, request| async move {
        if request.method() != Method::GET {
            std::future::pending::<()>().await; // it has committed, and goes on
        }
        numbered(run, HEADERS)
    });
    for runs in [2, 4] {
        site.get("/").await;
        let asking = site.clone();
        let put = tokio::spawn(async move { asking.ask("PUT", "/", &[]).await });
        async_cache::testing::until("the handler runs", || site.runs() == runs).await;
        assert_eq!(site.get("/").await.outcome(), "hit", "nothing is known of its success yet");
        put.abort();
        assert!(put.await.expect_err("aborted").is_cancelled());
        until_dropped(&site).await;
    }
    // A request that has ended makes nothing void afterwards.
    let failing = Site::new(layer(), |run, request| match *request.method() {
        Method::GET => numbered(run, HEADERS),
        _ => StatusCode::CONFLICT.into_response(),
    });
    failing.get("/").await;
    failing.ask("PUT", "/", &[]).await;
    assert_eq!(failing.layer.cache().stats().invalidations_sent, 0);
    assert_eq!(failing.get("/").await.outcome(), "hit");
}

#[tokio::test]
async fn a_handler_that_panics_after_its_commit_does_not_keep_the_old_page() {
    let site = Site::new(layer(), |run, request| {
        assert!(*request.method() == Method::GET, "after the commit");
        numbered(run, HEADERS)
    });
    site.get("/").await;
    let asking = site.clone();
    let put = tokio::spawn(async move { asking.ask("PUT", "/", &[]).await });
    assert!(put.await.expect_err("a panic").is_panic());
    until_dropped(&site).await;
}
