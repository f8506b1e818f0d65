//! Wrong input, wrong servers and missing rights, for every verb.

use std::net::TcpListener;

use integration_tests::RedisServer;

use crate::rig::{at, node, on, program, run};

const VERBS: [&[&str]; 7] = [
    &["inspect", "42"],
    &["invalidate", "42"],
    &["tag", "a"],
    &["clear"],
    &["watch", "--count", "1"],
    &["stats"],
    &["top", "--json"],
];

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_does_not_exist_is_told_and_not_made() {
    let server = RedisServer::start();
    for verb in VERBS {
        let words: Vec<_> = verb.iter().copied().filter(|word| *word != "--json").chain(["--json"]).collect();
        let answer = on(&server, &words).await;
        assert_eq!((answer.code, &answer.error()["kind"]), (1, &"not_found".into()), "{verb:?}: {answer:?}");
        assert!(answer.err.contains("`users`") && answer.out.is_empty(), "{verb:?}: {answer:?}");
    }
    assert_eq!(server.cli::<usize>(&["DBSIZE"]), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_away_is_told() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("redis://:hunter2@{}", listener.local_addr().unwrap());
    drop(listener);
    for verb in VERBS {
        let answer = at(&url, verb).await;
        assert_eq!(answer.code, 3, "{verb:?}: {answer:?}");
        assert!(answer.err.contains("connection refused") && answer.out.is_empty(), "{verb:?}: {answer:?}");
        assert!(!answer.err.contains("hunter2"), "{verb:?}: {answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_is_refused() {
    let server = RedisServer::with_arguments(&["--cluster-enabled", "yes"]);
    for verb in VERBS {
        let answer = on(&server, verb).await;
        assert_eq!(answer.code, 3, "{verb:?}: {answer:?}");
        assert!(answer.err.contains("Cluster") && answer.err.contains("--cluster"), "{verb:?}: {answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_refused_and_not_shown() {
    let server = RedisServer::with_password("right");
    let url = format!("redis://:hunter2@127.0.0.1:{}", server.port());
    for verb in VERBS {
        let answer = at(&url, verb).await;
        assert_eq!(answer.code, 3, "{verb:?}: {answer:?}");
        assert!(answer.err.contains("password") && !answer.err.contains("hunter2"), "{verb:?}: {answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_right_is_named() {
    let server = RedisServer::start();
    let _cache = node(&server).await;
    server.set_user("reader", "~* &* +@all -publish");
    server.set_user("stranger", "~{other:* &* +@all");
    for verb in VERBS {
        let answer = at(&server.url_as("reader"), verb).await;
        assert_eq!(answer.code, 3, "{verb:?}: {answer:?}");
        assert!(answer.err.contains("+publish"), "{verb:?}: {answer:?}");
        let answer = at(&server.url_as("stranger"), verb).await;
        assert_eq!(answer.code, 3, "{verb:?}: {answer:?}");
        assert!(answer.err.contains("~{users:*"), "{verb:?}: {answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_of_another_program_is_refused() {
    let server = RedisServer::start();
    server.cli::<()>(&["SET", "{users:0}M", "hello"]);
    server.cli::<()>(&["HSET", "{others:0}M", "v", "something else"]);
    for verb in VERBS {
        let answer = on(&server, verb).await;
        assert_eq!(answer.code, 3, "{verb:?}: {answer:?}");
        assert!(answer.err.contains("{users:0}M"), "{verb:?}: {answer:?}");
        let mut command = program();
        command.args(["--redis", &server.url(), "--namespace", "others"]).args(verb);
        let answer = run(command).await;
        assert_eq!(answer.code, 3, "{verb:?}: {answer:?}");
        assert!(answer.err.contains("not written by async-cache"), "{verb:?}: {answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_guessed() {
    let server = RedisServer::start();
    let _cache = node(&server).await;
    let url = server.url();
    for (words, what) in [
        (&["inspect", "42", "--namespace", "users"][..], "--redis"),
        (&["inspect", "42", "--redis", &url], "--namespace"),
        (&["inspect", "42", "--redis", "localhost:6379", "--namespace", "users"], "wrong Redis URL"),
        (&["inspect", "", "--redis", &url, "--namespace", "users"], "empty"),
        (&["inspect", "{users:0}V:42", "--redis", &url, "--namespace", "users"], "the KEY in it is `42`"),
        (&["inspect", "1", "2", "--redis", &url, "--namespace", "users"], "--tuple"),
        (&["invalidate", "--redis", &url, "--namespace", "users"], "KEY"),
        (&["tag", "", "--redis", &url, "--namespace", "users"], "empty"),
        (&["inspect", "1", "--redis", &url, "--namespace", "users", "--ca-file", "/dev/null"], "rediss://"),
        (&["forget", "1"], "forget"),
    ] {
        let mut command = program();
        command.args(words);
        let answer = run(command).await;
        assert_eq!(answer.code, 2, "{words:?}: {answer:?}");
        assert!(answer.err.contains(what), "{words:?}: {answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_and_the_namespace_may_be_in_the_environment() {
    let server = RedisServer::with_password("hunter2");
    let _cache = node(&server).await;
    for name in ["ASYNC_CACHE_REDIS", "REDIS_URL"] {
        let mut command = program();
        command.env(name, server.url()).env("ASYNC_CACHE_NAMESPACE", "users").args(["invalidate", "-1"]);
        let answer = run(command).await;
        assert_eq!(answer.code, 0, "{name}: {answer:?}");
        let mut command = program();
        command.env(name, server.url()).arg("--help");
        let answer = run(command).await;
        assert!(answer.code == 0 && !answer.out.contains("hunter2"), "{name}: {answer:?}");
        assert!(answer.out.contains("Exit codes"), "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_s_configuration_file_is_read_and_its_errors_quote_no_secret() {
    let server = RedisServer::start();
    let _cache = node(&server).await;
    server.set_user("app", "~* &* +@all");
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("redis.toml");
    let file = file.to_str().unwrap();
    let port = server.port();
    for (text, code, word) in [
        (format!("url = \"redis://127.0.0.1:{port}\"\nusername = \"app\"\npassword = \"secret\""), 0, ""),
        (
            format!("url = \"redis://127.0.0.1:{port}\"\nusername = \"app\"\npassword = \"hunter2\""),
            3,
            "password",
        ),
        (format!("url = \"redis://127.0.0.1:{port}\"\npassword = \"hunter2\nx = 1"), 2, "line 2"),
        (format!("url = \"redis://127.0.0.1:{port}\"\npassword = 4711"), 2, "line 2"),
        ("ulr = 1".to_owned(), 2, "ulr"),
    ] {
        std::fs::write(file, &text).unwrap();
        let mut command = program();
        command.args(["--config", file, "--namespace", "users", "invalidate", "42"]);
        let answer = run(command).await;
        assert_eq!(answer.code, code, "{text}: {answer:?}");
        let secret = ["hunter2", "4711"].iter().any(|secret| answer.err.contains(secret));
        assert!(answer.err.contains(word) && !secret, "{text}: {answer:?}");
    }
    let mut command = program();
    command.args(["--config", file, "--redis", &server.url(), "--namespace", "users", "clear"]);
    let answer = run(command).await;
    assert_eq!(answer.code, 2, "two servers are named: {answer:?}");
    let answer = at("redis://127.0.0.1:1", &["clear", "--config", "/nowhere/redis.toml"]).await;
    assert_eq!(answer.code, 2, "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_of_a_larger_configuration_file_is_read() {
    let server = RedisServer::start();
    let _cache = node(&server).await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("service.toml");
    let url = server.url();
    let text = |more: &str| {
        format!(
            "name = \"shop\"\n[database]\nhost = \"db\"\n[cache]\nsize = 5\n[cache.redis]\nurl = \"{url}\"\n{more}"
        )
    };
    for (table, more, code, word) in [
        ("cache.redis", "", 0, ""),
        ("cache.rediss", "", 2, "Its tables are `cache`, `cache.redis`, `database`"),
        ("name", "", 2, "no table `name`"),
        ("cache", "", 2, "unknown field"),
        ("cache.redis", "password = 4711", 2, "line 8"),
    ] {
        std::fs::write(&file, text(more)).unwrap();
        let mut command = program();
        command.args(["--config", file.to_str().unwrap(), "--config-table", table]);
        command.args(["--namespace", "users", "invalidate", "42"]);
        let answer = run(command).await;
        assert_eq!(answer.code, code, "{table}: {answer:?}");
        assert!(answer.err.contains(word) && !answer.err.contains("4711"), "{table}: {answer:?}");
    }
    let answer = at(&server.url(), &["--config-table", "cache", "clear"]).await;
    assert_eq!(answer.code, 2, "it is a table of no file: {answer:?}");
}

/// Words that the program cannot read, without and with `--json`.
#[tokio::test(flavor = "multi_thread")]
async fn wrong_words_are_told_in_json_if_json_is_wanted() {
    let wrong: [&[&str]; 5] =
        [&["invalidate"], &["bogus"], &["--timeout", "abc", "stats"], &["watch", "--count", "0"], &[]];
    for words in wrong {
        let text = at("redis://127.0.0.1:1", words).await;
        assert_eq!(text.code, 2, "{words:?}: {text:?}");
        let json = at("redis://127.0.0.1:1", &[&["--json"], words].concat()).await;
        let error = json.error();
        assert_eq!(
            (json.code, &error["kind"], &error["exit_code"]),
            (2, &"usage".into(), &2.into()),
            "{json:?}"
        );
        assert!(!error["error"].as_str().unwrap().is_empty() && json.out.is_empty(), "{words:?}: {json:?}");
    }
    // A word behind `--` is a key.
    let key = at("redis://127.0.0.1:1", &["inspect", "--bogus", "--", "--json"]).await;
    assert!(key.code == 2 && key.err.starts_with("error: "), "{key:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_namespace_is_wrong_usage_and_nothing_is_sent() {
    for name in ["users:0}V{", "a\nb", &"n".repeat(129)] {
        let mut command = program();
        command.args(["--redis", "redis://127.0.0.1:1", "-n", name, "--json", "stats"]);
        let answer = run(command).await;
        assert_eq!((answer.code, &answer.error()["kind"]), (2, &"usage".into()), "{name:?}: {answer:?}");
        assert!(answer.err.contains("1 to 128 bytes"), "{answer:?}");
    }
}
