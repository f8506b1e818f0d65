//! What is stored.

use std::time::Duration;

use async_cache_tower::{CacheLayer, CacheTtl, RequestDirectives};
use axum::Extension;
use axum::http::StatusCode;
use axum::response::IntoResponse;

use crate::site::{Site, cache, layer, numbered};

const PUBLIC: &[(&str, &str)] = &[("cache-control", "public, max-age=60")];

#[tokio::test]
async fn a_response_with_a_lifetime_answers_again() {
    let site = Site::with_headers(layer(), &[("cache-control", "max-age=60"), ("content-type", "text/x")]);
    let first = site.get("/a?b=1").await;
    assert_eq!((first.text(), first.outcome()), ("1", "fwd=miss; stored"));
    assert_eq!(first.header("age"), "", "the first answer comes from the handler");
    let second = site.get("/a?b=1").await;
    assert_eq!((second.text(), second.outcome()), ("1", "hit"));
    assert_eq!(second.header("content-type"), "text/x");
    assert!(second.header("age").parse::<u64>().is_ok(), "a hit says its age: {second:?}");
    assert!(second.header("date").ends_with("GMT"));
    assert_eq!(site.get("/a?b=2").await.text(), "2", "another query is another response");
    assert_eq!(site.runs(), 2);
}

#[tokio::test(start_paused = true)]
async fn it_answers_until_its_lifetime_ends() {
    // 40 of the 60 seconds have passed at another cache.
    let site = Site::with_headers(layer(), &[("cache-control", "max-age=60"), ("age", "40")]);
    assert_eq!(site.get("/").await.text(), "1");
    tokio::time::sleep(Duration::from_secs(19)).await;
    let hit = site.get("/").await;
    assert_eq!(hit.text(), "1");
    assert!(hit.header("age").parse::<u64>().expect("a number") >= 40, "{hit:?}");
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(site.get("/").await.text(), "2");
}

#[tokio::test]
async fn what_a_shared_cache_may_not_store_is_not_stored() {
    let refused: &[&[(&str, &str)]] = &[
        &[],
        &[("last-modified", "Wed, 01 Jan 2020 00:00:00 GMT")],
        &[("cache-control", "private, max-age=60")],
        &[("cache-control", "PRIVATE, max-age=60")],
        &[("cache-control", "max-age=60"), ("cache-control", "Private")],
        &[("cache-control", "private=\"x-a, x-b\", max-age=60")],
        &[("cache-control", "No-Store, max-age=60")],
        &[("cache-control", "no-cache, max-age=60")],
        &[("cache-control", "max-age=0")],
        &[("cache-control", "max-age=60, s-maxage=0")],
        &[("cache-control", "max-age=60"), ("age", "60")],
        &[("cache-control", "max-age=60"), ("vary", "*")],
        &[("cache-control", "max-age=60"), ("vary", "accept, *")],
        &[("cache-control", "public, max-age=60"), ("set-cookie", "session=1")],
        &[("expires", "0")],
        &[("pragma", "no-cache")],
    ];
    for headers in refused {
        let site = Site::with_headers(layer(), headers);
        for run in ["1", "2", "3"] {
            let answer = site.get("/").await;
            assert_eq!(answer.text(), run, "{headers:?}");
            assert!(!answer.outcome().contains("stored"), "{headers:?}: {}", answer.outcome());
            assert_eq!(
                answer.headers.get_all("cache-control").iter().count(),
                headers.iter().filter(|(name, _)| *name == "cache-control").count()
            );
        }
    }
}

#[tokio::test]
async fn explicit_lifetimes_are_respected_in_every_form() {
    let stored: &[&[(&str, &str)]] = &[
        &[("cache-control", "Max-Age=60")],
        &[("cache-control", "max-age=\"60\"")],
        &[("cache-control", "max-age=0, s-maxage=60")],
        &[("expires", "Fri, 01 Jan 2100 00:00:00 GMT")],
    ];
    for headers in stored {
        let site = Site::with_headers(layer(), headers);
        site.get("/").await;
        assert_eq!(site.get("/").await.outcome(), "hit", "{headers:?}");
    }
}

#[tokio::test]
async fn failures_and_partial_responses_are_not_stored() {
    for status in [206, 400, 401, 403, 418, 429, 500, 502, 503] {
        let status = StatusCode::from_u16(status).expect("a status");
        let site = Site::new(layer(), move |run, _| (status, numbered(run, PUBLIC)));
        site.get("/").await;
        let second = site.get("/").await;
        assert_eq!((second.status, second.text()), (status, "2"));
    }
    for status in [StatusCode::NOT_FOUND, StatusCode::MOVED_PERMANENTLY] {
        let site = Site::new(layer(), move |run, _| (status, numbered(run, PUBLIC)));
        site.get("/").await;
        let second = site.get("/").await;
        assert_eq!((second.status, second.text()), (status, "1"), "with a lifetime it is stored");
    }
}

#[tokio::test]
async fn a_response_to_a_request_with_credentials_is_stored_only_if_it_says_that_it_is_for_all() {
    for credentials in [("authorization", "Bearer 1"), ("cookie", "session=1")] {
        let site = Site::with_headers(layer(), &[("cache-control", "max-age=60")]);
        assert_eq!(site.ask("GET", "/", &[credentials]).await.text(), "1");
        assert_eq!(site.ask("GET", "/", &[credentials]).await.text(), "2");

        let site = Site::with_headers(layer(), PUBLIC);
        assert_eq!(site.ask("GET", "/", &[credentials]).await.text(), "1");
        assert_eq!(site.ask("GET", "/", &[credentials]).await.text(), "1");
    }
}

#[tokio::test]
async fn requests_with_and_without_credentials_share_nothing() {
    let site = Site::with_headers(layer(), PUBLIC);
    assert_eq!(site.get("/").await.text(), "1");
    assert_eq!(site.ask("GET", "/", &[("cookie", "session=1")]).await.text(), "2");
    assert_eq!(site.ask("GET", "/", &[("authorization", "Basic 1")]).await.text(), "2");
    assert_eq!(site.get("/").await.text(), "1");
}

#[tokio::test]
async fn hosts_do_not_mix() {
    let site = Site::new(layer(), |_, request| {
        let host = request.headers()["host"].to_str().expect("text").to_owned();
        ([("cache-control", "max-age=60")], host)
    });
    for host in ["a.example", "b.example", "a.example:81"] {
        assert_eq!(site.ask("GET", "/", &[("host", host)]).await.text(), host);
        assert_eq!(site.ask("GET", "/", &[("host", host)]).await.text(), host);
    }
    assert_eq!(site.ask("GET", "/", &[("host", "A.EXAMPLE")]).await.outcome(), "hit");
    assert_eq!(site.runs(), 3);
}

#[tokio::test]
async fn the_key_is_the_services_choice() {
    let layer = layer().key(|request| {
        let path = request.uri.path();
        (path != "/admin").then(|| path.to_owned())
    });
    let site = Site::with_headers(layer, PUBLIC);
    assert_eq!(site.get("/?utm_source=a").await.text(), "1");
    assert_eq!(site.ask("GET", "/?utm_source=b", &[("host", "other.example")]).await.text(), "1");
    assert_eq!(site.get("/admin").await.text(), "2");
    assert_eq!(site.get("/admin").await.text(), "3");
    let long = format!("/{}", "a".repeat(2_000));
    assert_eq!(site.get(&long).await.text(), "4", "a key that is too long is not cached");
    assert_eq!(site.get(&long).await.text(), "5");
}

#[tokio::test]
async fn a_default_lifetime_is_for_responses_that_say_nothing() {
    let layer = || layer().default_ttl(Duration::from_secs(60));
    let site = Site::with_headers(layer(), &[]);
    site.get("/").await;
    let second = site.get("/").await;
    assert_eq!((second.text(), second.header("cache-control")), ("1", ""), "clients are told nothing");
    assert_eq!(site.ask("GET", "/", &[("cookie", "session=1")]).await.text(), "2");
    assert_eq!(site.ask("GET", "/", &[("cookie", "session=1")]).await.text(), "3");
    for silent in [&[("cache-control", "no-cache")], &[("set-cookie", "session=1")]] {
        let site = Site::with_headers(layer(), silent);
        site.get("/").await;
        assert_eq!(site.get("/").await.text(), "2", "{silent:?}");
    }
    let site = Site::new(layer(), |run, _| (StatusCode::NOT_FOUND, run.to_string()));
    site.get("/").await;
    assert_eq!(site.get("/").await.text(), "2");
}

#[tokio::test(start_paused = true)]
async fn a_handler_sets_a_lifetime_of_which_clients_are_not_told() {
    let site = Site::new(layer(), |run, _| {
        (Extension(CacheTtl(Duration::from_millis(1_500))), [("cache-control", "no-cache")], run.to_string())
    });
    site.get("/").await;
    let second = site.get("/").await;
    assert_eq!((second.text(), second.header("cache-control")), ("1", "no-cache"));
    tokio::time::sleep(Duration::from_millis(1_600)).await;
    assert_eq!(site.get("/").await.text(), "2");

    let site = Site::new(layer(), |run, _| {
        (Extension(CacheTtl(Duration::from_secs(60))), [("cache-control", "private")], run.to_string())
            .into_response()
    });
    site.get("/").await;
    assert_eq!(site.get("/").await.text(), "2", "what is private stays private");
}

#[tokio::test]
async fn all_lines_of_a_header_are_kept_and_those_of_the_connection_are_not() {
    let headers: &[(&str, &str)] = &[
        ("cache-control", "max-age=60"),
        ("link", "</a>; rel=preload"),
        ("link", "</b>; rel=preload"),
        ("connection", "x-hop"),
        ("x-hop", "1"),
        ("keep-alive", "timeout=5"),
    ];
    let site = Site::with_headers(layer(), headers);
    for outcome in ["fwd=miss; stored", "hit"] {
        let answer = site.get("/").await;
        assert_eq!(answer.outcome(), outcome);
        assert_eq!(answer.headers.get_all("link").iter().count(), 2);
        for name in ["connection", "x-hop", "keep-alive"] {
            assert!(!answer.headers.contains_key(name), "{name}");
        }
    }
}

#[tokio::test]
async fn a_clients_own_directives_count_only_if_the_service_wants_it() {
    let reload: &[(&str, &str)] = &[("cache-control", "no-cache")];
    let site = Site::with_headers(layer(), PUBLIC);
    site.get("/").await;
    assert_eq!(site.ask("GET", "/", reload).await.text(), "1");

    let site = Site::with_headers(layer().request_directives(RequestDirectives::Honour), PUBLIC);
    site.get("/").await;
    assert_eq!(site.ask("GET", "/", &[("cache-control", "max-age=50")]).await.text(), "1");
    assert_eq!(site.ask("GET", "/", reload).await.text(), "2");
    assert_eq!(site.get("/").await.text(), "2", "the new response is stored");
    assert_eq!(site.ask("GET", "/", &[("cache-control", "Min-Fresh=90")]).await.text(), "3");
    assert_eq!(site.ask("GET", "/", &[("pragma", "no-cache")]).await.text(), "4");
    assert_eq!(site.ask("GET", "/", &[("cache-control", "no-store")]).await.text(), "5");
    assert_eq!(site.get("/").await.text(), "4", "a response to no-store is not stored");
}

#[tokio::test]
async fn debug_output_has_no_headers_and_no_body() {
    let cache = cache();
    let site = Site::new(CacheLayer::new(cache.clone()), |_, _| {
        ([("cache-control", "max-age=60"), ("x-token", "secret-1")], "secret-2")
    });
    site.get("/secret-3").await;
    let key = "p0 example.org /secret-3".to_owned();
    let stored = cache.get(&key).await.expect("L1 answers").expect("stored under the documented key");
    assert!(stored.size() > 100);
    let text = format!("{stored:?} {:?}", site.layer);
    assert!(!text.contains("secret"), "{text}");
}
