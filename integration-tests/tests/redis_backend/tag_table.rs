//! The tag table in Redis: it is lost, overwritten or old, or the memory is full.

use async_cache::testing::No;
use async_cache::{MemoryBackend, TieredCache};
use async_cache_core::backend::{Acquired, Announce, Baseline, Check, Fill, Filled, TAG_TABLE, Token};
use async_cache_core::frame::{HEADER_LEN, SEAL_LEN, TAGS_EXTENSION, TOKEN_OFFSET};
use async_cache_core::tags::MAX_TAGS;
use async_cache_core::{ErrorKind, Tags};
use async_cache_redis::RedisBackend;
use bytes::Bytes;
use integration_tests::RedisServer;

use crate::rig::{LIFE, Node, key};

/// A frame with a tag at the offset for stored values.
fn tagged(token: Token, tag: &str) -> Bytes {
    let tags = Tags::new([tag]).unwrap();
    let mut frame = vec![b'h'; HEADER_LEN - SEAL_LEN];
    frame[TOKEN_OFFSET - SEAL_LEN..][..Token::LEN].copy_from_slice(&token.to_bytes());
    let packed = tags.packed();
    let extension = [&[TAGS_EXTENSION][..], &(packed.len() as u16).to_be_bytes(), packed].concat();
    frame[HEADER_LEN - SEAL_LEN - 4..].copy_from_slice(&(extension.len() as u32).to_be_bytes());
    frame.extend_from_slice(&extension);
    frame.extend_from_slice(b"v");
    frame.into()
}

async fn put(node: &Node, name: &str, tag: &str) -> u64 {
    let entry = [(key(name), tagged(node.token(), tag))];
    node.region.put(&entry, LIFE, u64::MAX >> 12).await.unwrap()[0]
}

async fn valid(node: &Node, name: &str) -> bool {
    node.region.read_one(&key(name), Check::Valid).await.unwrap().value.is_some()
}

async fn invalidate(node: &Node, tag: &str) -> u64 {
    node.region.invalidate_tags(0, &Tags::new([tag]).unwrap()).await.unwrap()
}

/// A baseline voids values with this tag that have a lower number than this.
async fn bound(node: &Node, tag: &str) -> u64 {
    let Baseline { tags, tag_floor, .. } = node.region.baseline(0, None).await.unwrap();
    let numbers = tags.iter().filter(|(name, _)| name == tag.as_bytes()).map(|(_, seq)| *seq);
    numbers.max().unwrap_or(0).max(tag_floor)
}

/// Gives T this age.
async fn age(server: &RedisServer, node: &Node, seconds: u64) {
    let begun = node.region.state(0).await.unwrap().time_ms - seconds * 1000;
    server.cli::<u64>(&["HSET", "{ns:0}M", "tt", &begun.to_string()]);
}

/// The tags in one half of the table.
fn half(server: &RedisServer, name: &str) -> Vec<String> {
    let mut tags: Vec<String> = server.cli(&["HKEYS", &format!("{{ns:0}}{name}")]);
    tags.retain(|tag| !tag.is_empty());
    tags
}

/// The ways in which a half of the table may be lost in Redis.
const LOSSES: [&[&str]; 6] = [
    &["DEL", "KEY"],
    &["SET", "KEY", "x"],
    &["SADD", "KEY", "x"],
    &["RPUSH", "KEY", "x"],
    &["HSET", "KEY", "x", "y"],
    &["HSET", "KEY", "", "7"],
];

/// 1. A tag is invalidated.
/// 2. Redis evicts the table, or another client overwrites it.
/// 3. The values that the tag voided must not come back. Values that were stored after the last tag change stay valid.
#[tokio::test(flavor = "multi_thread")]
async fn a_half_that_was_lost_is_taken_for_one_that_voids_everything() {
    for lost in ["T", "U"] {
        for loss in LOSSES {
            let server = RedisServer::start();
            let node = Node::on(&server).await;
            let seq = put(&node, "old", "t").await;
            let lease = node.lease(&key("loading")).await;
            invalidate(&node, "t").await;
            if lost == "U" {
                age(&server, &node, 1000).await;
                invalidate(&node, "other").await;
            }
            put(&node, "young", "t").await;
            assert!(half(&server, lost).contains(&"t".to_owned()), "the tag is in {lost}");

            let place = format!("{{ns:0}}{lost}");
            server.cli::<i64>(&["DEL", &place]);
            let words: Vec<&str> =
                loss.iter().map(|word| if *word == "KEY" { place.as_str() } else { *word }).collect();
            server.cli::<redis::Value>(&words);

            assert!(!valid(&node, "old").await, "{lost} {loss:?}");
            assert!(valid(&node, "young").await, "{lost} {loss:?}");
            assert!(bound(&node, "t").await > seq, "nodes are told: {lost} {loss:?}");
            let frame = tagged(lease.token, "t");
            let filled = node
                .region
                .fill_one(Fill { key: key("loading"), lease, frame, life: LIFE, announce: Announce::No })
                .await
                .unwrap();
            assert_eq!(filled, Filled::Refused, "{lost} {loss:?}");

            // The next change makes the table again, and the voided values stay void.
            invalidate(&node, "other").await;
            assert!(!valid(&node, "old").await, "{lost} {loss:?}");
            assert!(bound(&node, "t").await > seq, "{lost} {loss:?}");
            put(&node, "k", "t").await;
            assert!(valid(&node, "k").await);
            invalidate(&node, "t").await;
            assert!(!valid(&node, "k").await && half(&server, "T").contains(&"t".to_owned()));
        }
    }
}

/// How a tagged value is stored.
#[derive(Debug, Clone, Copy, PartialEq)]
enum By {
    Insert,
    Load,
}

impl By {
    async fn store(self, node: &Node, name: &str, tag: &str) -> u64 {
        if self == Self::Insert {
            return put(node, name, tag).await;
        }
        let lease = node.lease(&key(name)).await;
        let frame = tagged(lease.token, tag);
        let filled = node
            .region
            .fill_one(Fill { key: key(name).clone(), lease, frame, life: LIFE, announce: Announce::No })
            .await
            .unwrap();
        assert_eq!(filled, Filled::Stored { seq: lease.seq });
        lease.seq
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_table_is_turned_over_by_age() {
    for by in [By::Insert, By::Load] {
        turned_over_by_age(by).await;
    }
}

/// A half is kept for the life of a tagged value and a minute for its load.
async fn turned_over_by_age(by: By) {
    let server = RedisServer::start();
    let node = Node::on(&server).await;
    let kept = LIFE.as_secs() + 60;
    let seq = by.store(&node, "old", "t").await;
    invalidate(&node, "t").await;
    by.store(&node, "second", "other").await;
    age(&server, &node, kept - 20).await;
    invalidate(&node, "u").await;
    assert_eq!((half(&server, "T").len(), half(&server, "U").len()), (2, 0), "not yet: {by:?}");

    age(&server, &node, kept + 20).await;
    invalidate(&node, "v").await;
    assert_eq!((half(&server, "T"), half(&server, "U").len()), (vec!["v".to_owned()], 2));
    assert!(!valid(&node, "old").await && bound(&node, "t").await > seq);
    assert!(valid(&node, "second").await, "nothing was dropped yet");

    age(&server, &node, kept + 20).await;
    invalidate(&node, "w").await;
    assert_eq!((half(&server, "T"), half(&server, "U")), (vec!["w".to_owned()], vec!["v".to_owned()]));
    assert!(!valid(&node, "old").await && bound(&node, "t").await > seq, "dropped, and covered by the floor");
    by.store(&node, "old", "t").await;
    assert!(valid(&node, "old").await);
}

/// A half holds a limited number of tags. The floor covers the tags that were dropped.
#[tokio::test(flavor = "multi_thread")]
async fn the_table_is_turned_over_by_size() {
    let server = RedisServer::start();
    let node = Node::on(&server).await;
    put(&node, "old", "0").await;
    let most = TAG_TABLE / 2;
    let names: Vec<String> = (0..2 * most + MAX_TAGS).map(|name| name.to_string()).collect();
    for names in names.chunks(MAX_TAGS) {
        node.region.invalidate_tags(0, &Tags::new(names).unwrap()).await.unwrap();
    }
    let (young, old) = (half(&server, "T").len(), half(&server, "U").len());
    assert!((1..=most).contains(&young) && (1..=most).contains(&old), "{young} and {old} of {most}");
    assert!(!valid(&node, "old").await);
}

/// With a full memory, tags can be invalidated, void values are not returned, and lookups go on.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_server_still_invalidates_tags() {
    let server = RedisServer::start();
    let node = Node::on(&server).await;
    put(&node, "t", "t").await;
    put(&node, "u", "u").await;
    let lease = node.lease(&key("loading")).await;
    server.cli::<()>(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    let limit = |bytes: &str| server.cli::<()>(&["CONFIG", "SET", "maxmemory", bytes]);
    limit("1");

    for tag in ["t", "begun already"] {
        invalidate(&node, tag).await;
    }
    assert!(!valid(&node, "t").await && valid(&node, "u").await);
    assert!(matches!(node.acquire(&key("u")).await, Acquired::Value(_)));
    let frame = tagged(lease.token, "u");
    let filled = node
        .region
        .fill_one(Fill { key: key("loading"), lease, frame, life: LIFE, announce: Announce::No })
        .await
        .unwrap_err();
    assert!(filled.to_string().contains("no memory left"), "{filled}");
    node.region.release_one(&key("loading"), lease).await.unwrap();
    assert!(!server.cli::<bool>(&["EXISTS", "{ns:0}L:loading"]));
    // The table is lost and turned over while the memory is full.
    server.cli::<i64>(&["DEL", "{ns:0}T"]);
    assert!(!valid(&node, "t").await && !valid(&node, "u").await);
    invalidate(&node, "u").await;
    limit("0");
    age(&server, &node, 100_000).await;
    limit("1");
    invalidate(&node, "v").await;
    assert!(!valid(&node, "t").await && !valid(&node, "u").await);

    let cache: TieredCache<u64, u64> = TieredCache::builder()
        .namespace("rows")
        .l1(MemoryBackend::new(10))
        .l2(RedisBackend::connect(server.url()).await.unwrap())
        .build()
        .unwrap();
    assert_eq!(*cache.get_or_load(&1, || async { Ok::<_, No>(7) }).tag("t").await.unwrap(), 7);
    assert_eq!(cache.insert(&1, 8).await.unwrap_err().kind(), ErrorKind::Backend);
    cache.invalidate_tag("t").await.unwrap();
    assert_eq!(*cache.get_or_load(&1, || async { Ok::<_, No>(9) }).tag("t").await.unwrap(), 9);
}
