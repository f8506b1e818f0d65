//! `watch`.

use integration_tests::{Data, RedisServer};

use crate::rig::{Running, node};

#[tokio::test(flavor = "multi_thread")]
async fn each_change_is_one_line_in_the_order_of_the_numbers() {
    let server = RedisServer::start();
    let cache = node(&server).await;
    let watch = Running::start(&server, &["watch", "--count", "5"]);
    assert_eq!(watch.next()["event"], "subscribed");
    cache.insert(&42, "x".to_owned()).await.unwrap();
    cache.invalidate_tags(["a", "b"]).await.unwrap();
    cache.invalidate_all().await.unwrap();
    server.cli::<()>(&["PUBLISH", "{users:0}bus", "junk"]);
    let (insert, tags, clear) = (watch.next(), watch.next(), watch.next());
    assert_eq!((&insert["event"], &insert["key"]), (&"invalidated".into(), &"42".into()), "{insert}");
    assert_eq!(tags["event"], "tags_invalidated", "{tags}");
    assert_eq!(tags["tags"], serde_json::json!(["a", "b"]));
    assert_eq!(clear["event"], "cleared", "{clear}");
    let seq = |line: &serde_json::Value| line["seq"].as_u64().unwrap();
    assert_eq!((seq(&tags), seq(&clear)), (seq(&insert) + 1, seq(&insert) + 2));
    assert_eq!(watch.next()["event"], "foreign");
    assert_eq!(watch.end(), 0);
}

/// No change is made, so nothing is printed that would find it.
#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn it_ends_when_nobody_reads_its_output_any_more() {
    use std::io::{BufRead as _, BufReader};
    use std::process::Stdio;

    let server = RedisServer::start();
    let _cache = node(&server).await;
    let mut command = crate::rig::program();
    command.args(["--redis", &server.url(), "--namespace", "users", "watch"]).stdout(Stdio::piped());
    let mut watch = command.spawn().expect("it runs");
    let mut line = String::new();
    let mut out = BufReader::new(watch.stdout.take().expect("its output"));
    out.read_line(&mut line).unwrap();
    assert!(line.contains("subscribed"), "{line}");
    assert!(watch.try_wait().unwrap().is_none(), "it goes on while its output is read");
    drop(out);
    let end = integration_tests::eventually("it ends", || watch.try_wait().unwrap()).await;
    assert_eq!(end.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_no_text_is_shown_in_hexadecimal() {
    let server = RedisServer::start();
    let _cache = node(&server).await;
    let watch = Running::start(&server, &["watch", "--json"]);
    assert_eq!(watch.next()["event"], "subscribed");
    assert_eq!(crate::rig::on(&server, &["invalidate", "--hex", "00ff"]).await.code, 0);
    let line = watch.next();
    assert_eq!((&line["event"], &line["key_hex"]), (&"invalidated".into(), &"00ff".into()), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_lost_and_a_gap_in_the_numbers_are_told() {
    let server = RedisServer::start();
    let cache = node(&server).await;
    let watch = Running::start(&server, &["watch"]);
    assert_eq!(watch.next()["event"], "subscribed");
    cache.invalidate(&1).await.unwrap();
    let before = watch.next()["seq"].as_u64().unwrap();
    server.restart(Data::Drop);
    assert_eq!(watch.next()["event"], "lost");
    assert_eq!(watch.next()["event"], "subscribed");
    // A change during which the server is away fails, and is retried.
    while cache.invalidate(&2).await.is_err() {}
    let gap = watch.next();
    assert_eq!((&gap["event"], &gap["after"]), (&"gap".into(), &before.into()), "{gap}");
    assert_eq!(watch.next()["event"], "invalidated");
}
