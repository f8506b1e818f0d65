//! On a Redis Cluster.

use std::time::Duration;

use async_cache::{MemoryBackend, RedisBackend, Stamp, TieredCache};
use integration_tests::cluster::RedisCluster;

use crate::rig::{Answer, PATIENCE, program, run};

async fn on(cluster: &RedisCluster, words: &[&str]) -> Answer {
    let mut command = program();
    command.args(["--cluster", "--redis", &cluster.urls()[0], "--namespace", "users"]).args(words);
    run(command).await
}

async fn node(cluster: &RedisCluster) -> TieredCache<u64, String> {
    let redis =
        RedisBackend::builder().cluster(cluster.urls()).command_timeout(PATIENCE).connect().await.unwrap();
    let builder = TieredCache::builder().namespace("users").l1(MemoryBackend::new(100)).l2(redis);
    let cache = builder.ttl(Duration::from_secs(600)).build().unwrap();
    cache.ready().await.unwrap();
    cache
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_on_every_master_are_inspected_and_changed_and_the_nodes_answer() {
    let cluster = RedisCluster::start(2);
    let (one, other) = (node(&cluster).await, node(&cluster).await);
    let keys: Vec<u64> = (0..10).collect();
    for key in &keys {
        one.insert(key, "x".to_owned()).tag("all").await.unwrap();
        let answer = on(&cluster, &["inspect", &key.to_string(), "--json"]).await;
        assert_eq!((answer.code, &answer.json()["state"]), (0, &"fresh".into()), "{answer:?}");
        assert_eq!(answer.json()["l1"]["nodes"].as_array().unwrap().len(), 2, "{answer:?}");
    }
    let stamp = |answer: Answer| {
        assert_eq!(answer.code, 0, "{answer:?}");
        answer.out.trim().parse::<Stamp>().unwrap()
    };
    let invalidated = stamp(on(&cluster, &["invalidate", "3"]).await);
    assert!(other.get(&3).at_least(&invalidated).await.unwrap().is_none());
    assert!(other.get(&4).await.unwrap().is_some());
    let tagged = stamp(on(&cluster, &["tag", "all"]).await);
    let found = other.get_many(&keys).at_least(&tagged).await.unwrap();
    assert!(found.iter().all(Option::is_none));
    stamp(on(&cluster, &["clear"]).await);

    let answer = on(&cluster, &["stats", "--json"]).await;
    assert_eq!((answer.code, &answer.json()["answered"]), (0, &2.into()), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_does_not_exist_is_told_and_not_made() {
    let cluster = RedisCluster::start(1);
    let answer = on(&cluster, &["clear", "--json"]).await;
    assert_eq!((answer.code, &answer.error()["kind"]), (1, &"not_found".into()), "{answer:?}");
    assert_eq!(cluster.node(0).cli::<usize>(&["DBSIZE"]), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_of_a_cluster_is_examined_with_the_rights_that_clusters_need() {
    const LEAST: &str = "resetchannels ~{users:* &{users:* -@all +get +mget +evalsha +script|load +info +ping \
                         +spublish +ssubscribe +sunsubscribe +cluster|info +cluster|slots +hello +auth +set +del \
                         +unlink +persist +pexpire +pttl +hset +hget +hgetall +hmget +hdel +hlen +sadd +srem \
                         +srandmember +rename +time";

    let cluster = RedisCluster::start(2);
    let _node = node(&cluster).await;
    let as_user = async |rights: &str| {
        cluster.nodes().iter().for_each(|node| node.set_user("app", &format!("reset on >secret {rights}")));
        let url = cluster.urls()[0].replace("redis://", "redis://app:secret@");
        let mut command = program();
        command.args(["--cluster", "--redis", &url, "--namespace", "users", "doctor", "--json"]);
        let answer = run(command).await;
        let rights = answer.json()["rights"].as_array().unwrap().clone();
        let missing: Vec<_> = rights
            .iter()
            .filter(|right| right["state"] != "granted")
            .map(|right| right["right"].as_str().unwrap().to_owned())
            .collect();
        (answer, missing)
    };
    let (answer, missing) = as_user(LEAST).await;
    assert_eq!((answer.code, missing), (0, vec![]), "{answer:?}");
    let (answer, missing) = as_user(&LEAST.replace("+spublish ", "").replace("+cluster|slots ", "")).await;
    assert_eq!(
        (answer.code, missing),
        (1, vec!["+cluster|slots".to_owned(), "+spublish".to_owned()]),
        "{answer:?}"
    );
}

/// The first node is in order. Only an examination of every master finds what another one lacks.
#[tokio::test(flavor = "multi_thread")]
async fn every_master_is_examined() {
    let cluster = RedisCluster::start(3);
    let _node = node(&cluster).await;
    let answer = on(&cluster, &["doctor", "--json"]).await;
    let report = answer.json();
    let nodes = |name: &str| {
        let checks = report["checks"].as_array().unwrap().iter().filter(|check| check["name"] == name);
        checks.map(|check| check["node"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let mut masters: Vec<_> = (0..3).map(|at| format!("127.0.0.1:{}", cluster.node(at).port())).collect();
    masters.sort_unstable();
    for name in ["connect", "topology", "rights", "clock", "latency", "eviction"] {
        let mut examined = nodes(name);
        examined.sort_unstable();
        assert_eq!(examined, masters, "{name}: {report}");
    }
    assert_eq!(answer.code, 0, "{answer:?}");

    let last = cluster.node(2);
    last.cli::<()>(&["CONFIG", "SET", "maxmemory", "100mb"]);
    last.set_user("default", "on nopass ~* &* +@all -spublish");
    let answer = on(&cluster, &["doctor", "--json"]).await;
    let report = answer.json();
    let of_last: Vec<_> = report["checks"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|check| {
            check["node"].as_str().is_some_and(|node| node.ends_with(&format!(":{}", last.port())))
        })
        .collect();
    let text = |name: &str| of_last.iter().find(|check| check["name"] == name).unwrap()["text"].to_string();
    assert_eq!(answer.code, 1, "{report}");
    assert!(text("rights").contains("+spublish"), "{report}");
    assert!(text("eviction").contains("noeviction"), "{report}");
    let rights = report["rights"].as_array().unwrap();
    assert!(
        rights.iter().any(|right| right["right"] == "+spublish" && right["state"] == "missing"),
        "{report}"
    );
    let told = on(&cluster, &["doctor"]).await.out;
    assert!(told.contains(&format!("127.0.0.1:{}: the user lacks", last.port())), "{told}");
}
