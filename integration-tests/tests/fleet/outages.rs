//! Outages: the bus is lost, or the server is stopped, killed, emptied, or restored with old data. Traffic goes
//! on, and every node converges.
//!
//! With `OutagePolicy::Load` no unverified value is ever returned. So the bound on staleness must hold in every
//! fault of the server.

use std::time::{Duration, Instant};

use async_cache::OutagePolicy;
use async_cache::testing::{Source, ms, until};
use integration_tests::fleet::{Cache, Fleet};
use integration_tests::traffic::{Report, Traffic};
use integration_tests::{Data, RedisServer, eventually_is};

async fn nodes(fleet: &Fleet, outage: OutagePolicy) -> Vec<Cache> {
    let mut nodes = Vec::new();
    for _ in 0..2 {
        nodes.push(fleet.node_with(|builder| builder.outage(outage).lease_ttl(ms(500))).await);
    }
    nodes
}

/// Runs traffic around a fault.
async fn under(fault: impl AsyncFnOnce(&RedisServer, &Traffic), outage: OutagePolicy) -> Report {
    let fleet = Fleet::redis();
    let nodes = nodes(&fleet, outage).await;
    let traffic = Traffic::start(&nodes, ms(2));
    traffic.goes_on(200, 20).await;
    fault(fleet.server(), &traffic).await;
    traffic.goes_on(200, 20).await;
    let report = traffic.finish().await;
    println!("{report:?}");
    // The command deadline is 500 ms; a read may need two (a plain one, then the lease) and its load.
    let limit = Duration::from_secs(2) + report.held_up;
    assert!(report.slowest_read < limit, "{report:?}");
    assert!(report.slowest_invalidation < limit, "{report:?}");
    assert_eq!(report.read_errors, 0, "get_or_load keeps answering: {report:?}");
    report
}

fn never_stale(report: &Report) {
    assert!(report.stale.is_empty(), "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn subscribers_are_killed() {
    let fault = async |server: &RedisServer, traffic: &Traffic| {
        for _ in 0..5 {
            server.cli::<usize>(&["CLIENT", "KILL", "TYPE", "pubsub"]);
            traffic.goes_on(50, 5).await;
        }
    };
    let report = under(fault, OutagePolicy::ServeL1).await;
    never_stale(&report);
    assert_eq!(report.undecided, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_connection_is_killed() {
    let fault = async |server: &RedisServer, traffic: &Traffic| {
        for _ in 0..3 {
            server.cli::<usize>(&["CLIENT", "KILL", "TYPE", "pubsub"]);
            server.cli::<usize>(&["CLIENT", "KILL", "TYPE", "normal"]);
            traffic.goes_on(50, 5).await;
        }
    };
    never_stale(&under(fault, OutagePolicy::Load).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_flushed() {
    let fault = async |server: &RedisServer, traffic: &Traffic| {
        for _ in 0..5 {
            server.cli::<()>(&["FLUSHALL"]);
            traffic.goes_on(50, 5).await;
        }
    };
    let report = under(fault, OutagePolicy::ServeL1).await;
    never_stale(&report);
}

async fn stopped_for_5_s(server: &RedisServer, _: &Traffic) {
    server.pause();
    tokio::time::sleep(Duration::from_secs(5)).await;
    server.resume();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_is_stopped_for_5_s() {
    under(stopped_for_5_s, OutagePolicy::ServeL1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_is_stopped_for_5_s_and_nothing_unverified_is_served() {
    never_stale(&under(stopped_for_5_s, OutagePolicy::Load).await);
}

async fn killed_and_restarted(server: &RedisServer, _: &Traffic) {
    server.kill();
    tokio::time::sleep(Duration::from_secs(1)).await;
    server.restart(Data::Drop);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_is_killed_and_restarted() {
    under(killed_and_restarted, OutagePolicy::ServeL1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_comes_back_with_an_old_snapshot() {
    let fault = async |server: &RedisServer, traffic: &Traffic| {
        server.snapshot();
        traffic.goes_on(200, 50).await;
        server.restart(Data::Keep);
    };
    never_stale(&under(fault, OutagePolicy::Load).await);
}

/// Values from before a restart are void, even for a node that has seen no other values.
#[tokio::test(flavor = "multi_thread")]
async fn a_resurrected_value_is_not_served() {
    let fleet = Fleet::redis();
    let (one, two) = (fleet.node().await, fleet.node().await);
    one.insert("k", 1).await.unwrap();
    assert_eq!(two.get("k").await.unwrap().as_deref(), Some(&1));
    fleet.server().snapshot();
    one.invalidate("k").await.unwrap();
    // Without this wait, L1 of the other node may answer for a second, which is allowed.
    eventually_is("the other node has heard", async || two.get("k").await.unwrap().is_none()).await;
    fleet.server().restart(Data::Keep);
    assert_eq!(fleet.server().cli::<usize>(&["EXISTS", "{rows:0}V:k"]), 1, "the old value is back");
    let source = Source::new();
    source.write();
    for node in [&one, &two, &fleet.node().await] {
        let load = source.clone();
        assert_eq!(*node.get_or_load("k", move || load.now()).await.unwrap(), 2);
    }
}

/// While the server is away, lookups read L1 and load once for each key, without delay. Only a lookup that
/// needs L2 and has no other answer fails.
#[tokio::test(flavor = "multi_thread")]
async fn without_the_server_the_policy_decides() {
    let fleet = Fleet::redis();
    let serve = fleet.node_with(|builder| builder.outage(OutagePolicy::ServeL1)).await;
    let load = fleet.node_with(|builder| builder.outage(OutagePolicy::Load)).await;
    let fail = fleet.node_with(|builder| builder.outage(OutagePolicy::Fail)).await;
    let all = [&serve, &load, &fail];
    serve.insert("k", 1).await.unwrap();
    for node in all {
        assert_eq!(node.get("k").await.unwrap().as_deref(), Some(&1));
    }
    fleet.server().kill();
    for node in all {
        until("the node notices", || !node.is_serving()).await;
    }
    let source = Source::new();
    source.write();
    let ask = |node: &Cache, key: &str| {
        let (node, key, source) = (node.clone(), key.to_owned(), source.clone());
        async move { node.get_or_load(&key, move || source.slow(ms(50))).await }
    };
    // The first command after the loss may wait for its deadline. After it the breaker is open.
    let _ = tokio::join!(serve.get("x"), load.get("x"), fail.get("x"));

    let begun = Instant::now();
    assert_eq!(serve.get("k").await.unwrap().as_deref(), Some(&1), "served unverified");
    assert!(serve.stats().l1_suspended && serve.stats().stale_served > 0);
    assert!(load.get("k").await.unwrap_err().is_temporary());
    assert!(fail.get("k").await.unwrap_err().is_temporary());
    assert!(begun.elapsed() < ms(100), "callers fail in milliseconds: {:?}", begun.elapsed());

    assert_eq!(*ask(&serve, "k").await.unwrap(), 1);
    assert_eq!(*ask(&load, "k").await.unwrap(), 2);
    assert_eq!(ask(&fail, "k").await.unwrap_err().kind(), async_cache::ErrorKind::Backend);

    // Many callers of a cold key cause one load for each node.
    let loads = source.loads();
    for outcome in futures_util::future::join_all((0..50).map(|_| ask(&serve, "cold"))).await {
        assert_eq!(*outcome.unwrap(), 2);
    }
    assert_eq!(source.loads(), loads + 1);
    assert_eq!(*ask(&serve, "cold").await.unwrap(), 2);
    assert_eq!(source.loads(), loads + 1, "what was loaded meanwhile is served from L1");

    // An invalidation is kept until it reaches L2, and its own node applies it at once.
    let error = serve.invalidate("k").await.unwrap_err();
    assert!(error.is_temporary() && error.to_string().contains("unknown"), "{error}");
    assert_eq!(serve.stats().pending_invalidations, 1);
    assert_eq!(*ask(&serve, "k").await.unwrap(), 2, "read your writes");
    fleet.server().restart(Data::Drop);
    until("it has landed", || serve.stats().pending_invalidations == 0).await;
    for node in all {
        until("the node serves again", || node.is_serving()).await;
        assert_eq!(*ask(node, "k").await.unwrap(), 2);
    }
}

/// A load that takes longer than the bound may have read a value that was invalidated later. While the bus is
/// silent, no node can know. Later calls join it only with the policy that suspends the bound.
#[tokio::test(flavor = "multi_thread")]
async fn an_old_load_is_not_joined_in_an_outage_unless_the_bound_is_suspended() {
    let fleet = Fleet::redis();
    let bound = ms(200);
    for (policy, expected) in [(OutagePolicy::Load, 2), (OutagePolicy::ServeL1, 1)] {
        let node = fleet.node_with(|builder| builder.outage(policy).max_staleness(bound)).await;
        fleet.server().kill();
        until("the node notices", || !node.is_serving()).await;
        // The first command after the loss may wait for its deadline.
        let _ = node.get("x").await;
        let source = Source::new();
        let ask = |held: bool| {
            let (node, source) = (node.clone(), source.clone());
            tokio::spawn(async move {
                match held {
                    true => node.get_or_load("k", move || source.held()).await,
                    false => node.get_or_load("k", move || source.now()).await,
                }
            })
        };
        let old = ask(true);
        source.begun(1).await;
        source.write();
        tokio::time::sleep(bound + ms(20)).await;
        let later = ask(false);
        if policy == OutagePolicy::ServeL1 {
            // It joins, and its own loader does not run.
            tokio::time::sleep(ms(50)).await;
            source.let_go(1);
        }
        assert_eq!(*later.await.unwrap().unwrap(), expected, "{policy:?}");
        source.let_go(1);
        assert_eq!(*old.await.unwrap().unwrap(), 1);
        fleet.server().restart(Data::Drop);
    }
}
