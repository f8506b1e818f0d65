//! The branches of each script.

use std::time::{Duration, Instant};

use async_cache_core::ErrorKind;
use async_cache_core::backend::{
    Accept, Acquire, Acquired, Announce, BusEvent, Fill, Filled, GRANT_PACE, Renewed, WAKE_INLINE,
};
use async_cache_core::frame::{token_of, unseal};
use bytes::Bytes;
use integration_tests::{RedisServer, eventually};

use crate::rig::{LIFE, Node, TTL, frame, key, stored};

#[tokio::test(flavor = "multi_thread")]
async fn lua_seals_as_rust_does() {
    let server = RedisServer::start();
    let node = Node::on(&server).await;
    let k = key("k");
    // The sequence starts at the time in µs. The cases are around it and as far from it as the scripts accept.
    let modulus = 4_294_967_291_u64;
    let now = node.region.state(0).await.unwrap().seq;
    assert!(now > 1_700_000_000_000_000, "{now}");
    let interesting = [1, modulus - 1, modulus, modulus * 400_000 - 1, now, now + 30_000_000_000_000];
    for start in interesting {
        server.cli::<()>(&["HSET", "{ns:0}M", "s", &start.to_string(), "f", "0"]);
        for step in 1..=3 {
            let (token, value) = node.store(&k, b"v").await;
            assert_eq!(unseal(&value), Some(start + step));
            assert_eq!(node.read(&k).await, Some(value.clone()));
            // Lua also reads the seal back.
            assert_eq!(node.acquire(&k).await, Acquired::Value(value));
            assert_eq!(token_of(&node.read(&k).await.unwrap()), Some(token));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn acquire_gives_the_value_or_says_it_is_known() {
    let server = RedisServer::start();
    let node = Node::on(&server).await;
    let k = key("k");
    let (token, value) = node.store(&k, b"both ends, and a payload").await;
    let ask = |accept| Acquire { accept, ..node.ask() };
    let answer = async |ask: Acquire| node.region.acquire_one(&k, ask).await.unwrap();
    let other = node.token();
    assert_eq!(answer(ask(Accept::Any)).await, Acquired::Value(value.clone()));
    let seq = node.region.state(0).await.unwrap().seq;
    let ends = async_cache::frame::ends_of(&value);
    assert_eq!(answer(ask(Accept::Known(token))).await, Acquired::Unchanged { seq, ends });
    assert_eq!(answer(ask(Accept::Known(other))).await, Acquired::Value(value.clone()));
    assert_eq!(answer(ask(Accept::Other(other))).await, Acquired::Value(value));
    let Acquired::Granted(lease) = answer(ask(Accept::Other(token))).await else { panic!("not granted") };
    node.region.release_one(&k, lease).await.unwrap();
    assert!(matches!(answer(ask(Accept::Nothing)).await, Acquired::Granted(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_from_grant_to_fill() {
    let server = RedisServer::start();
    let (a, b) = (Node::on(&server).await, Node::on(&server).await);
    let k = key("a:\u{1F512} \0\r\n");
    let lease = a.lease(&k).await;
    assert_eq!(lease.seq, a.region.state(0).await.unwrap().seq);
    let Acquired::Busy(left) = b.acquire(&k).await else { panic!("granted twice") };
    assert!(left <= TTL && left > TTL / 2, "{left:?}");

    let frame = frame(lease.token, b"\0\r\n:value");
    let filled = a
        .region
        .fill_one(Fill { key: k.clone(), lease, frame: frame.clone(), life: LIFE, announce: Announce::No })
        .await
        .unwrap();
    assert_eq!(filled, Filled::Stored { seq: lease.seq });
    let value = stored(lease.seq, &frame);
    assert_eq!(a.read(&k).await, Some(value.clone()));
    let woken = BusEvent::Woken { key: Bytes::copy_from_slice(k.as_bytes()), value: Some(value.clone()) };
    b.heard.heard(&woken).await;
    assert_eq!(b.acquire(&k).await, Acquired::Value(value));
    // Nothing else is stored, and a fill is not a change.
    assert_eq!(server.cli::<usize>(&["DBSIZE"]), 2, "M and V");
    assert_eq!(a.region.state(0).await.unwrap().seq, lease.seq);
    assert_eq!(a.heard.events(), [BusEvent::Subscribed]);
    // The fill has ended the lease.
    let again = a
        .region
        .fill_one(Fill { key: k.clone(), lease, frame, life: LIFE, announce: Announce::No })
        .await
        .unwrap();
    assert_eq!(again, Filled::Refused);
}

/// A pipeline may be sent again from the first call whose script the server has forgotten.
#[tokio::test(flavor = "multi_thread")]
async fn an_acquire_sent_twice_grants_once() {
    let server = RedisServer::start();
    let (a, b) = (Node::on(&server).await, Node::on(&server).await);
    let k = key("k");
    let ask = a.ask();
    let first = a.region.acquire_one(&k, ask).await.unwrap();
    let Acquired::Granted(lease) = first else { panic!("not granted: {first:?}") };
    // The sequence moves in between.
    b.store(&key("other"), b"v").await;
    assert_eq!(a.region.acquire_one(&k, ask).await.unwrap(), Acquired::Granted(lease), "by itself");
    let many = a.region.acquire(&[(k.clone(), ask), (k.clone(), ask)]).await;
    for answer in many {
        assert_eq!(answer.unwrap(), Acquired::Granted(lease), "in a batch");
    }
    // The node is not noted as a waiter, and no other acquisition gets the lease.
    assert!(!server.cli::<bool>(&["EXISTS", "{ns:0}W:k"]));
    assert!(matches!(a.acquire(&k).await, Acquired::Busy(_)), "another acquisition of the same node");
    assert!(matches!(b.acquire(&k).await, Acquired::Busy(_)));
    a.region.release_one(&k, lease).await.unwrap();
    b.lease(&k).await;
    assert!(
        matches!(a.region.acquire_one(&k, ask).await.unwrap(), Acquired::Busy(_)),
        "the lease of another"
    );
}

/// A node that waits while the key cools is woken when the next load has ended. The node that loads is not.
#[tokio::test(flavor = "multi_thread")]
async fn who_waits_while_a_key_cools_is_noted_for_the_next_load() {
    let server = RedisServer::start();
    let (a, b) = (Node::on(&server).await, Node::on(&server).await);
    let k = key("k");
    a.lease(&k).await;
    a.region.invalidate(std::slice::from_ref(&k)).await.unwrap();
    // The key cools for half a minute here, so that a pause of this machine has no effect. The load takes much
    // longer.
    server.cli::<()>(&["SET", "{ns:0}L:k", "~", "PX", "30000"]);
    for node in [&a, &b] {
        let ask = Acquire { ttl: Duration::from_secs(3600), ..node.ask() };
        assert!(matches!(node.region.acquire_one(&k, ask).await.unwrap(), Acquired::Busy(_)));
    }
    server.cli::<()>(&["SET", "{ns:0}L:k", "~", "PX", "1"]);
    let left: i64 = server.cli(&["PTTL", "{ns:0}W:k"]);
    assert!(left > 1_800_000, "{left} ms, and the next load may take longer");
    eventually("it has cooled", || (!server.cli::<bool>(&["EXISTS", "{ns:0}L:k"])).then_some(())).await;
    a.lease(&k).await;
    let noted: Vec<String> = server.cli(&["SMEMBERS", "{ns:0}W:k"]);
    assert_eq!(noted.len(), 1, "whoever loads waits for nothing: {noted:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_announced_fill_is_a_change() {
    let server = RedisServer::start();
    let (a, b) = (Node::on(&server).await, Node::on(&server).await);
    let k = key("k");
    let lease = a.lease(&k).await;
    let frame = frame(lease.token, b"v");
    let Filled::Stored { seq } = a
        .region
        .fill_one(Fill { key: k.clone(), lease, frame: frame.clone(), life: LIFE, announce: Announce::Yes })
        .await
        .unwrap()
    else {
        panic!("refused")
    };
    assert_eq!(seq, lease.seq + 1);
    assert_eq!(a.read(&k).await, Some(stored(seq, &frame)));
    for node in [&a, &b] {
        let key = Bytes::from_static(b"k");
        node.heard.heard(&BusEvent::Invalidated { partition: 0, seq, key }).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn large_values_are_not_sent_along() {
    let server = RedisServer::start();
    let (a, b) = (Node::on(&server).await, Node::on(&server).await);
    for (name, over) in [("fits", 0), ("over", 1)] {
        let k = key(name);
        let lease = a.lease(&k).await;
        b.acquire(&k).await;
        let header = stored(0, &frame(lease.token, b"")).len();
        let frame = frame(lease.token, &vec![7; WAKE_INLINE - header + over]);
        a.region
            .fill_one(Fill { key: k.clone(), lease, frame, life: LIFE, announce: Announce::No })
            .await
            .unwrap();
        let name = Bytes::from(name);
        let woken = |event: &BusEvent| match event {
            BusEvent::Woken { key, value } if *key == name => Some(value.as_ref().map(Bytes::len)),
            BusEvent::Stored { key } if *key == name => Some(None),
            _ => None,
        };
        assert_eq!(b.heard.wait("woken", woken).await, (over == 0).then_some(WAKE_INLINE));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_breaks_the_lease_and_leaves_the_key_cooling() {
    let server = RedisServer::start();
    let (a, b) = (Node::on(&server).await, Node::on(&server).await);
    for (name, put) in [("put", true), ("invalidate", false)] {
        let k = key(name);
        let lease = a.lease(&k).await;
        b.acquire(&k).await;
        // Before the change: the server counts from when it executes it, which is before its answer arrives.
        let begun = Instant::now();
        if put {
            drop(b.store(&k, b"new").await);
        } else {
            drop(b.region.invalidate(std::slice::from_ref(&k)).await.unwrap());
        }

        let late = a
            .region
            .fill_one(Fill {
                key: k.clone(),
                lease,
                frame: frame(lease.token, b"old"),
                life: LIFE,
                announce: Announce::No,
            })
            .await
            .unwrap();
        assert_eq!(late, Filled::Refused, "{name}");
        assert_eq!(a.region.renew_one(&k, lease, TTL).await.unwrap(), Renewed::Lost, "{name}");
        let name = Bytes::from(name);
        b.heard
            .wait("woken", |event| matches!(event, BusEvent::Woken { key, .. } if *key == name).then_some(()))
            .await;

        // While the key cools, no node may load. A second break does not extend the time.
        let ask = || Acquire { accept: Accept::Nothing, ..a.ask() };
        if let Acquired::Busy(left) = a.region.acquire_one(&k, ask()).await.unwrap() {
            assert!(left <= GRANT_PACE, "{left:?}");
        } else {
            assert!(begun.elapsed() >= GRANT_PACE - Duration::from_millis(2), "granted while cooling");
        }
        let granted = async {
            loop {
                match a.region.acquire_one(&k, ask()).await.unwrap() {
                    Acquired::Granted(lease) => return lease,
                    _ => drop(b.region.invalidate(std::slice::from_ref(&k)).await.unwrap()),
                }
            }
        };
        let next = tokio::time::timeout(Duration::from_secs(5), granted).await.expect("no livelock");
        assert!(next.seq > lease.seq);
        assert!(begun.elapsed() >= GRANT_PACE - Duration::from_millis(2), "{:?}", begun.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn renewing_and_releasing() {
    let server = RedisServer::start();
    let (a, b) = (Node::on(&server).await, Node::on(&server).await);
    let k = key("k");
    let lease = a.lease(&k).await;
    assert!(matches!(b.acquire(&k).await, Acquired::Busy(_)));
    assert_eq!(a.region.renew_one(&k, lease, TTL * 10).await.unwrap(), Renewed::Held);
    let left: u64 = server.cli(&["PTTL", "{ns:0}L:k"]);
    assert!(left > 40_000, "{left}");
    assert!(server.cli::<u64>(&["PTTL", "{ns:0}W:k"]) > 40_000, "those who wait stay noted as long");

    // The token of another node ends nothing.
    let other = async_cache_core::backend::Lease { token: b.token(), ..lease };
    a.region.release_one(&k, other).await.unwrap();
    assert_eq!(b.region.renew_one(&k, other, TTL).await.unwrap(), Renewed::Lost);
    assert_eq!(
        b.region
            .fill_one(Fill {
                key: k.clone(),
                lease: other,
                frame: frame(other.token, b"v"),
                life: LIFE,
                announce: Announce::No
            })
            .await
            .unwrap(),
        Filled::Refused
    );
    assert_eq!(a.region.renew_one(&k, lease, TTL).await.unwrap(), Renewed::Held);

    a.region.release_one(&k, lease).await.unwrap();
    b.heard.heard(&BusEvent::Woken { key: Bytes::from_static(b"k"), value: None }).await;
    // The lease is free at once, because a release is not a break.
    b.lease(&k).await;
    assert_eq!(a.region.renew_one(&k, lease, TTL).await.unwrap(), Renewed::Lost);
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_and_values_end_with_their_time() {
    let server = RedisServer::start();
    let node = Node::on(&server).await;
    let k = key("k");
    let short = Duration::from_millis(30);
    let lease = match node.region.acquire_one(&k, Acquire { ttl: short, ..node.ask() }).await.unwrap() {
        Acquired::Granted(lease) => lease,
        other => panic!("{other:?}"),
    };
    let lock = || server.cli::<bool>(&["EXISTS", "{ns:0}L:k"]);
    eventually("the lease lapses", || (!lock()).then_some(())).await;
    assert_eq!(node.region.renew_one(&k, lease, TTL).await.unwrap(), Renewed::Lost);
    let lease = node.lease(&k).await;
    node.region
        .fill_one(Fill {
            key: k.clone(),
            lease,
            frame: frame(lease.token, b"v"),
            life: short,
            announce: Announce::No,
        })
        .await
        .unwrap();
    let value = || server.cli::<bool>(&["EXISTS", "{ns:0}V:k"]);
    eventually("the value expires", || (!value()).then_some(())).await;
    // The longest and the shortest life are valid.
    for life in [Duration::MAX, Duration::ZERO] {
        let lease = node.lease(&k).await;
        let filled = node
            .region
            .fill_one(Fill {
                key: k.clone(),
                lease,
                frame: frame(lease.token, b"v"),
                life,
                announce: Announce::No,
            })
            .await
            .unwrap();
        assert_eq!(filled, Filled::Stored { seq: lease.seq });
        node.region.invalidate(std::slice::from_ref(&k)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clearing_voids_values_and_leases() {
    let server = RedisServer::start();
    let node = Node::on(&server).await;
    let (kept, loading, waiting) = (key("kept"), key("loading"), key("waiting"));
    node.store(&kept, b"v").await;
    let (lease, other) = (node.lease(&loading).await, node.lease(&waiting).await);
    let floor = node.region.clear(0).await.unwrap();
    let state = node.region.state(0).await.unwrap();
    assert_eq!((state.seq, state.floor), (floor, floor));
    node.heard.heard(&BusEvent::Cleared { partition: 0, seq: floor }).await;

    assert!(node.read(&kept).await.is_some(), "a plain read does not look at the floor");
    node.lease(&kept).await;
    let late = node
        .region
        .fill_one(Fill {
            key: loading.clone(),
            lease,
            frame: frame(lease.token, b"old"),
            life: LIFE,
            announce: Announce::No,
        })
        .await
        .unwrap();
    assert_eq!(late, Filled::Refused);
    assert_eq!(node.read(&loading).await, None);
    assert_eq!(node.region.renew_one(&waiting, other, TTL).await.unwrap(), Renewed::Lost);
    // A void lease blocks no other node, and the key does not cool when it is broken.
    node.lease(&loading).await;
    node.region.invalidate(std::slice::from_ref(&waiting)).await.unwrap();
    let next = node.lease(&waiting).await;
    assert_eq!(next.seq, floor + 1);
    let filled = node
        .region
        .fill_one(Fill {
            key: waiting.clone(),
            lease: next,
            frame: frame(next.token, b"v"),
            life: LIFE,
            announce: Announce::No,
        })
        .await
        .unwrap();
    assert_eq!(filled, Filled::Stored { seq: next.seq });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_void_fill_wakes_the_waiters() {
    let server = RedisServer::start();
    let (a, b) = (Node::on(&server).await, Node::on(&server).await);
    let k = key("k");
    let lease = a.lease(&k).await;
    assert!(matches!(b.acquire(&k).await, Acquired::Busy(_)));
    a.region.clear(0).await.unwrap();
    a.region
        .fill_one(Fill {
            key: k.clone(),
            lease,
            frame: frame(lease.token, b"old"),
            life: LIFE,
            announce: Announce::No,
        })
        .await
        .unwrap();
    b.heard.heard(&BusEvent::Woken { key: Bytes::from_static(b"k"), value: None }).await;
    assert!(!server.cli::<bool>(&["EXISTS", "{ns:0}L:k"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_put_is_not_executed() {
    let server = RedisServer::start();
    let node = Node::on(&server).await;
    let k = key("k");
    let (_, value) = node.store(&k, b"v").await;
    let before = node.region.state(0).await.unwrap();
    let entry = [(k.clone(), frame(node.token(), b"late"))];
    let error = node.region.put(&entry, LIFE, before.time_ms - 1).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Backend);
    assert!(error.to_string().contains("expired before it was executed"), "{error}");
    assert_eq!(node.read(&k).await, Some(value));
    assert_eq!(node.region.state(0).await.unwrap().seq, before.seq);
}

/// A node that finds the key cooling waits for the next load. It stays noted as a waiter until that load may
/// have ended.
#[tokio::test(flavor = "multi_thread")]
async fn who_waits_while_a_key_cools_stays_noted() {
    let server = RedisServer::start();
    let node = Node::on(&server).await;
    let (cools, ttl) = (Duration::from_secs(30), Duration::from_secs(300));
    server.cli::<()>(&["SET", "{ns:0}L:k", "~", "PX", &cools.as_millis().to_string()]);
    let ask = Acquire { ttl, ..node.ask() };
    assert!(matches!(node.region.acquire_one(&key("k"), ask).await.unwrap(), Acquired::Busy(_)));
    let noted: u64 = server.cli(&["PTTL", "{ns:0}W:k"]);
    assert!(noted > 2 * cools.as_millis() as u64, "for {noted} ms");
}

/// 1. A node waits for a load.
/// 2. The lease of that load expires, and the node loads by itself. It need not be woken any more.
#[tokio::test(flavor = "multi_thread")]
async fn who_loads_does_not_wait_any_more() {
    let server = RedisServer::start();
    let (a, b, c) = (Node::on(&server).await, Node::on(&server).await, Node::on(&server).await);
    let k = key("k");
    a.lease(&k).await;
    for waiting in [&b, &c] {
        assert!(matches!(waiting.acquire(&k).await, Acquired::Busy(_)));
    }
    server.cli::<i64>(&["DEL", "{ns:0}L:k"]);
    b.lease(&k).await;
    assert_eq!(server.cli::<Vec<String>>(&["SMEMBERS", "{ns:0}W:k"]), [c.id.to_string()]);
}

/// A demoted server keeps its run id, and serves reads. The nodes learn from their next heartbeat that it
/// receives no changes any more.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_was_demoted_answers_no_heartbeat() {
    let server = RedisServer::start();
    let node = Node::on(&server).await;
    node.region.heartbeat(0, 1).await.unwrap();
    server.cli::<()>(&["REPLICAOF", "127.0.0.1", "1"]);
    assert_eq!(node.region.heartbeat(0, 2).await.unwrap_err().kind(), ErrorKind::Backend);
}
