//! `inspect`.

use std::sync::Arc;
use std::time::Duration;

use async_cache::{MemoryBackend, RedisBackend, TieredCache};
use integration_tests::{Data, RedisServer, eventually};
use tokio::sync::Notify;

use crate::rig::{PATIENCE, node, on};

#[tokio::test(flavor = "multi_thread")]
async fn a_value_is_shown_with_its_age_expiry_tags_codec_and_size() {
    let server = RedisServer::start();
    let cache = node(&server).await;
    cache
        .insert(&42, "Ada".to_owned())
        .tag("team:9")
        .ttl(Duration::from_secs(100))
        .stale_for(Duration::from_secs(50))
        .await
        .unwrap();

    let answer = on(&server, &["inspect", "42", "--json"]).await;
    let seen = answer.json();
    assert_eq!(answer.code, 0, "{answer:?}");
    assert_eq!((&seen["found"], &seen["state"]), (&true.into(), &"fresh".into()), "{seen}");
    assert_eq!(seen["redis_key"], "{users:0}V:42");
    let l2 = &seen["l2"];
    assert_eq!((&l2["codec"], &l2["schema"]), (&"bincode-2".into(), &"String".into()), "{seen}");
    assert_eq!(l2["tags"], serde_json::json!(["team:9"]));
    let ms = |name: &str| l2[name].as_i64().unwrap_or_else(|| panic!("{name}: {seen}"));
    assert!(ms("age_ms") >= 0 && ms("age_ms") + ms("expires_in_ms") == 100_000, "{seen}");
    assert_eq!(ms("ends_in_ms") - ms("expires_in_ms"), 50_000, "{seen}");
    let (header, tags) = (80, 3 + 7);
    assert_eq!(ms("stored_bytes"), header + tags + ms("payload_bytes"), "{seen}");
    assert!((100_000..=150_000).contains(&ms("kept_for_ms")), "{seen}");
    assert_eq!(seen["lease"]["state"], "free");

    let text = on(&server, &["inspect", "42"]).await;
    assert_eq!(text.code, 0);
    for word in ["fresh", "team:9", "bincode-2", "String", "{users:0}V:42"] {
        assert!(text.out.contains(word), "{word}: {}", text.out);
    }
    assert!(!text.out.contains("Ada"), "values are not shown");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_l1_of_each_node_has_is_shown() {
    let server = RedisServer::start();
    let (holder, other) = (node(&server).await, node(&server).await);
    holder.insert(&42, "Ada".to_owned()).await.unwrap();
    let answer = on(&server, &["inspect", "42", "--json"]).await;
    let seen = answer.json();
    assert_eq!(seen["l1"]["missing"], 0, "{seen}");
    let mut states: Vec<_> =
        seen["l1"]["nodes"].as_array().unwrap().iter().map(|node| node["state"].as_str().unwrap()).collect();
    states.sort_unstable();
    assert_eq!(states, ["fresh", "none"], "{seen}");
    assert_eq!(other.get(&42).await.unwrap().as_deref(), Some(&"Ada".to_owned()));
    let text = on(&server, &["inspect", "42"]).await.out;
    assert_eq!(text.matches("fresh, age").count(), 2, "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_not_there_is_told_and_nothing_is_written() {
    let server = RedisServer::start();
    let cache = node(&server).await;
    cache.insert(&1, "x".to_owned()).await.unwrap();
    let keys = || server.cli::<usize>(&["DBSIZE"]);
    let before = keys();
    let answer = on(&server, &["inspect", "42", "--json"]).await;
    assert_eq!(answer.code, 1, "{answer:?}");
    assert_eq!((&answer.json()["found"], &answer.json()["state"]), (&false.into(), &"none".into()));
    assert_eq!(keys(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_void_value_is_told_with_its_reason() {
    let server = RedisServer::start();
    let cache = node(&server).await;
    for key in [1, 2] {
        cache.insert(&key, "x".to_owned()).tag(if key == 1 { "a" } else { "b" }).await.unwrap();
    }
    cache.invalidate_tag("a").await.unwrap();
    let seen = on(&server, &["inspect", "1", "--json"]).await;
    assert_eq!((seen.code, &seen.json()["state"]), (1, &"void".into()));
    assert!(seen.json()["text"].as_str().unwrap().contains("tag"), "{seen:?}");
    assert_eq!(on(&server, &["inspect", "2"]).await.code, 0, "its tag was not invalidated");

    cache.invalidate_all().await.unwrap();
    let seen = on(&server, &["inspect", "2", "--json"]).await;
    assert_eq!((seen.code, &seen.json()["state"]), (1, &"void".into()));
    assert!(seen.json()["text"].as_str().unwrap().contains("cleared"), "{seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_and_damaged_bytes_are_told_apart() {
    let server = RedisServer::start();
    let cache = node(&server).await;
    cache.insert(&1, "x".to_owned()).await.unwrap();
    let mut bytes: Vec<u8> = server.cli(&["GET", "{users:0}V:1"]);
    *bytes.last_mut().unwrap() ^= 1;
    server.cli_raw::<()>(&[b"SET", b"{users:0}V:1", &bytes]);
    server.cli::<()>(&["SET", "{users:0}V:2", "hello"]);
    server.cli::<()>(&["RPUSH", "{users:0}V:3", "hello"]);
    for (key, state) in [("1", "damaged"), ("2", "foreign"), ("3", "foreign")] {
        let answer = on(&server, &["inspect", key, "--json"]).await;
        assert_eq!((answer.code, &answer.json()["state"]), (1, &state.into()), "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_holder_of_the_lease_and_the_nodes_that_wait_are_named() {
    let server = RedisServer::start();
    let (holder, waiter) = (node(&server).await, node(&server).await);
    let (begun, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (in_load, released) = (Arc::clone(&begun), Arc::clone(&go_on));
    let load = tokio::spawn(async move {
        let loader = move || async move {
            in_load.notify_one();
            released.notified().await;
            Ok::<_, std::io::Error>("Ada".to_owned())
        };
        holder.get_or_load(&42, loader).await
    });
    tokio::time::timeout(PATIENCE, begun.notified()).await.expect("the load begins");
    let wait = tokio::spawn(async move {
        waiter.get_or_load(&42, || async { Ok::<_, std::io::Error>("never".to_owned()) }).await
    });
    let waiting = || server.cli::<Vec<String>>(&["SMEMBERS", "{users:0}W:42"]);
    let node = eventually("a node waits", || waiting().first().cloned()).await;

    let answer = on(&server, &["inspect", "42", "--json"]).await;
    let seen = answer.json();
    assert_eq!((answer.code, &seen["state"]), (1, &"none".into()), "{seen}");
    assert_eq!(seen["lease"]["state"], "held", "{seen}");
    let text: String = server.cli(&["GET", "{users:0}L:42"]);
    assert!(text.starts_with(seen["lease"]["holder"].as_str().unwrap()), "{text}: {seen}");
    assert!(seen["lease"]["left_ms"].as_u64().is_some(), "{seen}");
    assert_eq!(seen["waiters"], serde_json::json!([node]));

    go_on.notify_one();
    assert_eq!(*load.await.unwrap().unwrap(), "Ada");
    assert_eq!(*wait.await.unwrap().unwrap(), "Ada");
}

#[tokio::test(flavor = "multi_thread")]
async fn compound_keys_are_escaped_for_the_caller() {
    let server = RedisServer::start();
    let redis = RedisBackend::connect(server.url()).await.unwrap();
    let builder = TieredCache::<(u32, String), u64>::builder().namespace("users");
    let cache = builder.l1(MemoryBackend::new(10)).l2(redis).build().unwrap();
    cache.insert(&(9, "a:b".to_owned()), 1).await.unwrap();
    for words in [
        &["inspect", "--tuple", "9", "a:b"][..],
        &["inspect", r"9:a\:b"],
        &["inspect", "--hex", "393a615c3a62"],
    ] {
        assert_eq!(on(&server, words).await.code, 0, "{words:?}");
    }
    assert_eq!(on(&server, &["inspect", "9:a:b"]).await.code, 1, "it is another key");
}

/// A command of a node begins a new epoch then. A program that only looks must not.
#[tokio::test(flavor = "multi_thread")]
async fn after_a_restart_of_the_server_inspecting_changes_nothing() {
    let server = RedisServer::start();
    let cache = node(&server).await;
    cache.insert(&1, "x".to_owned()).await.unwrap();
    cache.shutdown().await;
    drop(cache);
    server.snapshot();
    server.restart(Data::Keep);
    let state = || server.cli::<Vec<(String, String)>>(&["HGETALL", "{users:0}M"]);
    let before = state();
    let answer = on(&server, &["inspect", "1", "--json"]).await;
    assert_eq!((answer.code, &answer.json()["state"]), (1, &"replaced".into()), "{answer:?}");
    assert_eq!(state(), before);
}
