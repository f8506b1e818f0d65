//! `Vary`.

use axum::http::header::{ACCEPT_LANGUAGE, HeaderValue};

use crate::site::{Site, layer, request};

/// A handler that answers with all lines of `Accept-Language`.
fn languages(max_variants: usize) -> Site {
    Site::new(layer().max_variants(max_variants), |_, request| {
        let lines = request.headers().get_all("accept-language").iter();
        let body: Vec<_> = lines.map(|line| line.to_str().expect("text").to_owned()).collect();
        ([("cache-control", "max-age=60"), ("vary", "Accept-Language")], body.join("|"))
    })
}

#[tokio::test]
async fn each_variant_answers_the_requests_that_ask_for_it() {
    let site = languages(16);
    for outcome in ["fwd=miss; stored", "hit", "hit"] {
        for language in ["de", "en", "fr", "it"] {
            let answer = site.ask("GET", "/", &[("accept-language", language)]).await;
            assert_eq!((answer.text(), answer.outcome()), (language, outcome));
        }
        assert_eq!(site.get("/").await.text(), "", "no header is a variant of its own");
    }
    assert_eq!(site.runs(), 5);
    let head = site.ask("HEAD", "/", &[("accept-language", "fr")]).await;
    assert_eq!((head.outcome(), head.header("content-length")), ("hit", "2"));
}

#[tokio::test]
async fn every_line_of_a_header_selects() {
    let site = languages(16);
    for _ in 0..2 {
        for lines in [["de", "en"], ["de", "fr"], ["fr", "de"]] {
            let mut request = request("GET", "/", &[]);
            for line in lines {
                request.headers_mut().append(ACCEPT_LANGUAGE, HeaderValue::from_static(line));
            }
            assert_eq!(site.send(request).await.text(), lines.join("|"));
        }
    }
    assert_eq!(site.runs(), 3);
}

#[tokio::test]
async fn the_variants_of_a_url_are_limited_and_the_rest_is_not_cached() {
    let site = languages(3);
    for number in 0..50 {
        let language = number.to_string();
        assert_eq!(site.ask("GET", "/", &[("accept-language", &language)]).await.text(), language);
    }
    assert_eq!(site.layer.cache().stats().loads, 3, "of 50 variants");
    let mut hits = 0;
    for number in 0..50 {
        let language = number.to_string();
        let answer = site.ask("GET", "/", &[("accept-language", &language)]).await;
        assert_eq!(answer.text(), language);
        hits += usize::from(answer.outcome() == "hit");
    }
    assert_eq!(hits, 3);
    assert_eq!(languages(0).get("/").await.text(), "", "a limit of 0 is one of 1");
}

#[tokio::test]
async fn a_response_that_varies_by_cookie_is_stored_for_each_cookie() {
    let site = Site::new(layer(), |_, request| {
        let cookie = request.headers()["cookie"].to_str().expect("text").to_owned();
        ([("cache-control", "max-age=60"), ("vary", "cookie")], cookie)
    });
    for _ in 0..2 {
        for cookie in ["user=1", "user=2"] {
            assert_eq!(site.ask("GET", "/", &[("cookie", cookie)]).await.text(), cookie);
        }
    }
    assert_eq!(site.runs(), 2);
}
