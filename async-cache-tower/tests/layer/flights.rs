//! One run of the handler for many requests.

use std::sync::Arc;

use futures_util::future::join_all;
use tokio::sync::Semaphore;

use crate::site::{Answer, Site, layer, numbered};

/// A site whose handler waits for a permit, and counts those that wait.
fn held(headers: &'static [(&'static str, &'static str)]) -> (Site, Arc<Semaphore>) {
    let gate = Arc::new(Semaphore::new(0));
    let held = Arc::clone(&gate);
    let site = Site::waiting(layer(), move |run, _| {
        let gate = Arc::clone(&held);
        async move {
            gate.acquire().await.expect("open").forget();
            numbered(run, headers)
        }
    });
    (site, gate)
}

async fn hundred(site: &Site, gate: &Semaphore, headers: &[(&str, &str)]) -> Vec<Answer> {
    let requests = join_all((0..100).map(|_| site.ask("GET", "/", headers)));
    let release = async {
        async_cache::testing::until("a run", || site.runs() > 0).await;
        gate.add_permits(1_000);
    };
    tokio::join!(requests, release).0
}

#[tokio::test]
async fn a_hundred_requests_for_one_url_run_the_handler_once() {
    let (site, gate) = held(&[("cache-control", "max-age=60")]);
    let answers = hundred(&site, &gate, &[]).await;
    assert!(answers.iter().all(|answer| answer.text() == "1"));
    assert_eq!(site.runs(), 1);
}

#[tokio::test]
async fn a_response_that_may_not_be_stored_answers_only_the_request_that_it_was_made_for() {
    let (site, gate) = held(&[("cache-control", "private, max-age=60")]);
    let answers = hundred(&site, &gate, &[("cookie", "session=1")]).await;
    let mut runs: Vec<usize> =
        answers.iter().map(|answer| answer.text().parse().expect("a number")).collect();
    runs.sort_unstable();
    assert_eq!(runs, (1..=100).collect::<Vec<_>>(), "each request has a run of its own");
}

#[tokio::test(start_paused = true)]
async fn requests_for_what_is_not_storable_do_not_wait_for_each_other() {
    let (site, gate) = held(&[]);
    gate.add_permits(1);
    site.get("/").await; // shows that it is not storable
    let requests = join_all((0..10).map(|_| site.get("/")));
    let release = async {
        async_cache::testing::until("all run at once", || site.runs() == 11).await;
        gate.add_permits(10);
    };
    tokio::join!(requests, release);
}

#[tokio::test]
async fn the_load_of_a_request_that_goes_away_is_stored() {
    let (site, gate) = held(&[("cache-control", "max-age=60")]);
    let asking = site.clone();
    let request = tokio::spawn(async move { asking.get("/").await });
    async_cache::testing::until("a run", || site.runs() == 1).await;
    request.abort();
    assert!(request.await.expect_err("aborted").is_cancelled());
    gate.add_permits(1);
    assert_eq!(site.get("/").await.text(), "1");
}

#[tokio::test]
async fn a_response_that_became_void_during_its_load_is_not_said_to_be_stored() {
    let (site, gate) = held(&[("cache-control", "max-age=60")]);
    let change = async {
        async_cache::testing::until("a run", || site.runs() == 1).await;
        site.layer.invalidate_url("example.org", "/").await.expect("an L1 alone");
        gate.add_permits(10);
    };
    let (answer, ()) = tokio::join!(site.get("/"), change);
    assert_eq!(answer.outcome(), "fwd=miss");
    assert_eq!(site.get("/").await.outcome(), "fwd=miss; stored");
    assert_eq!(site.get("/").await.outcome(), "hit");
}
