//! The outbox: a process commits a change, and is killed before it can invalidate anything.

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use serde_json::{Value, json};

use crate::browser::Page;
use crate::demo::{Demo, LIMIT, QUIET};

/// No copy expires during a test, so it goes only if it is invalidated.
const LASTING: [&str; 3] = ["--outbox", "--ttl", "3600"];

fn serve(args: &[&str]) -> Demo {
    Demo::serve(&[args, &LASTING].concat())
}

fn crash(demo: &Demo, price_cents: u32) -> Value {
    demo.post("/api/crash", &json!({ "price_cents": price_cents })).json()
}

/// The value of a line of the metrics, with its labels.
fn metric(demo: &Demo, name: &str) -> Option<String> {
    let metrics = demo.get("/metrics").body;
    metrics.lines().find_map(|line| Some(line.strip_prefix(name)?.to_owned()))
}

fn until(what: &str, demo: &Demo, is: impl Fn(&Demo) -> bool) {
    let begun = Instant::now();
    while !is(demo) {
        assert!(begun.elapsed() < LIMIT, "{what}: {}", demo.get("/metrics").body);
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Whether these instances answer with the price. No copy expires, so they have heard of it.
fn show(demo: &Demo, instances: &[u32], price_cents: u32) -> bool {
    let price = |number| {
        demo.get(&format!("/instances/{number}/products/{QUIET}")).json()["price_cents"] == price_cents
    };
    instances.iter().all(price)
}

#[test]
fn a_change_of_a_killed_process_reaches_every_instance() {
    for args in [&["--instances", "3"][..], &["--processes", "3", "--redis", "spawn"]] {
        let demo = serve(args);
        let crash = crash(&demo, 4711);
        let facts = (&crash["version"], &crash["rows"], &crash["product"]);
        assert_eq!(facts, (&json!(2), &json!(1), &json!(QUIET)), "{args:?}: {crash}");
        assert!(crash["status"].as_str().is_some_and(|status| status.contains("SIGKILL")), "{crash}");
        let arrivals = crash["arrivals"].as_array().expect("a list");
        assert_eq!(arrivals.len(), 3, "{args:?}");
        let gone = arrivals.iter().map(|arrival| arrival["dropped_ms"].as_f64());
        let gone: Option<Vec<f64>> = gone.collect();
        let last = gone.unwrap_or_else(|| panic!("a copy stayed: {crash}")).into_iter().fold(0.0, f64::max);
        assert_eq!(crash["last_gone_ms"].as_f64(), Some(last), "{crash}");
        assert!(show(&demo, &[1, 2, 3], 4711));
        until("the row is applied", &demo, |demo| {
            metric(demo, "catalogue_outbox_applied_total ").as_deref() == Some("1")
                && metric(demo, "catalogue_outbox_rows ").as_deref() == Some("0")
        });
    }
}

#[test]
fn a_row_outlives_a_stopped_tier_and_the_instance_whose_relay_was_at_work() {
    let demo = serve(&["--processes", "3", "--redis", "spawn"]);
    until("a relay is at work", &demo, |demo| metric(demo, "catalogue_outbox_at_work{").is_some());
    demo.post("/api/tier", &json!({ "stopped": true })).json();
    let stopped = crash(&demo, 815);
    assert_eq!(stopped["last_gone_ms"], json!(null), "{stopped}");
    until("the row waits", &demo, |demo| {
        metric(demo, "catalogue_outbox_rows ").as_deref() == Some("1")
            && metric(demo, "catalogue_outbox_oldest_seconds ").as_deref() != Some("0")
    });
    let at_work = metric(&demo, "catalogue_outbox_at_work{instance=\"").expect("a relay is at work");
    let at_work: usize = at_work.split_once('"').expect("a number").0.parse().expect("a number");
    kill(demo.instances()[at_work - 1], Signal::SIGKILL).expect("it runs");
    demo.post("/api/tier", &json!({ "stopped": false })).json();
    let others: Vec<u32> = (1..=3).filter(|number| *number != at_work as u32).collect();
    until("the others show it", &demo, |demo| show(demo, &others, 815));
}

#[test]
fn without_an_outbox_there_is_no_crash_to_try() {
    let demo = Demo::serve(&["--instances", "1"]);
    let refused = demo.post("/api/crash", &json!({ "price_cents": 1 }));
    assert!(refused.status == 403 && refused.body.contains("serve --outbox"), "{refused:?}");
    assert_eq!(demo.get("/api/facts").json()["outbox"], json!(false));
    assert_eq!(metric(&demo, "catalogue_outbox_rows"), None);
}

#[tokio::test]
async fn the_button_says_when_the_last_copy_was_gone() {
    let page = Page::open(serve(&["--instances", "3"])).await;
    page.banner("All is well.").await;
    page.until("a relay is at work", "$('outbox').innerText.includes('The relay of instance ')").await;
    page.click("#crash").await;
    page.until("it is over", "['done', 'error'].includes($('crash-result').dataset.state)").await;
    let said = page.text("crash-result").await;
    let price = page.demo.get(&format!("/products/{QUIET}")).json()["price_cents"].as_f64().expect("a price");
    assert!(said.contains(&format!(" to €{:.2}, and was killed ", price / 100.0)), "{said}");
    assert!(said.contains("SIGKILL") && said.contains("1 row was in the outbox."), "{said}");
    let gone = "/The last of 3 copies was gone [0-9.]+ (ms|s) after the commit[.] Instance 1: after .* Instance 2: after .* Instance 3: after /.test($('crash-result').innerText)";
    assert_eq!(page.value(gone).await, json!(true), "{said}");
    page.until("the cards show it", "document.querySelectorAll('.copy.changed').length === 3").await;
    let logged = "/A process changed product 303 and was killed after its commit: the last of 3 copies was gone/.test($('log').innerText)";
    page.until("the log has it", logged).await;
    let emptied = "$('outbox').innerText.startsWith('In the outbox: 0 rows wait; 1 row applied.')";
    page.until("the outbox is empty", emptied).await;

    // While the tier is stopped, the row waits and is seen to wait.
    page.click("#tier").await;
    page.banner("The shared tier is stopped.").await;
    page.click("#crash").await;
    page.until("it waits", "/1 row waits, the oldest for [0-9.]+ (ms|s)/.test($('outbox').innerText)").await;
    page.until(
        "the banner says so",
        "$('banner').innerText.includes('1 row waits in the outbox, the oldest for ')",
    )
    .await;
    page.until("they gave up", "$('crash-result').innerText.includes('Instance 3 has dropped no copy: ')")
        .await;
    page.click("#tier").await;
    page.banner("All is well.").await;
    page.until("it is applied", "$('outbox').innerText.includes('0 rows wait; 2 rows applied')").await;
    assert_eq!(page.close().await, [""; 0], "nothing is written to the console");
}
