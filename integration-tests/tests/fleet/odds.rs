//! The first command of a miss: a plain read, or the request for the lease.

use async_cache::testing::Source;
use integration_tests::fleet::{Cache, Fleet};

/// Loads keys, and returns how often each command was sent for them.
async fn commands(
    fleet: &Fleet,
    node: &Cache,
    keys: std::ops::Range<u32>,
    source: &Source,
) -> (usize, usize) {
    let monitor = fleet.server().monitor();
    for key in keys {
        let load = source.clone();
        node.get_or_load(&key.to_string(), move || load.now()).await.unwrap();
    }
    let sent = monitor.commands();
    let about = |name: &str, word: &str| {
        sent.iter().filter(|command| command.starts_with(name) && command.contains(word)).count()
    };
    // Scripts about one key contain the name of its value. Heartbeats do not.
    (about("\"GET\"", "V:"), about("\"EVALSHA\"", "V:"))
}

/// While L2 has no values, a lookup asks for the lease at once: two commands for a cold key. It still finds the
/// values that other nodes have loaded, and after that it uses plain reads again.
#[tokio::test]
async fn a_cold_fleet_asks_for_the_lease_at_once() {
    let fleet = Fleet::redis();
    let (one, two) = (fleet.node().await, fleet.node().await);
    let source = Source::new();
    assert_eq!(commands(&fleet, &one, 0..10, &source).await, (10, 20));
    commands(&fleet, &one, 10..100, &source).await;
    assert_eq!(commands(&fleet, &one, 100..200, &source).await, (0, 200));

    assert_eq!(commands(&fleet, &two, 500..600, &source).await.1, 200);
    let loads = source.loads();
    let (reads, scripts) = commands(&fleet, &two, 0..100, &source).await;
    assert!(reads > 80 && scripts < 20, "{reads} reads, {scripts} scripts");
    assert_eq!((source.loads(), two.stats().l2_hits), (loads, 100));
}

/// A refresh does not tell whether L2 has a value, so it does not count.
#[tokio::test]
async fn reloads_say_nothing_of_what_is_there() {
    let fleet = Fleet::redis();
    let (one, two) = (fleet.node().await, fleet.node().await);
    let source = Source::new();
    commands(&fleet, &one, 0..20, &source).await;
    for key in 0..100_u32 {
        let load = source.clone();
        two.refresh(&(1000 + key).to_string(), move || load.now()).await.unwrap();
    }
    assert_eq!(commands(&fleet, &two, 0..20, &source).await, (20, 0));
}
