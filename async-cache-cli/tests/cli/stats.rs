//! `stats` and `top`: all nodes are asked.

use async_cache::ErrorKind;
use async_cache::tools::Namespace;
use futures_util::StreamExt;
use integration_tests::{RedisServer, eventually};
use serde_json::Value;

use crate::rig::{Running, at, node, on};

fn of<'a>(stats: &'a Value, name: &str) -> Vec<&'a Value> {
    stats["nodes"].as_array().expect("nodes").iter().map(|node| &node[name]).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_node_answers_with_its_statistics_and_they_are_added_up() {
    let server = RedisServer::start();
    let (one, other) = (node(&server).await, node(&server).await);
    one.insert(&42, "Ada".to_owned()).await.unwrap();
    for _ in 0..3 {
        assert!(one.get(&42).await.unwrap().is_some());
    }
    assert!(other.get(&42).await.unwrap().is_some());
    let answer = on(&server, &["stats", "--json"]).await;
    let stats = answer.json();
    assert_eq!((answer.code, &stats["answered"], &stats["missing"]), (0, &2.into(), &0.into()), "{stats}");
    let sum = |name: &str| of(&stats, name).iter().map(|n| n.as_u64().unwrap()).sum::<u64>();
    assert_eq!((sum("l1_hits"), sum("l2_hits"), sum("entries")), (3, 1, 2), "{stats}");
    for name in ["l1_hits", "l2_hits", "entries", "invalidations_received"] {
        assert_eq!(stats["totals"][name].as_u64(), Some(sum(name)), "{name}: {stats}");
    }
    assert_eq!(stats["hit_rate"], 1.0);
    assert_eq!(of(&stats, "pid"), [std::process::id(), std::process::id()], "{stats}");
    let mine = serde_json::to_value(one.stats()).unwrap();
    let names = mine.as_object().unwrap().keys();
    assert!(names.clone().all(|name| stats["nodes"][0].get(name).is_some()), "all of Stats: {stats}");

    let text = on(&server, &["stats"]).await;
    assert!(text.code == 0 && text.out.contains("2 node(s)") && text.out.contains("100.0 %"), "{text:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_without_nodes_is_told() {
    let server = RedisServer::start();
    let cache = node(&server).await;
    cache.invalidate(&1).await.unwrap();
    cache.shutdown().await;
    drop(cache);
    eventually("its connections are closed", || (server.clients() == 0).then_some(())).await;
    let answer = on(&server, &["stats", "--json"]).await;
    assert_eq!((answer.code, &answer.json()["answered"]), (1, &0.into()), "{answer:?}");
    assert!(on(&server, &["stats"]).await.out.contains("no node"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_that_does_not_answer_is_told() {
    let server = RedisServer::start();
    let _cache = node(&server).await;
    let client = redis::Client::open(server.url()).unwrap();
    let mut silent = client.get_async_pubsub().await.unwrap();
    silent.subscribe("{users:0}bus").await.unwrap();
    // It waits for the whole deadline, so here it is short. Nodes answer at once.
    let answer = on(&server, &["stats", "--json", "--timeout", "5s"]).await;
    let stats = answer.json();
    assert_eq!((answer.code, &stats["answered"], &stats["missing"]), (1, &1.into(), &1.into()), "{stats}");
}

/// Another program listens, is asked, and ends without an answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_listener_that_has_gone_is_not_missing() {
    let server = RedisServer::start();
    let _cache = node(&server).await;
    let client = redis::Client::open(server.url()).unwrap();
    let mut leaves = client.get_async_pubsub().await.unwrap();
    leaves.subscribe("{users:0}bus").await.unwrap();
    let leaving = tokio::spawn(async move {
        let is_question = |message: &redis::Msg| message.get_payload_bytes().starts_with(b"Q:");
        let asked = leaves.on_message().any(|message| std::future::ready(is_question(&message))).await;
        drop(leaves);
        asked
    });
    let answer = on(&server, &["stats", "--json", "--timeout", "5s"]).await;
    let stats = answer.json();
    assert_eq!((answer.code, &stats["answered"], &stats["missing"]), (0, &1.into(), &0.into()), "{stats}");
    assert!(leaving.await.unwrap(), "it was asked");
}

/// They listen, too, and are no nodes.
#[tokio::test(flavor = "multi_thread")]
async fn other_programs_that_watch_are_not_counted() {
    let server = RedisServer::start();
    let _cache = node(&server).await;
    let watch = Running::start(&server, &["watch"]);
    assert_eq!(watch.next()["event"], "subscribed");
    let top = Running::start(&server, &["top", "--json"]);
    assert_eq!(top.next()["answered"], 1);
    let answer = on(&server, &["stats", "--json"]).await;
    let stats = answer.json();
    assert_eq!((answer.code, &stats["answered"], &stats["missing"]), (0, &1.into(), &0.into()), "{stats}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rounds_of_top_have_rates() {
    let server = RedisServer::start();
    let cache = node(&server).await;
    let top = Running::start(&server, &["top", "--json", "--interval", "200ms", "--count", "3"]);
    assert_eq!(top.next()["per_s"]["lookups"], Value::Null, "there is nothing to compare with");
    cache.insert(&1, "x".to_owned()).await.unwrap();
    for _ in 0..100 {
        cache.get(&1).await.unwrap();
    }
    let lookups = [top.next(), top.next()].map(|round| round["per_s"]["lookups"].as_f64().unwrap());
    assert!(lookups.iter().any(|rate| *rate > 0.0), "{lookups:?}");
    assert_eq!(top.end(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn top_without_a_terminal_is_refused() {
    let server = RedisServer::start();
    let _cache = node(&server).await;
    let answer = on(&server, &["top"]).await;
    assert!(answer.code == 2 && answer.err.contains("--json"), "{answer:?}");
    assert_eq!(on(&server, &["top", "--json", "--interval", "1ms"]).await.code, 2);
}

/// A node with the least rights answers: no further right is needed.
#[tokio::test(flavor = "multi_thread")]
async fn the_least_rights_suffice_to_ask_and_to_answer() {
    use async_cache::{MemoryBackend, RedisBackend, TieredCache};

    let server = RedisServer::start();
    server.set_user("app", crate::doctor::LEAST);
    let redis = RedisBackend::connect(server.url_as("app")).await.unwrap();
    let builder = TieredCache::<u64, u64>::builder().namespace("users").l1(MemoryBackend::new(10));
    let cache = builder.l2(redis).build().unwrap();
    cache.ready().await.unwrap();
    for words in [&["stats"][..], &["invalidate", "1"], &["watch", "--count", "1"], &["clear"], &["tag", "a"]]
    {
        let answer = at(&server.url_as("app"), words).await;
        assert_eq!(answer.code, 0, "{words:?}: {answer:?}");
    }
    assert_eq!(at(&server.url_as("app"), &["inspect", "1"]).await.code, 1, "nothing is stored");
}

/// Whoever may publish can ask. A node answers some questions, drops the others, and works on.
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_questions_costs_a_node_a_limited_number_of_answers() {
    let server = RedisServer::start();
    let cache = node(&server).await;
    let client = redis::Client::open(server.url()).unwrap();
    let mut ears = client.get_async_pubsub().await.unwrap();
    ears.subscribe("{users:0}node:00000000000000ab").await.unwrap();
    let mut connection = server.connection().unwrap();
    for id in 0..1000 {
        let question = format!("Q:00000000000000ab:{id}:stats");
        redis::cmd("PUBLISH").arg("{users:0}bus").arg(question).exec(&mut connection).unwrap();
    }
    cache.insert(&1, "x".to_owned()).await.unwrap();
    let unreadable = cache.stats().unreadable;
    let mut messages = ears.into_on_message();
    let mut answers = 0;
    while let Ok(Some(_)) = tokio::time::timeout(std::time::Duration::from_secs(2), messages.next()).await {
        answers += 1;
    }
    assert!((1..500).contains(&answers), "{answers}");
    assert_eq!(unreadable, 0, "questions are no foreign messages");
    let answer = on(&server, &["stats"]).await;
    assert_eq!(answer.code, 0, "it answers again: {answer:?}");
}

/// A backend that cannot ask says so.
#[tokio::test(flavor = "multi_thread")]
async fn the_number_of_listeners_is_told_by_the_server() {
    let server = RedisServer::start();
    let _cache = node(&server).await;
    let redis = async_cache::RedisBackend::connect(server.url()).await.unwrap();
    struct Deaf;
    impl async_cache::backend::Listener for Deaf {
        fn notify(&self, _: async_cache::backend::BusEvent) {}
    }
    let deaf: std::sync::Arc<dyn async_cache::backend::Listener> = std::sync::Arc::new(Deaf);
    let namespace =
        Namespace::open(&redis, "users", std::sync::Arc::downgrade(&deaf)).await.unwrap().unwrap();
    let mut listening = 0;
    for id in 0..1000 {
        listening = namespace.region().ask(id, b"nonsense").await.unwrap();
        if listening == 2 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert_eq!(listening, 2, "the node and this one");
    let error = Namespace::open(&redis, "a{b", std::sync::Arc::downgrade(&deaf)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
}
