//! The message bus: the order of messages, their loss, and faults that must not stop them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_cache_core::backend::{Backend, BusEvent, Listener, NodeId, RegionSpec};
use async_cache_redis::RedisBackend;
use bytes::Bytes;
use integration_tests::listen::PATIENCE;
use integration_tests::{Data, Proxy, Recorder, RedisServer, eventually};

use crate::outage::restored;
use crate::rig::{LIFE, Node, RECORD, frame, key};

/// Whether the region was told of a loss, and then of a new subscription.
fn lost_then_subscribed(heard: &Recorder) -> Option<()> {
    let events = heard.events();
    let lost = events.iter().position(|event| *event == BusEvent::Lost)?;
    events[lost..].contains(&BusEvent::Subscribed).then_some(())
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_arrive_in_the_order_of_their_sequence() {
    let server = RedisServer::start();
    let (a, b) = (Node::on(&server).await, Node::on(&server).await);
    let start = a.region.state(0).await.unwrap();
    // There are eight writers on two nodes with two connections each, and every kind of change.
    let writers: Vec<_> = (0..8)
        .map(|writer| {
            let region = Arc::clone(if writer % 2 == 0 { &a.region } else { &b.region });
            let token = a.token();
            tokio::spawn(async move {
                for round in 0..50 {
                    let k = key(&format!("{writer} {round}"));
                    match round % 10 {
                        0 => drop(region.clear(0).await.unwrap()),
                        1..5 => {
                            let entry = [(k, frame(token, b"v"))];
                            drop(region.put(&entry, LIFE, start.time_ms + 60_000).await.unwrap());
                        }
                        _ => drop(region.invalidate(&[k]).await.unwrap()),
                    }
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let last = start.seq + 400;
    assert_eq!(a.region.state(0).await.unwrap().seq, last);
    for node in [&a, &b] {
        let seqs = || -> Vec<u64> {
            let of = |event: &BusEvent| match event {
                BusEvent::Invalidated { seq, .. } | BusEvent::Cleared { seq, .. } => Some(*seq),
                _ => None,
            };
            node.heard.events().iter().filter_map(of).collect()
        };
        eventually("the last change", || (seqs().last() == Some(&last)).then_some(())).await;
        assert_eq!(seqs(), (start.seq + 1..=last).collect::<Vec<_>>());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_echo_comes_to_its_node_behind_every_change() {
    let server = RedisServer::start();
    let (a, b) = (Node::on(&server).await, Node::on(&server).await);
    let seq = b.region.invalidate(&[key("k")]).await.unwrap()[0];
    let pulse = a.region.heartbeat(0, u64::MAX).await.unwrap();
    let state = a.region.state(0).await.unwrap();
    assert_eq!((pulse.run, state.seq), (state.run, seq));
    assert!(state.time_ms.abs_diff(pulse.time_ms) < 5_000);
    let echo = BusEvent::Echo { partition: 0, seq, beat: u64::MAX };
    a.heard.heard(&echo).await;
    let key = Bytes::from_static(b"k");
    let change = BusEvent::Invalidated { partition: 0, seq, key };
    assert_eq!(a.heard.events(), [BusEvent::Subscribed, change.clone(), echo]);
    // The other node receives the change and the next one, but no echo of another node's heartbeat.
    let clear = b.region.clear(0).await.unwrap();
    let clear = BusEvent::Cleared { partition: 0, seq: clear };
    b.heard.heard(&clear).await;
    assert_eq!(b.heard.events(), [BusEvent::Subscribed, change, clear]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_subscription_is_lost_then_restored() {
    let server = RedisServer::start();
    let node = Node::on(&server).await;
    let second = Node::unsubscribed(node.backend.clone(), "second", RECORD);
    second.heard.heard(&BusEvent::Subscribed).await;
    for heard in [&node.heard, &second.heard] {
        heard.forget();
    }
    let killed = Instant::now();
    assert_eq!(server.cli::<i64>(&["CLIENT", "KILL", "TYPE", "pubsub"]), 1);
    for heard in [&node.heard, &second.heard] {
        eventually("lost, then subscribed", || lost_then_subscribed(heard)).await;
        assert_eq!(heard.events(), [BusEvent::Lost, BusEvent::Subscribed]);
    }
    assert!(killed.elapsed() < Duration::from_secs(1), "{:?}", killed.elapsed());
    let seq = node.region.clear(0).await.unwrap();
    node.heard.heard(&BusEvent::Cleared { partition: 0, seq }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_server_is_subscribed_again() {
    let server = RedisServer::start();
    let node = Node::on(&server).await;
    server.kill();
    node.heard.heard(&BusEvent::Lost).await;
    server.restart(Data::Drop);
    eventually("subscribed again", || lost_then_subscribed(&node.heard)).await;
    restored(&node).await;
    let seq = node.region.clear(0).await.unwrap();
    node.heard.heard(&BusEvent::Cleared { partition: 0, seq }).await;
}

async fn through(proxy: &Proxy, server: &RedisServer, command_timeout: Duration) -> Node {
    let builder = RedisBackend::builder().url(server.url_at(proxy.port()));
    Node::of(builder.command_timeout(command_timeout).connect().await.unwrap()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_half_open_subscription_is_noticed_by_its_missing_echo() {
    let server = RedisServer::start();
    let proxy = Proxy::start(server.port()).await;
    // The deadline is so long that a ping of the connection would take longer than the test allows.
    let node = through(&proxy, &server, Duration::from_secs(5)).await;
    node.heard.forget();
    proxy.freeze_subscribers();
    let frozen = Instant::now();
    let mut beat = 0;
    while !node.heard.events().contains(&BusEvent::Lost) {
        assert!(frozen.elapsed() < PATIENCE, "not noticed");
        // The command route works. This distinguishes the fault from an outage.
        node.region.heartbeat(0, beat).await.unwrap();
        beat += 1;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let noticed = frozen.elapsed();
    assert!(noticed > Duration::from_millis(900) && noticed < Duration::from_millis(1_900), "{noticed:?}");
    eventually("subscribed again", || lost_then_subscribed(&node.heard)).await;
    assert_eq!(proxy.subscribers(), 2, "a new connection, and only one");
    node.region.heartbeat(0, 1_000_000).await.unwrap();
    let echo = |event: &BusEvent| matches!(event, BusEvent::Echo { beat: 1_000_000, .. }).then_some(());
    node.heard.wait("an echo", echo).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_half_open_subscription_is_noticed_without_heartbeats() {
    let server = RedisServer::start();
    let proxy = Proxy::start(server.port()).await;
    let node = through(&proxy, &server, Duration::from_millis(200)).await;
    node.heard.forget();
    proxy.freeze_subscribers();
    eventually("lost, then subscribed", || lost_then_subscribed(&node.heard)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quiet_subscription_is_kept() {
    let server = RedisServer::start();
    let node = Node::on(&server).await;
    // One heartbeat, then a silence that is longer than the tolerance for a missing echo.
    node.region.heartbeat(0, 1).await.unwrap();
    let pings = || {
        let stats: String = server.cli(&["CLIENT", "LIST", "TYPE", "pubsub"]);
        stats.contains(" cmd=ping").then_some(())
    };
    eventually("the quiet connection is asked", pings).await;
    let before: String = server.cli(&["CLIENT", "LIST", "TYPE", "pubsub"]);
    eventually("and asked again", || {
        let now: String = server.cli(&["CLIENT", "LIST", "TYPE", "pubsub"]);
        let total = |list: &str| list.split(" tot-net-in=").nth(1)?.split(' ').next()?.parse::<u64>().ok();
        match (total(&now), total(&before)) {
            (Some(now), Some(before)) => (now > before).then_some(()),
            // Older servers do not report `tot-net-in`, so the age must do.
            _ => now.contains(" age=3").then_some(()),
        }
    })
    .await;
    assert!(!node.heard.events().contains(&BusEvent::Lost));
}

#[tokio::test(flavor = "multi_thread")]
async fn junk_on_the_channels_is_counted_and_dropped() {
    let server = RedisServer::start();
    let node = Node::on(&server).await;
    let own = format!("{{ns:0}}node:{}", node.id);
    let junk: [&[u8]; 9] =
        [b"", b"I:", b"I:x:y", b"\xFF\xFE", b"C:18446744073709551616", b"W:", b"V:5:ab", b"H:1", b"H:-1:1"];
    for message in junk {
        for channel in ["{ns:0}bus", &own] {
            server.cli_raw::<i64>(&[b"PUBLISH", channel.as_bytes(), message]);
        }
    }
    // A published text that looks like an echo is not an echo of this node.
    server.cli::<i64>(&["PUBLISH", "{ns:0}bus", "H:1:1"]);
    let seq = node.region.clear(0).await.unwrap();
    let cleared = BusEvent::Cleared { partition: 0, seq };
    node.heard.heard(&cleared).await;
    // `W:` alone is well formed, because a key may be empty.
    let empty = BusEvent::Woken { key: Bytes::new(), value: None };
    let (junk, heard): (Vec<_>, Vec<_>) =
        node.heard.events().into_iter().partition(|event| *event == BusEvent::Foreign);
    assert_eq!(heard, [BusEvent::Subscribed, empty, cleared]);
    assert_eq!(junk.len(), 2 * 9 + 1 - 1, "each is counted, but for the one that is well formed");
}

/// Panics at every event, and counts them.
#[derive(Default)]
struct Panicking(AtomicUsize);

impl Listener for Panicking {
    fn notify(&self, _: BusEvent) {
        self.0.fetch_add(1, Ordering::Relaxed);
        panic!("a listener's own fault");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panicking_listener_harms_nobody() {
    let server = RedisServer::start();
    let node = Node::on(&server).await;
    let panicking = Arc::<Panicking>::default();
    let listener: Arc<dyn Listener> = panicking.clone();
    let spec = RegionSpec::new("panicking", NodeId::random(), RECORD);
    let region = node.backend.open(spec, Arc::downgrade(&listener)).unwrap();
    let count = |at_least| {
        let panicking = Arc::clone(&panicking);
        move || (panicking.0.load(Ordering::Relaxed) >= at_least).then_some(())
    };
    eventually("the first panic", count(1)).await;
    region.clear(0).await.unwrap();
    eventually("told again", count(2)).await;
    let seq = node.region.clear(0).await.unwrap();
    node.heard.heard(&BusEvent::Cleared { partition: 0, seq }).await;
    assert!(!node.heard.events().contains(&BusEvent::Lost));
    // A listener that was dropped is skipped.
    drop((listener, panicking));
    region.clear(0).await.unwrap();
    node.heard.forget();
    let seq = node.region.clear(0).await.unwrap();
    node.heard.heard(&BusEvent::Cleared { partition: 0, seq }).await;
}

/// Measures the time of an invalidation to the other node. This is not a test.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement: run with --release --ignored --nocapture"]
async fn invalidation_latency() {
    struct Clock(parking_lot::Mutex<Vec<Instant>>);
    impl Listener for Clock {
        fn notify(&self, event: BusEvent) {
            if matches!(event, BusEvent::Invalidated { .. }) {
                self.0.lock().push(Instant::now());
            }
        }
    }
    let server = RedisServer::start();
    let a = Node::on(&server).await;
    let clock = Arc::new(Clock(parking_lot::Mutex::default()));
    let listener: Arc<dyn Listener> = clock.clone();
    let backend = RedisBackend::connect(server.url()).await.unwrap();
    let spec = RegionSpec::new("ns", NodeId::random(), RECORD);
    let region = backend.open(spec, Arc::downgrade(&listener)).unwrap();
    region.state(0).await.unwrap();
    eventually("two subscribers", || (server.subscribers() == 2).then_some(())).await;
    let (mut arrivals, mut answers) = (Vec::new(), Vec::new());
    for round in 0..2_000 {
        clock.0.lock().clear();
        let sent = Instant::now();
        a.region.invalidate(&[key(&round.to_string())]).await.unwrap();
        answers.push(sent.elapsed());
        arrivals.push(eventually("heard", || clock.0.lock().first().copied()).await - sent);
    }
    for (what, times) in [("answer", &mut answers), ("arrival", &mut arrivals)] {
        times.sort();
        println!("{what}: p50 {:?} p99 {:?} max {:?}", times[1_000], times[1_980], times[1_999]);
    }
}
