//! Faults that only a change of settings can remedy, in a backend that was built anyway. The caches report the
//! fault, and try again.

use std::time::Duration;

use async_cache_core::{Error, ErrorKind, Event, Refused, TieredCache};
use async_cache_memory::MemoryBackend;
use async_cache_redis::RedisBackend;
use futures_util::StreamExt;
use integration_tests::stub::{Stub, info};
use integration_tests::{Proxy, RedisServer, eventually};

const AT_LAST: Duration = Duration::from_secs(60);

fn cache(backend: RedisBackend) -> TieredCache<u64, u64> {
    TieredCache::builder().namespace("rows").l1(MemoryBackend::new(10)).l2(backend).build().unwrap()
}

/// The error must name the remedy, and contain no secret.
fn says(error: &Error, remedy: &str) {
    let text = format!("{error} {error:?}").to_lowercase();
    assert_eq!(error.kind(), ErrorKind::Config, "{remedy}: {text}");
    assert!(error.to_string().to_lowercase().contains(remedy), "{remedy}: {text}");
    assert!(error.to_string().contains("127.0.0.1"), "{remedy}: {text}");
    assert!(!text.contains("hunter2"), "{remedy}: {text}");
    assert_eq!(error.namespace(), Some("rows"), "{remedy}: {text}");
}

/// Checks that a cache on this backend reports the fault in every possible way. With one thread no event is
/// sent before the subscription.
async fn told_by(backend: RedisBackend, remedy: &str) -> TieredCache<u64, u64> {
    let cache = cache(backend);
    let mut events = cache.subscribe();
    says(&cache.get(&1).await.unwrap_err(), remedy);
    says(&cache.insert(&1, 1).await.unwrap_err(), remedy);
    says(&cache.get_many(&[1, 2]).await.unwrap_err(), remedy);
    let loaded = cache.get_or_load(&2, || async { Ok::<_, std::io::Error>(2) }).await;
    assert_eq!(*loaded.unwrap(), 2, "{remedy}: lookups are answered");
    let ready = tokio::time::timeout(AT_LAST, cache.ready()).await;
    says(&ready.unwrap_or_else(|_| panic!("{remedy}: `ready` waits")).unwrap_err(), remedy);
    assert!(cache.stats().l2_refused, "{remedy}");
    let told =
        async { while events.next().await.unwrap() != (Event::L2Refused { what: Refused::Serving }) {} };
    tokio::time::timeout(AT_LAST, told).await.unwrap_or_else(|_| panic!("{remedy}: no event"));
    cache
}

async fn told(url: &str, remedy: &str) -> TieredCache<u64, u64> {
    told_by(RedisBackend::connect_lazy(url).await.unwrap(), remedy).await
}

async fn taken_up(cache: TieredCache<u64, u64>) {
    eventually("it serves", || (cache.is_serving() && !cache.stats().l2_refused).then_some(())).await;
    tokio::time::timeout(AT_LAST, cache.ready()).await.expect("in time").unwrap();
    cache.insert(&1, 3).await.unwrap();
    assert_eq!(cache.get(&1).await.unwrap().as_deref(), Some(&3));
}

#[tokio::test]
async fn a_database_that_there_is_not_is_told_and_taken_up_once_there_is() {
    let few = RedisServer::with_arguments(&["--databases", "2"]);
    let many = RedisServer::start();
    let proxy = Proxy::start(few.port()).await;
    let cache = told(&format!("redis://127.0.0.1:{}/5", proxy.port()), "no database of this number").await;
    proxy.lead_new_to(many.port());
    taken_up(cache).await;
}

#[tokio::test]
async fn a_wrong_password_or_an_unknown_user_is_told_and_taken_up_once_it_is_known() {
    let server = RedisServer::with_password("right");
    for (login, remedy) in [
        ("", "none was given"),
        (":hunter2@", "wrong user name or password"),
        ("nobody:hunter2@", "wrong user name or password"),
    ] {
        told(&format!("redis://{login}127.0.0.1:{}", server.port()), remedy).await;
    }
    let cache = told(&format!("redis://nobody:hunter2@127.0.0.1:{}", server.port()), "user name").await;
    server.cli::<()>(&["ACL", "SETUSER", "nobody", "on", ">hunter2", "~*", "&*", "+@all"]);
    taken_up(cache).await;
}

#[tokio::test]
async fn a_password_for_a_server_that_has_none_is_told_and_taken_up_once_it_has() {
    let server = RedisServer::start();
    let cache = told(
        &format!("redis://:hunter2@127.0.0.1:{}", server.port()),
        "one given where the server has none: leave it out",
    )
    .await;
    server.cli::<()>(&["CONFIG", "SET", "requirepass", "hunter2"]);
    taken_up(cache).await;
}

/// If the word were blanked in a known message, the gap would reveal it.
#[tokio::test]
async fn a_password_that_is_a_common_word_is_not_told_by_a_gap() {
    let server = RedisServer::with_password("right");
    for password in ["user", "wrong", "password", "name", "disabled"] {
        let url = format!("redis://:{password}@127.0.0.1:{}", server.port());
        let lazy = cache(RedisBackend::connect_lazy(&*url).await.unwrap());
        let ready = tokio::time::timeout(AT_LAST, lazy.ready()).await.expect("`ready` does not wait");
        let text = format!("{:#}", ready.unwrap_err());
        assert!(text.contains("wrong user name or password") && !text.contains("***"), "{text}");
        let text = format!("{:#}", RedisBackend::connect(&*url).await.unwrap_err());
        assert!(text.contains("wrong user name or password") && !text.contains("***"), "{text}");
    }
}

#[tokio::test]
async fn a_user_who_may_not_change_the_database_is_told() {
    let server = RedisServer::start();
    server.cli::<()>(&["ACL", "SETUSER", "app", "on", ">hunter2", "~*", "&*", "+@all", "-select"]);
    let cache = told(&format!("redis://app:hunter2@127.0.0.1:{}/1", server.port()), "+select").await;
    server.cli::<()>(&["ACL", "SETUSER", "app", "+select"]);
    taken_up(cache).await;
}

#[tokio::test]
async fn a_replica_is_told_and_taken_up_once_it_is_a_master() {
    let (master, replica) = (RedisServer::start(), RedisServer::start());
    replica.cli::<()>(&["REPLICAOF", "127.0.0.1", &master.port().to_string()]);
    let cache = told(&replica.url(), "replica").await;
    replica.cli::<()>(&["REPLICAOF", "NO", "ONE"]);
    taken_up(cache).await;
}

#[tokio::test]
async fn a_command_that_is_renamed_is_told() {
    let server = RedisServer::with_arguments(&["--rename-command", "EVALSHA", "hunter2"]);
    told(&server.url(), "evalsha").await;
}

#[tokio::test]
async fn whatever_a_server_refuses_for_good_is_told() {
    let refuses = |command: &'static str, answer: &'static str| {
        Stub::start(move |words| (words[0] == command).then(|| answer.to_owned()))
    };
    let sentinel = Stub::start(|words| (words[0] == "INFO").then(|| info("redis_mode:sentinel\r\nrun_id:x")));
    for (stub, remedy) in [
        (sentinel.await, "sentinel"),
        (refuses("PING", "-DENIED Redis is running in protected mode\r\n").await, "protected mode"),
        (refuses("PING", "-NOAUTH Authentication required.\r\n").await, "password"),
        (
            refuses("PING", "-NOPERM this user has no permissions to run the 'ping' command\r\n").await,
            "+ping",
        ),
        (refuses("CLIENT", "HTTP/1.1 400 Bad Request\r\n\r\n").await, "does not speak redis"),
        (
            refuses("INFO", "-ERR unknown command 'INFO', with args beginning with: 'hunter2'\r\n").await,
            "info",
        ),
    ] {
        told(&stub.url(), remedy).await;
    }
    let old = refuses("HELLO", "-ERR unknown command 'HELLO'\r\n").await;
    let resp3 = format!("{}?protocol=resp3", old.url());
    told(&resp3, "does not know the command hello").await;
}

/// Commands succeed. Only the subscriber's connection has wrong settings.
#[tokio::test]
async fn a_subscriber_of_the_callers_with_wrong_settings_is_told() {
    let server = RedisServer::with_password("right");
    let pool = deadpool_redis::Config::from_url(server.url());
    let pool = pool.builder().unwrap().runtime(deadpool_redis::Runtime::Tokio1).build().unwrap();
    let client = redis::Client::open(format!("redis://:hunter2@127.0.0.1:{}", server.port())).unwrap();
    let backend = RedisBackend::builder().pool(pool, client).connect_lazy().await.unwrap();
    let cache = cache(backend);
    let ready = tokio::time::timeout(AT_LAST, cache.ready()).await.expect("`ready` does not wait");
    says(&ready.unwrap_err(), "password");
    assert!(cache.stats().l2_refused);
}

/// A server that is busy or has too many clients needs no change of settings.
#[tokio::test]
async fn what_heals_by_itself_is_an_outage() {
    let server = RedisServer::start();
    for answer in
        ["-LOADING Redis is loading the dataset in memory\r\n", "-ERR max number of clients reached\r\n"]
    {
        let stub = Stub::start(|words| (words[0] == "PING").then(|| answer.to_owned())).await;
        let proxy = Proxy::start(stub.port()).await;
        let url = format!("redis://127.0.0.1:{}", proxy.port());
        let cache = cache(RedisBackend::connect_lazy(url).await.unwrap());
        assert_eq!(cache.get(&1).await.unwrap_err().kind(), ErrorKind::Backend);
        assert!(!cache.stats().l2_refused);
        proxy.lead_new_to(server.port());
        let start = std::time::Instant::now();
        while let Err(error) = cache.get(&1).await {
            assert!(start.elapsed() < AT_LAST, "it is not taken up: {error}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}
