//! Connections that end, stall or lose data: traffic goes on, and no read is older than the bound.

use std::time::Duration;

use async_cache::OutagePolicy;
use async_cache::testing::{ms, until};
use integration_tests::fleet::Fleet;
use integration_tests::traffic::Traffic;
use integration_tests::{Conditions, Flow, Proxy, Route};

/// Two nodes, each behind its own proxy. Only the first one has the fault.
async fn under(fault: impl AsyncFnOnce(&Proxy, &Traffic)) {
    let fleet = Fleet::redis();
    let proxies = [Proxy::start(fleet.server().port()).await, Proxy::start(fleet.server().port()).await];
    let mut nodes = Vec::new();
    for proxy in &proxies {
        let options = |builder: async_cache::TieredCacheBuilder<String, u64>| {
            builder.outage(OutagePolicy::Load).lease_ttl(ms(500))
        };
        nodes.push(fleet.node_through(proxy, options).await);
    }
    let traffic = Traffic::start(&nodes, ms(2));
    traffic.goes_on(200, 20).await;
    fault(&proxies[0], &traffic).await;
    proxies[0].clear();
    traffic.goes_on(200, 20).await;
    let report = traffic.finish().await;
    println!("{report:?}");
    assert!(report.stale.is_empty(), "{report:?}");
    assert_eq!(report.read_errors, 0, "get_or_load keeps answering: {report:?}");
}

fn flow(flow: Flow) -> Conditions {
    Conditions { flow, ..Conditions::default() }
}

/// Longer than the bound, so that a node without messages would be caught serving old values.
const LONG: Duration = Duration::from_millis(2500);

#[tokio::test(flavor = "multi_thread")]
async fn the_subscriber_is_half_open() {
    under(async |proxy, _| {
        proxy.set(Route::Messages, flow(Flow::Lost));
        tokio::time::sleep(LONG).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_are_half_open() {
    under(async |proxy, _| {
        proxy.freeze(Route::Commands);
        tokio::time::sleep(LONG).await;
    })
    .await;
}

/// The messages of that time arrive afterwards, all at once.
#[tokio::test(flavor = "multi_thread")]
async fn the_subscriber_stalls() {
    under(async |proxy, _| {
        proxy.set(Route::Messages, flow(Flow::Stalled));
        tokio::time::sleep(LONG).await;
    })
    .await;
}

/// A change is complete, on this node and in Redis, long before its message arrives.
#[tokio::test(flavor = "multi_thread")]
async fn messages_are_slower_than_commands() {
    under(async |proxy, traffic| {
        proxy.set(Route::Messages, Conditions { delay: ms(700), ..Conditions::default() });
        tokio::time::sleep(LONG).await;
        traffic.goes_on(50, 5).await;
    })
    .await;
}

/// The deadline of commands is over before they are executed.
#[tokio::test(flavor = "multi_thread")]
async fn commands_arrive_after_their_deadline() {
    under(async |proxy, _| {
        proxy.set(Route::Commands, Conditions { delay: ms(300), jitter: ms(300), ..Conditions::default() });
        tokio::time::sleep(LONG).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_closed_and_refused() {
    under(async |proxy, traffic| {
        for _ in 0..3 {
            Route::ALL.into_iter().for_each(|route| proxy.cut(route));
            traffic.goes_on(50, 5).await;
        }
        proxy.set(Route::Commands, flow(Flow::Refused));
        Route::ALL.into_iter().for_each(|route| proxy.cut(route));
        tokio::time::sleep(LONG).await;
    })
    .await;
}

/// The subscriber is half open. Another node changes a key, and the subscriber comes back. After the bound, L1
/// never answers with the old value.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_made_while_the_subscriber_was_half_open() {
    let fleet = Fleet::redis();
    let proxy = Proxy::start(fleet.server().port()).await;
    let bound = ms(500);
    let deaf = fleet.node_through(&proxy, |builder| builder.max_staleness(bound)).await;
    let other = fleet.node().await;
    other.insert("k", 1).await.unwrap();
    until("it is in L1", || deaf.stats().invalidations_received > 0).await;
    assert_eq!(deaf.get("k").await.unwrap().as_deref(), Some(&1));
    let (hits, flushes) = (deaf.stats().l1_hits, deaf.stats().flushes);
    assert_eq!(deaf.get("k").await.unwrap().as_deref(), Some(&1));
    assert_eq!(deaf.stats().l1_hits, hits + 1, "it answers from L1");

    proxy.freeze(Route::Messages);
    other.insert("k", 2).await.unwrap();
    tokio::time::sleep(bound).await;
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while deaf.stats().flushes == flushes || !deaf.is_serving() {
        assert_eq!(deaf.get("k").await.unwrap().as_deref(), Some(&2));
        assert!(tokio::time::Instant::now() < deadline, "it does not come back");
        tokio::time::sleep(ms(1)).await;
    }
    assert_eq!(deaf.get("k").await.unwrap().as_deref(), Some(&2));
}
