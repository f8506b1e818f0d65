//! Foreign bytes, damaged bytes and wrong types under our keys: each is a miss that is counted and overwritten.
//! There is never a panic or a wrong value.

use async_cache::testing::Source;
use integration_tests::fleet::Fleet;

const VALUE: &[u8] = b"{rows:0}V:k";

/// Stores something under the key of the value and looks it up, with and without a loader.
async fn is_a_miss(fleet: &Fleet, what: &str, unreadable: bool, put: impl Fn()) {
    let node = fleet.node().await;
    let source = Source::new();
    put();
    assert_eq!(node.get("k").await.unwrap(), None, "{what}: get");
    assert_eq!(node.get_many(["k"]).await.unwrap(), [None], "{what}: get_many");
    let load = source.clone();
    assert_eq!(*node.get_or_load("k", move || load.now()).await.unwrap(), 1, "{what}: get_or_load");
    assert_eq!(source.loads(), 1, "{what}");
    assert_eq!(node.stats().unreadable > 0, unreadable, "{what}: {:?}", node.stats());
    let other = fleet.node().await;
    assert_eq!(other.get("k").await.unwrap().as_deref(), Some(&1), "{what}: it was overwritten");
}

#[tokio::test]
async fn whatever_lies_under_the_key() {
    let fleet = Fleet::redis();
    let server = fleet.server();
    let set = |bytes: &[u8]| server.cli_raw::<()>(&[b"SET", VALUE, bytes]);

    is_a_miss(&fleet, "text", true, || set(b"hello")).await;
    is_a_miss(&fleet, "nothing at all", true, || set(b"")).await;
    is_a_miss(&fleet, "zeroes", true, || set(&[0; 200])).await;
    is_a_miss(&fleet, "a list", false, || {
        server.cli_raw::<()>(&[b"DEL", VALUE]);
        server.cli_raw::<()>(&[b"RPUSH", VALUE, b"x"]);
    })
    .await;

    fleet.node().await.insert("k", 5).await.unwrap();
    let good: Vec<u8> = server.cli_raw(&[b"GET", VALUE]);
    for (at, what) in
        [(0, "sequence"), (9, "seal"), (13, "checksum"), (24, "codec"), (30, "schema"), (64, "payload")]
    {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        is_a_miss(&fleet, what, true, || set(&bad)).await;
    }
    for len in [1, 12, 40, 64, good.len() - 1] {
        is_a_miss(&fleet, "cut short", true, || set(&good[..len])).await;
    }
    let longer = [&good[..], b"x"].concat();
    is_a_miss(&fleet, "too long", true, || set(&longer)).await;
}

/// Wrong types under the keys of the lease and of the waiters do not stop a load.
#[tokio::test]
async fn wrong_types_under_lease_and_waiters() {
    let fleet = Fleet::redis();
    let server = fleet.server();
    let node = fleet.node().await;
    server.cli_raw::<()>(&[b"RPUSH", b"{rows:0}L:k", b"x"]);
    server.cli_raw::<()>(&[b"SET", b"{rows:0}W:k", b"x"]);
    let source = Source::new();
    let load = source.clone();
    assert_eq!(*node.get_or_load("k", move || load.now()).await.unwrap(), 1);
    assert_eq!(node.get("k").await.unwrap().as_deref(), Some(&1));
}

/// A lease without an expiry that was set by hand must not stop the fleet for ever.
#[tokio::test]
async fn a_lease_without_an_end() {
    let fleet = Fleet::redis();
    let node = fleet.node().await;
    fleet.server().cli_raw::<()>(&[b"SET", b"{rows:0}L:k", b"not-ours:9999999999999999"]);
    let source = Source::new();
    let load = source.clone();
    assert_eq!(*node.get_or_load("k", move || load.now()).await.unwrap(), 1);
}
