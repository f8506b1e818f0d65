//! Requests whose host is in doubt.

use crate::site::{Site, layer, request};

const PUBLIC: &[(&str, &str)] = &[("cache-control", "public, max-age=60")];

#[tokio::test]
async fn a_request_whose_host_is_in_doubt_is_not_cached() {
    let site = Site::with_headers(layer(), PUBLIC);
    for agreeing in
        [("x-forwarded-host", "Example.org"), ("forwarded", "for=10.0.0.1; Host=\"example.org\";proto=https")]
    {
        let answer = site.ask("GET", "/", &[agreeing]).await;
        assert_eq!(answer.text(), "1", "{agreeing:?}");
    }
    for doubtful in [
        ("x-forwarded-host", "evil.example"),
        ("x-forwarded-host", "example.org, evil.example"),
        ("x-host", "evil.example"),
        ("forwarded", "for=10.0.0.1, host=evil.example"),
    ] {
        assert_eq!(site.ask("GET", "/", &[doubtful]).await.outcome(), "fwd=bypass", "{doubtful:?}");
    }
    let request = request("GET", "http://example.org/", &[("host", "evil.example")]);
    assert_eq!(site.send(request).await.outcome(), "fwd=bypass");
    let mut without = crate::site::request("GET", "/", &[]);
    without.headers_mut().remove("host");
    assert_eq!(site.send(without).await.outcome(), "fwd=bypass");
    assert_eq!(site.get("/").await.text(), "1");
}

/// Lines of `Forwarded` in which some parser may find another host than `example.org`.
const DOUBTFUL: [&str; 18] = [
    "for=1.2.3.4;host =evil.example",
    "for=1.2.3.4; host = evil.example",
    "for=1.2.3.4;host= evil.example",
    "for=1.2.3.4;host\t=\tevil.example",
    "host =example.org",
    "for=\"a;host=evil.example\"",
    "for=\"a,host=evil.example;b\"",
    "for=\"a\";host=\"evil.example",
    "for=\"a;host=example.org",
    "for=a\";host=example.org",
    "host=\"exam\\ple.org\"",
    "host=\"\"example.org\"\"",
    "host=example.org evil.example",
    "host:evil.example",
    "evil.example",
    "\"host\"=evil.example",
    "host=",
    "=example.org",
];

#[tokio::test]
async fn a_forwarded_header_that_any_parser_may_read_as_another_host_stores_nothing() {
    for line in DOUBTFUL {
        let site = Site::with_headers(layer(), PUBLIC);
        let attack = site.ask("GET", "/", &[("forwarded", line)]).await;
        assert_eq!(attack.outcome(), "fwd=bypass", "{line}");
        let other = site.get("/").await;
        assert_eq!(other.text(), "2", "{line}: another client gets the page of that host");
    }
}

#[tokio::test]
async fn the_forms_of_forwarded_that_proxies_send_are_cached() {
    let site = Site::with_headers(layer(), PUBLIC);
    for line in [
        "for=192.0.2.43",
        "for=192.0.2.43, for=198.51.100.17",
        "For=\"[2001:db8:cafe::17]:4711\"",
        "for=192.0.2.60;proto=http;by=203.0.113.43",
        "for=192.0.2.43 ; host=example.org , for=\"_gazonk\"",
        "for=192.0.2.43:4711;host=Example.ORG;",
        "",
    ] {
        assert_eq!(site.ask("GET", "/", &[("forwarded", line)]).await.text(), "1", "{line}");
    }
}

#[tokio::test]
async fn an_unsafe_request_drops_its_url_under_every_host_that_it_may_mean() {
    let names: [&[(&str, &str)]; 7] = [
        &[("x-forwarded-host", "other.example")],
        &[("x-forwarded-host", "proxy.example, Other.example")],
        &[("x-host", "other.example")],
        &[("forwarded", "for=1.2.3.4;host=other.example")],
        &[("forwarded", "for=1.2.3.4; host = \"other.example\"")],
        &[("host", "OTHER.example"), ("x-forwarded-host", "example.org")],
        &[("host", "other.example"), ("forwarded", "host = example.org")],
    ];
    let site = Site::with_headers(layer(), PUBLIC);
    let hosts = ["example.org", "other.example"].map(|host| [("host", host)]);
    for headers in names {
        for host in &hosts {
            site.ask("GET", "/", host).await;
        }
        site.ask("PUT", "/", headers).await;
        for host in &hosts {
            assert_ne!(site.ask("GET", "/", host).await.outcome(), "hit", "{headers:?} {host:?}");
            assert_eq!(site.ask("GET", "/", host).await.outcome(), "hit");
        }
    }
    // The target's host, with another `Host` and without one.
    for header in [&[("host", "example.org")][..], &[]] {
        let mut put = request("PUT", "http://other.example/", header);
        if header.is_empty() {
            put.headers_mut().remove("host");
        }
        site.send(put).await;
        assert_ne!(site.ask("GET", "/", &hosts[1]).await.outcome(), "hit", "{header:?}");
    }
    assert_ne!(site.get("/").await.outcome(), "hit", "the first of the two named it");
}

#[tokio::test]
async fn one_unsafe_request_drops_its_url_under_a_limited_number_of_hosts() {
    let site = Site::with_headers(layer(), PUBLIC);
    let names: Vec<String> = (0..50).map(|number| format!("h{number}.example")).collect();
    for name in &names {
        site.ask("GET", "/", &[("host", name)]).await;
    }
    site.get("/").await;
    site.ask("PUT", "/", &[("x-forwarded-host", &names.join(","))]).await;
    assert_ne!(site.get("/").await.outcome(), "hit", "`Host` comes first");
    let mut hits = 0;
    for name in &names {
        hits += usize::from(site.ask("GET", "/", &[("host", name)]).await.outcome() == "hit");
    }
    assert_eq!(hits, 43, "7 others of 50");
}
