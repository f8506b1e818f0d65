//! Foreign data in place of our numbers: it is refused and counted, and the nodes recover.

use std::sync::Arc;

use async_cache::Stamp;
use async_cache::testing::until;
use integration_tests::RedisServer;
use integration_tests::fleet::{Cache, Fleet};

/// Checks that a change of one node reaches the other, through L2 and the bus.
async fn works(nodes: &[Cache; 2], what: &str) {
    for (from, to) in [(0, 1), (1, 0)] {
        until("both serve", || nodes.iter().all(Cache::is_serving)).await;
        let mut read = None;
        for _ in 0..1000 {
            // Inserts again, because the recovery may void the value.
            nodes[from].insert("k", 1).await.unwrap();
            read = nodes[to].get("k").await.unwrap();
            if read.is_some() {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        assert_eq!(read.as_deref(), Some(&1), "after {what}");
        let stamp = nodes[from].invalidate("k").await.unwrap();
        assert_eq!(nodes[to].get("k").at_least(&stamp).await.unwrap(), None, "after {what}");
    }
}

async fn pair() -> (Arc<RedisServer>, [Cache; 2]) {
    let server = Arc::new(RedisServer::start());
    let fleet = Fleet::on(Arc::clone(&server));
    let nodes = [fleet.node().await, fleet.node().await];
    (server, nodes)
}

#[tokio::test]
async fn numbers_on_the_bus_that_no_server_has_reached() {
    let (server, nodes) = pair().await;
    for message in ["C:9007199254740992", "I:9007199254740992:k", "T:9007199254740991:\x01a", "C:-1", "?"] {
        let before = nodes.each_ref().map(|node| node.stats().unreadable);
        server.cli::<i64>(&["PUBLISH", "{rows:0}bus", message]);
        for (node, before) in nodes.iter().zip(before) {
            until("it is counted", || node.stats().unreadable > before).await;
        }
        works(&nodes, message).await;
    }
    // A number that the server may have given costs the cached entries, and nothing more.
    let now: u64 = server.cli::<String>(&["HGET", "{rows:0}M", "s"]).parse().unwrap();
    server.cli::<i64>(&["PUBLISH", "{rows:0}bus", &format!("C:{}", now + 1_000_000_000)]);
    works(&nodes, "a number ahead of the server").await;
}

/// A stamp may come from outside. An invented number must not become the server's number.
#[tokio::test]
async fn numbers_in_stamps_that_no_server_has_reached() {
    let (server, nodes) = pair().await;
    for number in [9_007_199_254_740_992_u64, 9_007_199_254_740_991, 1 << 52] {
        let stamp = format!("rows@0:{number}").parse().unwrap();
        for node in &nodes {
            let _ = node.get("k").at_least(&stamp).await;
        }
        let reached: u64 = server.cli::<String>(&["HGET", "{rows:0}M", "s"]).parse().unwrap();
        assert!(reached < 1 << 52, "{reached} after {number}");
        works(&nodes, &format!("a stamp of {number}")).await;
    }
}

/// 1. The data is replaced by older data, in the server process that answered before.
/// 2. A node that knows a higher number sends a command. Everything with an older number becomes void.
/// 3. All nodes are told, because the run id does not change.
#[tokio::test]
async fn memory_of_the_same_process_that_is_older_is_told_to_all() {
    let (server, nodes) = pair().await;
    nodes[0].insert("k", 1).await.unwrap();
    let mut connection = server.connection().unwrap();
    let (subscribed, ready) = tokio::sync::oneshot::channel();
    let listening = tokio::task::spawn_blocking(move || {
        let mut bus = connection.as_pubsub();
        bus.subscribe("{rows:0}bus").unwrap();
        bus.set_read_timeout(Some(std::time::Duration::from_secs(60))).unwrap();
        subscribed.send(()).unwrap();
        let start = std::time::Instant::now();
        while !bus.get_message().unwrap().get_payload::<String>().unwrap().starts_with("C:") {
            assert!(start.elapsed().as_secs() < 60, "nobody clears");
        }
    });
    ready.await.unwrap();
    let reached: u64 = server.cli::<String>(&["HGET", "{rows:0}M", "s"]).parse().unwrap();
    server.cli::<i64>(&["HSET", "{rows:0}M", "s", &(reached - 1).to_string()]);
    listening.await.expect("all are told");
    works(&nodes, "older memory").await;
}

#[tokio::test]
async fn numbers_in_the_state_of_the_namespace() {
    let (server, nodes) = pair().await;
    for field in ["s", "f", "tf", "tl"] {
        for number in ["9007199254740992", "-1", "x", "nan", "inf", "1e300", "1.5", "", "0"] {
            server.cli::<i64>(&["HSET", "{rows:0}M", field, number]);
            works(&nodes, &format!("{field} = {number:?}")).await;
        }
    }
}

/// Numbers follow the server's clock in microseconds.
#[tokio::test]
async fn a_stamp_of_more_than_a_year_ahead_is_ignored_and_one_before_that_voids_the_cache() {
    const DAY: u64 = 24 * 3600 * 1_000_000;
    let (_server, nodes) = pair().await;
    let stamp = nodes[0].insert("k", 1).await.unwrap();
    let now: u64 = stamp.to_string().rsplit(':').next().unwrap().parse().unwrap();
    let at = |number: u64| format!("rows@0:{number}").parse::<Stamp>().unwrap();
    for number in [now + 366 * DAY, 1 << 53, u64::MAX] {
        let found = nodes[0].get("k").at_least(&at(number)).await.unwrap();
        assert_eq!(found.as_deref(), Some(&1), "{number}");
    }
    // The node that met the others has kept none of them.
    assert_eq!(nodes[0].get("k").at_least(&at(now + 30 * DAY)).await.unwrap(), None);
}
