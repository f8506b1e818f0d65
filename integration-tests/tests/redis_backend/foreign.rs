//! Data that foreign programs may leave under our keys.

use async_cache_core::ErrorKind;
use async_cache_core::backend::{Acquired, Announce, BusEvent, Check, Fill, Filled, Renewed};
use async_cache_core::frame::seal;
use bytes::Bytes;
use integration_tests::RedisServer;

use crate::rig::{LIFE, Node, TTL, frame, key, stored};

/// The commands with which a foreign program may change a key.
const FOREIGN: [&[&str]; 5] = [
    &["SET", "KEY", "not a value at all, but long enough to have a token in its place"],
    &["SET", "KEY", ""],
    &["SADD", "KEY", "x"],
    &["HSET", "KEY", "x", "y"],
    &["RPUSH", "KEY", "x"],
];

fn put_under(server: &RedisServer, key: &str, words: &[&str]) {
    server.cli::<i64>(&["DEL", key]);
    let words: Vec<&str> = words.iter().map(|word| if *word == "KEY" { key } else { *word }).collect();
    server.cli::<redis::Value>(&words);
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_values_are_absent_and_overwritten() {
    let server = RedisServer::start();
    let node = Node::on(&server).await;
    let k = key("k");
    for foreign in FOREIGN {
        let plant = || put_under(&server, "{ns:0}V:k", foreign);
        plant();
        let is_text = foreign[0] == "SET";
        assert_eq!(node.read(&k).await.is_some(), is_text, "{foreign:?}");
        let many = node.region.read(std::slice::from_ref(&k), Check::Plain).await.unwrap().values;
        assert_eq!(many[0].is_some(), is_text, "{foreign:?}");
        let lease = node.lease(&k).await;
        let frame = frame(lease.token, b"v");
        node.region
            .fill_one(Fill {
                key: k.clone(),
                lease,
                frame: frame.clone(),
                life: LIFE,
                announce: Announce::No,
            })
            .await
            .unwrap();
        assert_eq!(node.read(&k).await, Some(stored(lease.seq, &frame)), "{foreign:?}");
        plant();
        let (_, value) = node.store(&k, b"w").await;
        assert_eq!(node.read(&k).await, Some(value), "{foreign:?}");
        plant();
        node.region.invalidate(std::slice::from_ref(&k)).await.unwrap();
        assert_eq!(node.read(&k).await, None, "{foreign:?}");
    }
    // A seal that was changed, and the seal of a sequence number that is too high for a script.
    let mut torn = seal(node.region.state(0).await.unwrap().seq + 5);
    torn[11] ^= 1;
    for head in [torn, seal(u64::MAX), seal(1 << 60)] {
        server.cli_raw::<()>(&[b"SET", b"{ns:0}V:k", &[&head[..], &[b'x'; 60]].concat()]);
        let lease = node.lease(&k).await;
        node.region.release_one(&k, lease).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_locks_and_waiters_hold_nobody_up() {
    let server = RedisServer::start();
    let (a, b) = (Node::on(&server).await, Node::on(&server).await);
    let k = key("k");
    let lock = "{ns:0}L:k";
    let eternal: [&[&str]; 2] = [&["SET", "KEY", "~"], &["SET", "KEY", "someone:9007199254740992"]];
    for foreign in FOREIGN.into_iter().chain(eternal) {
        put_under(&server, lock, foreign);
        let lease = a.lease(&k).await;
        put_under(&server, lock, foreign);
        assert_eq!(a.region.renew_one(&k, lease, TTL).await.unwrap(), Renewed::Lost, "{foreign:?}");
        a.region.release_one(&k, lease).await.unwrap();
        let late = a
            .region
            .fill_one(Fill {
                key: k.clone(),
                lease,
                frame: frame(lease.token, b"v"),
                life: LIFE,
                announce: Announce::No,
            })
            .await
            .unwrap();
        assert_eq!(late, Filled::Refused, "{foreign:?}");
        b.store(&k, b"v").await;
        a.region.invalidate(std::slice::from_ref(&k)).await.unwrap();
        server.cli::<i64>(&["DEL", lock]);
    }
    let list: &[&str] = &["RPUSH", "KEY", "x"];
    for foreign in [FOREIGN[0], FOREIGN[3], list] {
        let plant = || put_under(&server, "{ns:0}W:k", foreign);
        plant();
        let lease = a.lease(&k).await;
        plant();
        assert!(matches!(b.acquire(&k).await, Acquired::Busy(_)), "{foreign:?}");
        a.region.release_one(&k, lease).await.unwrap();
        b.heard.heard(&BusEvent::Woken { key: Bytes::from_static(b"k"), value: None }).await;
        b.heard.forget();
        let lease = a.lease(&k).await;
        plant();
        a.region
            .fill_one(Fill {
                key: k.clone(),
                lease,
                frame: frame(lease.token, b"v"),
                life: LIFE,
                announce: Announce::No,
            })
            .await
            .unwrap();
        assert!(!server.cli::<bool>(&["EXISTS", "{ns:0}W:k"]), "{foreign:?}");
        plant();
        a.region.invalidate(std::slice::from_ref(&k)).await.unwrap();
        assert!(!server.cli::<bool>(&["EXISTS", "{ns:0}W:k"]), "{foreign:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_meta_key_is_named() {
    let server = RedisServer::start();
    let node = Node::on(&server).await;
    server.cli::<()>(&["SET", "{ns:0}M", "x"]);
    let k = key("k");
    let errors = [
        node.region.state(0).await.unwrap_err(),
        node.region.acquire_one(&k, node.ask()).await.unwrap_err(),
        node.region.invalidate(std::slice::from_ref(&k)).await.unwrap_err(),
        node.region.invalidate(&[k.clone(), key("l")]).await.unwrap_err(),
        node.region.heartbeat(0, 1).await.unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        assert!(error.to_string().contains("{ns:0}M"), "{error}");
    }
    // A hash with invalid fields is made again.
    for nonsense in ["nan", "-1", "inf", "x", "1e300"] {
        server.cli::<i64>(&["DEL", "{ns:0}M"]);
        let seq = node.region.state(0).await.unwrap().seq;
        server.cli::<i64>(&["HSET", "{ns:0}M", "s", nonsense]);
        assert!(node.region.state(0).await.unwrap().seq >= seq, "{nonsense}");
    }
}
