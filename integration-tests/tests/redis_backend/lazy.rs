//! A backend that is built while its server is away.

use std::time::Duration;

use async_cache_core::backend::{BusEvent, Check};
use async_cache_core::{ErrorKind, Event, Refused, TieredCache};
use async_cache_memory::MemoryBackend;
use async_cache_redis::RedisBackend;
use futures_util::StreamExt;
use integration_tests::{Data, RedisServer, eventually};

use crate::rig::{Node, RECORD, key};

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_is_built_while_its_server_is_away_and_serves_once_it_is_there() {
    let server = RedisServer::start();
    server.kill();
    RedisBackend::connect(server.url()).await.expect_err("`connect` proves the connection");
    let backend = RedisBackend::connect_lazy(server.url()).await.unwrap();
    let builder = TieredCache::<u64, u64>::builder().namespace("rows").l1(MemoryBackend::new(10)).l2(backend);
    let cache = builder.build().unwrap();
    let refused = cache.get(&1).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Backend);
    assert!(format!("{refused:?}").contains("refused"), "the cause: {refused:?}");
    assert_eq!(*cache.get_or_load(&1, || async { Ok::<_, std::io::Error>(1) }).await.unwrap(), 1);

    server.restart(Data::Drop);
    tokio::time::timeout(Duration::from_secs(60), cache.ready()).await.expect("in time").unwrap();
    cache.insert(&1, 2).await.unwrap();
    assert_eq!(cache.get(&1).await.unwrap().as_deref(), Some(&2));
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_server_is_there_it_is_connected_at_once() {
    let server = RedisServer::start();
    let backend = RedisBackend::builder().url(server.url()).connect_lazy().await.unwrap();
    let node = Node::unsubscribed(backend, "ns", RECORD);
    node.store(&key("k"), b"v").await;
    node.heard.heard(&BusEvent::Subscribed).await;
}

/// With one thread no event is sent before the subscription.
#[tokio::test]
async fn what_settings_alone_can_mend_is_told_by_the_cache() {
    let server = RedisServer::with_password("right");
    let url = format!("redis://:wrong@127.0.0.1:{}", server.port());
    let backend = RedisBackend::connect_lazy(url).await.unwrap();
    let builder = TieredCache::<u64, u64>::builder().namespace("rows").l1(MemoryBackend::new(10)).l2(backend);
    let cache = builder.build().unwrap();
    let mut events = cache.subscribe();
    let ready = tokio::time::timeout(Duration::from_secs(60), cache.ready()).await.expect("in time");
    let refused = ready.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Config, "{refused}");
    assert!(refused.to_string().to_lowercase().contains("password"), "{refused}");
    assert!(cache.stats().l2_refused);
    while events.next().await.unwrap() != (Event::L2Refused { what: Refused::Serving }) {}
}

#[tokio::test]
async fn settings_that_are_wrong_by_themselves_are_refused() {
    let error = RedisBackend::connect_lazy("http://127.0.0.1").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    let builder = RedisBackend::builder().url("redis://127.0.0.1").connections(0);
    assert_eq!(builder.connect_lazy().await.unwrap_err().kind(), ErrorKind::Config);
}

/// 1. The password is changed.
/// 2. Two connections are closed. That is their error.
/// 3. Attempts to make new connections fail because of the password.
#[tokio::test(flavor = "multi_thread")]
async fn an_outage_has_the_cause_of_the_newest_attempt() {
    let server = RedisServer::with_password("old");
    let node = Node::on(&server).await;
    let mut admin = server.connection().unwrap();
    redis::cmd("CONFIG").arg("SET").arg("requirepass").arg("new").exec(&mut admin).unwrap();
    redis::cmd("CLIENT").arg("KILL").arg("TYPE").arg("normal").exec(&mut admin).unwrap();
    let (mut known, start) = (0, std::time::Instant::now());
    while known < 200 {
        let error = node.region.read_one(&key("k"), Check::Plain).await.unwrap_err();
        let text = format!("{error:?}").to_lowercase();
        let told = text.contains("password") || text.contains("wrongpass");
        assert!(told || known == 0, "forgotten after {known} answers: {text}");
        assert!(told || start.elapsed() < Duration::from_secs(60), "never told: {text}");
        known += usize::from(told);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// If half of the commands went to each server, each would start new epochs again and again.
#[tokio::test(flavor = "multi_thread")]
async fn connections_to_a_server_that_was_replaced_are_left() {
    let (old, new) = (RedisServer::start(), RedisServer::start());
    let proxy = integration_tests::Proxy::start(old.port()).await;
    let node = Node::of(RedisBackend::connect(old.url_at(proxy.port())).await.unwrap()).await;
    let normal = |server: &RedisServer| {
        let list = server.cli::<String>(&["CLIENT", "LIST", "TYPE", "normal"]);
        let id = |line: &str| line.split(' ').find_map(|field| field.strip_prefix("id=")).map(str::to_owned);
        list.lines().filter(|line| !line.contains("cmd=client")).filter_map(id).collect::<Vec<String>>()
    };
    let both =
        eventually("two connections for commands", || Some(normal(&old)).filter(|ids| ids.len() == 2)).await;
    proxy.lead_new_to(new.port());
    old.cli::<()>(&["CLIENT", "KILL", "ID", &both[0]]);
    eventually("both lead to the new one", || (normal(&new).len() == 2).then_some(())).await;
    eventually("none leads to the old one", || normal(&old).is_empty().then_some(())).await;
    node.region.state(0).await.unwrap();
}

/// No heartbeat is sent, so no echo is missing. The silence itself must be noticed.
#[tokio::test(flavor = "multi_thread")]
async fn a_silent_subscriber_is_asked_although_nothing_is_owed() {
    let server = RedisServer::start();
    let proxy = integration_tests::Proxy::start(server.port()).await;
    let node = Node::of(RedisBackend::connect(server.url_at(proxy.port())).await.unwrap()).await;
    proxy.freeze_subscribers();
    node.heard.heard(&BusEvent::Lost).await;
}

/// The deadline of the pool must not be shorter than that of the backend.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_server_is_waited_for_behind_a_pool_of_the_callers() {
    let server = RedisServer::start();
    let proxy = integration_tests::Proxy::start(server.port()).await;
    let url = server.url_at(proxy.port());
    let config = deadpool_redis::Config::from_url(&url);
    let pool = config.builder().unwrap().runtime(deadpool_redis::Runtime::Tokio1).build().unwrap();
    let client = redis::Client::open(url).unwrap();
    let long = Duration::from_secs(60);
    let builder = RedisBackend::builder().pool(pool, client).connections(1).command_timeout(long);
    let node = Node::unsubscribed(builder.connect_timeout(long).connect().await.unwrap(), "ns", RECORD);
    let delay = Duration::from_millis(800);
    for route in integration_tests::Route::ALL {
        proxy.set(route, integration_tests::Conditions { delay, ..Default::default() });
    }
    node.region.state(0).await.unwrap();
}
