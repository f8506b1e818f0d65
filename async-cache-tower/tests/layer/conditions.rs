//! Validators and conditional requests.

use axum::http::StatusCode;

use crate::site::{Site, layer, numbered};

#[tokio::test]
async fn a_response_without_an_entity_tag_gets_a_weak_one_of_its_body() {
    let headers = [("cache-control", "max-age=60")];
    let site =
        Site::new(layer(), move |_, request| numbered(usize::from(request.uri().path() == "/one"), &headers));
    let (one, other) = (site.get("/one").await, site.get("/other").await);
    assert!(one.header("etag").starts_with("W/\""), "{one:?}");
    assert_ne!(one.header("etag"), other.header("etag"));
    assert_eq!(site.get("/other?again").await.header("etag"), other.header("etag"));
    assert_eq!(site.get("/one").await.header("etag"), one.header("etag"));
}

#[tokio::test]
async fn a_client_that_has_the_response_gets_304_from_the_cache() {
    let site = Site::with_headers(
        layer(),
        &[
            ("cache-control", "max-age=60"),
            ("etag", "\"a,b\""),
            ("content-type", "text/x"),
            ("vary", "accept"),
        ],
    );
    // On a miss, too: the whole response is stored.
    let first = site.ask("GET", "/", &[("if-none-match", "\"a,b\"")]).await;
    assert_eq!((first.status, first.text()), (StatusCode::NOT_MODIFIED, ""));
    for matching in ["\"a,b\"", "W/\"a,b\"", "\"x\", W/\"y\", \"a,b\"", "*"] {
        let answer = site.ask("GET", "/", &[("if-none-match", matching)]).await;
        assert_eq!((answer.status, answer.text()), (StatusCode::NOT_MODIFIED, ""), "{matching}");
        assert_eq!(answer.header("etag"), "\"a,b\"");
        assert_eq!(answer.header("cache-control"), "max-age=60");
        assert_eq!(answer.header("vary"), "accept");
        assert_eq!(answer.header("content-type"), "", "304 has no header of a body");
        assert!(!answer.headers.contains_key("content-length"));
    }
    for other in ["\"a\"", "\"b\"", "\"a,b", "a,b", ""] {
        let answer = site.ask("GET", "/", &[("if-none-match", other)]).await;
        assert_eq!((answer.status, answer.text()), (StatusCode::OK, "1"), "{other}");
    }
    assert_eq!(site.runs(), 1);
}

#[tokio::test]
async fn if_modified_since_counts_without_an_entity_tag_of_the_client() {
    let site = Site::with_headers(
        layer(),
        &[
            ("cache-control", "max-age=60"),
            ("last-modified", "Wed, 01 Jan 2025 00:00:00 GMT"),
            ("etag", "\"a\""),
        ],
    );
    let since = |date| ("if-modified-since", date);
    for (headers, status) in [
        (vec![since("Wed, 01 Jan 2025 00:00:00 GMT")], 304),
        (vec![since("Thu, 02 Jan 2025 00:00:00 GMT")], 304),
        (vec![since("Tue, 31 Dec 2024 00:00:00 GMT")], 200),
        (vec![since("yesterday")], 200),
        (vec![since("Thu, 02 Jan 2025 00:00:00 GMT"), ("if-none-match", "\"b\"")], 200),
    ] {
        assert_eq!(site.ask("GET", "/", &headers).await.status, status, "{headers:?}");
    }
    assert_eq!(site.runs(), 1);
}

#[tokio::test]
async fn a_condition_of_one_client_does_not_reach_the_handler_that_loads_for_all() {
    let site = Site::new(layer(), |run, request| {
        let conditions = ["if-none-match", "if-modified-since"];
        assert!(!conditions.iter().any(|name| request.headers().contains_key(*name)));
        numbered(run, &[("cache-control", "max-age=60"), ("etag", "\"a\"")])
    });
    site.ask(
        "GET",
        "/",
        &[("if-none-match", "\"a\""), ("if-modified-since", "Wed, 01 Jan 2025 00:00:00 GMT")],
    )
    .await;
    assert_eq!(site.get("/").await.text(), "1");
}

#[tokio::test]
async fn only_a_response_with_status_200_becomes_304() {
    let site = Site::new(layer(), |run, _| {
        (StatusCode::NOT_FOUND, numbered(run, &[("cache-control", "max-age=60"), ("etag", "\"a\"")]))
    });
    site.get("/").await;
    let answer = site.ask("GET", "/", &[("if-none-match", "\"a\"")]).await;
    assert_eq!((answer.status, answer.outcome()), (StatusCode::NOT_FOUND, "hit"));
}

#[tokio::test]
async fn requests_that_the_cache_cannot_judge_go_to_the_handler() {
    let site = Site::with_headers(layer(), &[("cache-control", "max-age=60")]);
    site.get("/").await;
    for header in ["range", "if-range", "if-match", "if-unmodified-since", "upgrade"] {
        let answer = site.ask("GET", "/", &[(header, "bytes=0-1")]).await;
        assert_eq!(answer.outcome(), "fwd=bypass", "{header}");
    }
    assert_eq!(site.get("/").await.text(), "1");
}
