//! On a server that the nodes know by their scripts (`identify_server_by = "scripts"`).

use async_cache::{IdentifyBy, TieredCache};
use integration_tests::{Data, RedisServer};

use crate::rig::{Answer, node_by, program, run};

/// Runs a verb on a namespace, with a configuration file.
async fn on(server: &RedisServer, namespace: &str, words: &[&str]) -> Answer {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("redis.toml");
    let text = format!("url = \"{}\"\nidentify_server_by = \"scripts\"\n", server.url());
    std::fs::write(&file, text).unwrap();
    let mut command = program();
    command.args(["--config", file.to_str().unwrap(), "--namespace", namespace]).args(words);
    run(command).await
}

async fn node(server: &RedisServer) -> TieredCache<u64, String> {
    node_by(server, IdentifyBy::Scripts).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_is_inspected_and_the_nodes_keep_their_token() {
    let server = RedisServer::start();
    let cache = node(&server).await;
    cache.insert(&42, "Ada".to_owned()).tag("team:9").await.unwrap();
    let token = || server.cli::<String>(&["HGET", "{users:0}M", "r"]);
    let before = token();
    let answer = on(&server, "users", &["inspect", "42", "--json"]).await;
    let seen = answer.json();
    assert_eq!((answer.code, &seen["state"]), (0, &"fresh".into()), "{answer:?}");
    assert_eq!(seen["l2"]["tags"], serde_json::json!(["team:9"]), "{seen}");
    assert_eq!(seen["l1"]["nodes"][0]["state"], "fresh", "{seen}");
    let answer = crate::rig::on(&server, &["inspect", "42", "--json"]).await;
    assert_eq!(
        (answer.code, &answer.json()["state"]),
        (0, &"fresh".into()),
        "without the setting: {answer:?}"
    );
    let answer = on(&server, "users", &["inspect", "43", "--json"]).await;
    assert_eq!((answer.code, &answer.json()["state"]), (1, &"none".into()), "{answer:?}");
    cache.invalidate_tag("team:9").await.unwrap();
    let answer = on(&server, "users", &["inspect", "42", "--json"]).await;
    assert_eq!((answer.code, &answer.json()["state"]), (1, &"void".into()), "{answer:?}");
    assert_eq!(token(), before);
}

/// The process that answers does not know the scripts of the token. A command of a node would install another one.
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
    let answer = on(&server, "users", &["inspect", "1", "--json"]).await;
    assert_eq!((answer.code, &answer.json()["state"]), (1, &"replaced".into()), "{answer:?}");
    assert_eq!(state(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mistyped_namespace_is_told_and_not_made() {
    let server = RedisServer::start();
    let _node = node(&server).await;
    for words in [
        &["inspect", "42"][..],
        &["invalidate", "42"],
        &["tag", "a"],
        &["expire", "42"],
        &["expire-tag", "a"],
        &["clear"],
        &["watch", "--count", "1"],
        &["stats"],
        &["doctor"],
    ] {
        let answer = on(&server, "usres", &[words, &["--json"]].concat()).await;
        assert_eq!(answer.code, 1, "{words:?}: {answer:?}");
        let told = [answer.out.clone(), answer.err.clone()].concat();
        assert!(
            told.contains("has no namespace `usres`") && told.contains("Check the name"),
            "{words:?}: {answer:?}"
        );
        let names = server.cli::<Vec<String>>(&["KEYS", "*usres*"]);
        assert!(names.is_empty(), "{words:?} has made {names:?}");
    }
}
