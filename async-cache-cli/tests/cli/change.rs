//! `invalidate`, `tag`, `clear`: every node hears of them.

use std::time::Duration;

use async_cache::Stamp;
use integration_tests::{RedisServer, eventually};
use serde_json::json;

use crate::rig::{node, on};

#[tokio::test(flavor = "multi_thread")]
async fn nodes_forget_a_key_that_is_invalidated_and_its_stamp_orders_their_reads() {
    let server = RedisServer::start();
    let (one, other) = (node(&server).await, node(&server).await);
    one.insert(&42, "old".to_owned()).await.unwrap();
    one.insert(&43, "kept".to_owned()).await.unwrap();
    assert!(other.get(&42).await.unwrap().is_some());

    let answer = on(&server, &["invalidate", "42"]).await;
    assert_eq!(answer.code, 0, "{answer:?}");
    let stamp: Stamp = answer.out.trim().parse().unwrap();
    assert_eq!(stamp.namespace(), "users");
    for node in [&one, &other] {
        assert!(node.get(&42).at_least(&stamp).await.unwrap().is_none());
        eventually("the change is heard", || (node.stats().invalidations_received >= 3).then_some(())).await;
        assert!(node.get(&42).await.unwrap().is_none());
        assert!(node.get(&43).await.unwrap().is_some());
    }
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn a_change_whose_stamp_cannot_be_printed_is_told_with_the_stamp() {
    let server = RedisServer::start();
    let cache = node(&server).await;
    cache.insert(&42, "old".to_owned()).await.unwrap();
    let mut command = crate::rig::program();
    command.args(["--redis", &server.url(), "--namespace", "users", "invalidate", "42"]);
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = command.stdout(full).output().unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{err}");
    assert!(err.contains("writing the output") && err.contains("the change was made"), "{err}");
    let stamp = err.split_once("its stamp is ").expect("the stamp").1.trim_end().trim_end_matches(')');
    let stamp: Stamp = stamp.parse().unwrap();
    assert!(cache.get(&42).at_least(&stamp).await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn several_keys_have_one_stamp() {
    let server = RedisServer::start();
    let cache = node(&server).await;
    for key in [1, 2, 3] {
        cache.insert(&key, "x".to_owned()).await.unwrap();
    }
    let answer = on(&server, &["invalidate", "1", "2", "--json"]).await;
    assert_eq!(answer.code, 0, "{answer:?}");
    assert_eq!(answer.json()["invalidated"], json!(["1", "2"]));
    let stamp: Stamp = answer.json()["stamp"].as_str().unwrap().parse().unwrap();
    let found = cache.get_many(&[1, 2, 3]).at_least(&stamp).await.unwrap();
    assert_eq!(found.iter().map(Option::is_some).collect::<Vec<_>>(), [false, false, true]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_forget_the_entries_of_a_tag_and_no_others() {
    let server = RedisServer::start();
    let cache = node(&server).await;
    cache.insert(&1, "x".to_owned()).tag("team:9").await.unwrap();
    cache.insert(&2, "x".to_owned()).tag("team:8").await.unwrap();
    let answer = on(&server, &["tag", "team:9", "--json"]).await;
    assert_eq!(answer.code, 0, "{answer:?}");
    assert_eq!(answer.json()["invalidated_tags"], json!(["team:9"]));
    let stamp: Stamp = answer.json()["stamp"].as_str().unwrap().parse().unwrap();
    assert!(cache.get(&1).at_least(&stamp).await.unwrap().is_none());
    assert!(cache.get(&2).at_least(&stamp).await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_expired_is_loaded_again_and_remains_a_fallback() {
    let server = RedisServer::start();
    let (one, other) = (node(&server).await, node(&server).await);
    let minute = Duration::from_secs(60);
    for (key, tag) in [(1, "a"), (2, "b"), (3, "c")] {
        one.insert(&key, "old".to_owned()).tag(tag).stale_for(minute).await.unwrap();
    }
    for args in [&["expire", "1", "--json"][..], &["expire-tag", "b", "--json"]] {
        let answer = on(&server, args).await;
        assert_eq!(answer.code, 0, "{answer:?}");
    }
    for (key, state) in [("1", "expired"), ("2", "expired"), ("3", "fresh")] {
        let seen = on(&server, &["inspect", key, "--json"]).await;
        assert_eq!((seen.code, &seen.json()["state"]), (0, &state.into()), "{key}");
    }
    eventually("the changes are heard", || (other.stats().invalidations_received >= 5).then_some(())).await;
    for (key, expected) in [(1, "new"), (2, "new"), (3, "old")] {
        let load = async || Ok::<_, std::io::Error>("new".to_owned());
        assert_eq!(*other.get_or_load(&key, load).await.unwrap(), expected, "{key}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_forget_everything_when_the_namespace_is_cleared() {
    let server = RedisServer::start();
    let cache = node(&server).await;
    cache.insert(&1, "x".to_owned()).await.unwrap();
    let answer = on(&server, &["clear"]).await;
    assert_eq!(answer.code, 0, "{answer:?}");
    let stamp: Stamp = answer.out.trim().parse().unwrap();
    assert!(cache.get(&1).at_least(&stamp).await.unwrap().is_none());
}

/// The record says how many partitions a namespace has.
#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_of_several_partitions_is_changed_in_all_of_them() {
    use async_cache::{MemoryBackend, RedisBackend, TieredCache};

    let server = RedisServer::start();
    let redis = RedisBackend::builder().url(server.url()).partitions(3).connect().await.unwrap();
    let builder = TieredCache::<u64, u64>::builder().namespace("users").l1(MemoryBackend::new(100));
    let cache = builder.l2(redis).build().unwrap();
    let keys: Vec<u64> = (0..30).collect();
    cache.insert_many(keys.iter().map(|key| (*key, *key))).await.unwrap();
    assert_eq!(on(&server, &["inspect", "7"]).await.code, 0);
    let answer = on(&server, &["invalidate", "7"]).await;
    let stamp: Stamp = answer.out.trim().parse().unwrap();
    assert!(cache.get(&7).at_least(&stamp).await.unwrap().is_none());
    let answer = on(&server, &["clear"]).await;
    let stamp: Stamp = answer.out.trim().parse().unwrap();
    assert!(answer.out.contains(",2:"), "each partition has a number: {}", answer.out);
    let found = cache.get_many(&keys).at_least(&stamp).await.unwrap();
    assert!(found.iter().all(Option::is_none));
}
