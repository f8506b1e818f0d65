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
