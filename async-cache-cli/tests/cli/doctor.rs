//! `doctor`.

use std::net::TcpListener;

use integration_tests::RedisServer;
use integration_tests::sentinels::{MASTER, Sentinels};
use serde_json::Value;

use crate::rig::{Answer, at, node, on, program, run};

/// The rights of docs/operations.md.
pub(crate) const LEAST: &str = "resetchannels ~{users:* &{users:* -@all +get +mget +evalsha +script|load +info +ping +publish \
                     +subscribe +unsubscribe +hello +auth +set +del +unlink +persist +pexpire +pttl +hset +hget \
                     +hgetall +hmget +hdel +hlen +sadd +srem +srandmember +rename +time";

fn check(answer: &Answer, name: &str) -> Value {
    let report = answer.json();
    let checks = report["checks"].as_array().expect("checks");
    checks.iter().find(|check| check["name"] == name).unwrap_or_else(|| panic!("{name}: {report}")).clone()
}

fn rights(answer: &Answer, state: &str) -> Vec<String> {
    let report = answer.json();
    let rights = report["rights"].as_array().expect("rights").iter();
    rights
        .filter(|right| right["state"] == state)
        .map(|right| right["right"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_and_a_namespace_in_order_are_described() {
    let server = RedisServer::with_arguments(&["--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru"]);
    let _cache = node(&server).await;
    let answer = on(&server, &["doctor", "--nodes", "10", "--json"]).await;
    assert_eq!((answer.code, &answer.json()["ok"]), (0, &true.into()), "{answer:?}");
    for name in [
        "connect", "tls", "version", "topology", "rights", "record", "clock", "latency", "eviction", "nodes",
        "cost",
    ] {
        assert_eq!(check(&answer, name)["status"], "ok", "{name}: {answer:?}");
    }
    let version = check(&answer, "version");
    assert!(
        server.cli::<String>(&["INFO", "server"]).contains(version["figures"]["version"].as_str().unwrap())
    );
    assert!(check(&answer, "record")["text"].as_str().unwrap().contains("bincode-2"));
    assert_eq!(check(&answer, "eviction")["figures"]["policy"], "allkeys-lru");
    let text = on(&server, &["doctor"]).await;
    assert!(text.out.contains("1 node(s)"), "without --nodes those that listen are counted: {text:?}");
    assert!(text.code == 0 && text.out.contains("ok       connect"), "{text:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_least_rights_are_enough_and_each_one_that_lacks_is_named() {
    let server = RedisServer::start();
    let _cache = node(&server).await;
    server.set_user("app", LEAST);
    let answer = at(&server.url_as("app"), &["doctor", "--json"]).await;
    assert_eq!(answer.code, 0, "{answer:?}");
    assert_eq!(rights(&answer, "missing"), Vec::<String>::new());
    assert_eq!(
        rights(&answer, "granted").len(),
        LEAST.split(' ').filter(|word| word.starts_with(['+', '~', '&'])).count() - 1,
        "all but `+auth`, which is proved by the login: {answer:?}"
    );

    for (without, missing) in [
        ("-hset -publish", &["+hset", "+publish"][..]),
        ("-subscribe", &["+subscribe"]),
        ("-get", &["+get"]),
        ("resetkeys ~{other:*", &["~{users:*"]),
        ("resetchannels &{other:*", &["&{users:*"]),
    ] {
        server.set_user("less", &format!("reset on >secret {LEAST} {without}"));
        let answer = at(&server.url_as("less"), &["doctor", "--json"]).await;
        assert_eq!(
            (answer.code, check(&answer, "rights")["status"].as_str()),
            (1, Some("problem")),
            "{answer:?}"
        );
        assert_eq!(rights(&answer, "missing"), missing, "{without}");
    }
    server.set_user("slow", &format!("reset on >secret {LEAST} -mget"));
    let answer = at(&server.url_as("slow"), &["doctor", "--json"]).await;
    assert_eq!((answer.code, rights(&answer, "missing_but_optional")), (0, vec!["+mget".to_owned()]));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_stored_by_an_examination() {
    let server = RedisServer::start();
    let _cache = node(&server).await;
    let before: usize = server.cli(&["DBSIZE"]);
    assert_eq!(on(&server, &["doctor"]).await.code, 0);
    assert_eq!(server.cli::<usize>(&["DBSIZE"]), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_does_not_exist_is_a_problem() {
    let server = RedisServer::start();
    let answer = on(&server, &["doctor", "--json"]).await;
    assert_eq!(answer.code, 1, "{answer:?}");
    assert!(
        check(&answer, "record")["text"].as_str().unwrap().contains("no namespace `users`"),
        "{answer:?}"
    );
    assert_eq!(server.cli::<usize>(&["DBSIZE"]), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_and_a_replica_are_problems() {
    let master = RedisServer::start();
    let replica = RedisServer::with_arguments(&["--replicaof", "127.0.0.1", &master.port().to_string()]);
    let cluster = RedisServer::with_arguments(&["--cluster-enabled", "yes"]);
    for (server, word) in [(&replica, "replica"), (&cluster, "cluster")] {
        let mut command = program();
        command.args(["--redis", &server.url(), "doctor", "--json"]);
        let answer = run(command).await;
        assert_eq!(answer.code, 1, "{answer:?}");
        for name in ["connect", "topology"] {
            let check = check(&answer, name);
            assert_eq!(check["status"], "problem", "{check}");
            assert!(check["text"].as_str().unwrap().to_lowercase().contains(word), "{check}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_that_will_be_full_is_a_warning() {
    let server = RedisServer::with_arguments(&["--maxmemory", "64mb", "--maxmemory-policy", "noeviction"]);
    let mut command = program();
    command.args(["--redis", &server.url(), "doctor", "--json"]);
    let answer = run(command).await;
    assert_eq!(
        (answer.code, check(&answer, "eviction")["status"].as_str()),
        (0, Some("warning")),
        "{answer:?}"
    );
    assert_eq!(check(&answer, "record")["status"], "skipped");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_away_is_exit_code_3() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("redis://{}", listener.local_addr().unwrap());
    drop(listener);
    let answer = at(&url, &["doctor", "--json"]).await;
    assert_eq!((answer.code, &answer.error()["kind"]), (3, &"unreachable".into()), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_that_lacks_is_one_problem() {
    let server = RedisServer::with_password("secret");
    let answer = at(&format!("redis://127.0.0.1:{}", server.port()), &["doctor", "--json"]).await;
    let connect = check(&answer, "connect");
    assert_eq!((answer.code, connect["status"].as_str()), (1, Some("problem")), "{answer:?}");
    assert!(connect["text"].as_str().unwrap().contains("none was given"), "{connect}");
    for name in ["version", "topology", "rights", "record", "clock", "latency", "eviction"] {
        assert_eq!(check(&answer, name)["status"], "skipped", "{name}: {answer:?}");
    }
}

/// The address that is shown begins with the name of the master.
#[tokio::test(flavor = "multi_thread")]
async fn sentinels_and_a_master_on_this_machine_need_no_encryption() {
    let sentinels = Sentinels::start();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("redis.toml");
    let text = format!("[sentinel]\nmaster = \"{MASTER}\"\nurls = {:?}\n", sentinels.urls());
    std::fs::write(&file, text).unwrap();
    let mut command = program();
    command.args(["--config", file.to_str().unwrap(), "doctor", "--json"]);
    let answer = run(command).await;
    let tls = check(&answer, "tls");
    assert_eq!((&tls["status"], answer.code), (&"ok".into(), 0), "{tls}: {answer:?}");
}
