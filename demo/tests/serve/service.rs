//! The service over HTTP, without a browser.

use std::time::{Duration, Instant};

use integration_tests::RedisServer;
use nix::sys::signal::{Signal, kill};
use serde_json::json;

use crate::demo::{Demo, LIMIT, QUIET, lives};

#[test]
fn a_change_on_one_instance_shows_on_every_other() {
    let demo = Demo::serve(&["--instances", "2"]);
    let before = demo.get(&format!("/instances/1/products/{QUIET}"));
    assert_eq!(before.header("x-instance"), Some("1"));
    assert_eq!(before.json()["version"], 1);
    demo.get(&format!("/instances/2/products/{QUIET}")).json();
    let changed = demo.put(&format!("/instances/1/products/{QUIET}"), &json!({ "price_cents": 4711 })).json();
    assert_eq!(changed["version"], 2);
    assert_eq!(changed["pending"], json!(null));
    let begun = Instant::now();
    while demo.get(&format!("/instances/2/products/{QUIET}")).json()["price_cents"] != 4711 {
        assert!(begun.elapsed() < LIMIT, "it does not show the change");
    }
    let row = demo.get(&format!("/products/{QUIET}")).json();
    assert_eq!((&row["version"], &row["id"]), (&json!(2), &json!(QUIET)));
}

#[test]
fn without_an_instance_in_the_path_they_take_turns() {
    let demo = Demo::serve(&["--instances", "3"]);
    let mut seen: Vec<_> =
        (0..3).map(|_| demo.get("/products/1").header("x-instance").map(str::to_owned)).collect();
    seen.sort();
    assert_eq!(seen, ["1", "2", "3"].map(|number| Some(number.to_owned())));
}

#[test]
fn a_search_finds_the_products_of_a_tag() {
    let demo = Demo::serve(&["--instances", "2"]);
    let found = demo.get("/products?tag=lamp").json();
    let products = found["products"].as_array().expect("a list");
    assert_eq!(products.len(), 12);
    assert!(products.iter().all(|product| product["kind"] == "lamp"), "{products:#?}");
    let answer = demo.get("/products?tag=spaceship");
    assert!(answer.status == 422 && answer.body.contains("lamp"), "{answer:?}");
}

#[test]
fn what_cannot_be_is_refused_with_the_reason() {
    let demo = Demo::serve(&["--instances", "2"]);
    let quiet = format!("/products/{QUIET}");
    let put = |path: &str, body| demo.put(path, &body);
    for (answer, status, reason) in [
        (demo.get("/products/999999"), 404, "no product 999999"),
        (demo.get("/instances/3/products/1"), 404, "1 to 2"),
        (demo.get("/instances/0/products/1"), 404, "1 to 2"),
        (put("/products/999999", json!({ "stock": 1 })), 404, "no product 999999"),
        (put(&quiet, json!({})), 422, "price_cents"),
        (put(&quiet, json!({ "name": "" })), 422, "80 characters"),
        (put(&quiet, json!({ "price_cents": 100_000_001 })), 422, "100000000"),
        (put(&quiet, json!({ "price": 1 })), 422, "unknown field `price`"),
        (demo.get("/api/live"), 422, "product"),
        (demo.post("/api/database", &json!({ "health": "tired" })), 422, "tired"),
    ] {
        assert!(answer.status == status && answer.body.contains(reason), "{status} {reason}: {answer:?}");
    }
    assert_eq!(demo.get(&quiet).json()["version"], 1);
}

#[test]
fn a_request_that_another_site_makes_a_browser_send_changes_nothing() {
    let demo = Demo::serve(&["--instances", "1"]);
    let body = json!({ "stopped": true }).to_string();
    let own = format!("http://{}", demo.address);
    let port = demo.address.rsplit_once(':').expect("a port").1;
    let rebound = format!("evil.example:{port}");
    for headers in [
        &[("Origin", "http://evil.example")][..],
        &[("Origin", "null")],
        &[("Sec-Fetch-Site", "cross-site")],
        &[("Host", rebound.as_str())],
        &[("Host", rebound.as_str()), ("Origin", own.as_str())],
    ] {
        let answer = demo.http("POST /api/tier", headers, &body);
        assert_eq!(answer.status, 403, "{headers:?}");
    }
    assert_eq!(demo.http("GET /products/1", &[("Host", "evil.example")], "").status, 403);
    assert_eq!(
        demo.http("PUT /products/1", &[("Origin", "http://evil.example")], r#"{"stock":1}"#).status,
        403
    );
    let answer = demo.http("POST /api/tier", &[("Origin", own.as_str())], &body);
    assert_eq!(answer.json()["tier_stopped"], true);
}

#[test]
fn every_answer_forbids_the_browser_what_the_page_does_not_need() {
    let demo = Demo::serve(&["--instances", "1"]);
    for path in ["/", "/assets/app.js", "/api/facts", "/metrics", "/nothing"] {
        let answer = demo.get(path);
        let policy = answer.header("content-security-policy").expect("a policy");
        assert!(policy.starts_with("default-src 'self';") && !policy.contains("unsafe"), "{path}: {policy}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{path}");
    }
    let page = demo.get("/");
    assert!(page.body.contains("<title>async-cache demo") && !page.body.contains("http"), "{}", page.body);
}

#[test]
fn metrics_and_health_are_for_machines() {
    let demo = Demo::serve(&["--instances", "2"]);
    let begun = Instant::now();
    let metrics = loop {
        let metrics = demo.get("/metrics");
        assert_eq!(metrics.status, 200);
        if metrics.body.contains("catalogue_up{instance=\"2\"} 1") {
            break metrics.body;
        }
        assert!(begun.elapsed() < LIMIT, "{}", metrics.body);
    };
    for line in
        ["# TYPE catalogue_requests_total counter", "catalogue_stale_reads_total 0", "answer=\"l1\"} "]
    {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
    let health = demo.get("/healthz");
    assert_eq!((health.status, health.body.as_str()), (200, "2 of 2 instances serve\n"));
}

#[test]
fn only_so_many_dashboards_are_kept_up_to_date_and_a_closed_one_makes_room() {
    let demo = Demo::serve(&["--instances", "1"]);
    let mut open: Vec<_> = (0..32).map(|_| demo.stream()).collect();
    assert!(open.iter().all(|(status, _)| *status == 200));
    let refused = demo.get("/api/live?product=1");
    assert!(refused.status == 503 && refused.body.contains("32 dashboards are open"), "{refused:?}");
    open.pop();
    let begun = Instant::now();
    while demo.stream().0 != 200 {
        assert!(begun.elapsed() < LIMIT, "the place of a closed page stays taken");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_redis_of_others_is_never_stopped() {
    let server = RedisServer::start();
    let demo = Demo::serve(&["--instances", "2", "--redis", &server.url()]);
    let answer = demo.post("/api/tier", &json!({ "stopped": true }));
    assert!(answer.status == 403 && answer.body.contains("--redis spawn"), "{answer:?}");
    assert_eq!(server.cli::<String>(&["PING"]), "PONG");
}

#[test]
fn its_own_redis_ends_with_it_even_if_one_is_stopped_and_the_other_killed() {
    let demo = Demo::serve(&["--instances", "1", "--redis", "spawn"]);
    let server = demo.own_redis();
    demo.post("/api/tier", &json!({ "stopped": true })).json();
    assert!(lives(server));
    kill(demo.pid(), Signal::SIGKILL).expect("it runs");
    let begun = Instant::now();
    while lives(server) {
        assert!(begun.elapsed() < LIMIT, "its redis-server runs on");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_cold_product_is_queried_once_whether_instances_are_tasks_or_processes() {
    for args in [&["--instances", "3"][..], &["--processes", "3", "--redis", "spawn"]] {
        let demo = Demo::serve(args);
        let rush = demo.post("/api/rush", &json!({})).json();
        assert_eq!(
            (&rush["queries"], &rush["tasks"], &rush["failed"]),
            (&json!(1), &json!(1000), &json!(0)),
            "{args:?}"
        );
        let change = json!({ "product": QUIET, "instance": 1, "price_cents": 100 });
        let change = demo.post("/api/change", &change).json();
        let arrivals = change["arrivals"].as_array().expect("a list");
        assert_eq!(arrivals.len(), 2, "{args:?}");
        assert!(arrivals.iter().all(|arrival| arrival["shown_ms"].is_number()), "{args:?}: {change}");
        assert!(arrivals.iter().all(|arrival| arrival["dropped_ms"].is_number()), "{args:?}: {change}");
    }
}
