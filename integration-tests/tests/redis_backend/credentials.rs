//! Credentials that the caller's function gives, at each connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_cache_core::backend::BusEvent;
use async_cache_core::{BoxError, ErrorKind};
use async_cache_redis::{Credentials, RedisBackend, RedisBackendBuilder};
use integration_tests::{RedisServer, eventually};

use crate::rig::{Node, RECORD, key};

/// A server with the user `app`, whose password is `secret`.
fn server() -> RedisServer {
    let server = RedisServer::start();
    server.set_user("app", "~* &* +@all");
    server
}

fn builder(server: &RedisServer) -> RedisBackendBuilder {
    RedisBackend::builder().url(format!("redis://127.0.0.1:{}", server.port()))
}

fn logged_in(server: &RedisServer) -> usize {
    let list = server.cli::<String>(&["CLIENT", "LIST"]);
    list.lines().filter(|line| line.contains("user=app ")).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_are_asked_for_at_each_connection() {
    let server = server();
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    let provider = move || {
        counter.fetch_add(1, Ordering::SeqCst);
        async { Ok(Credentials::new("app", "secret")) }
    };
    let node = Node::of(builder(&server).credentials(provider).connect().await.unwrap()).await;
    eventually("two connections for commands and one for messages", || {
        (logged_in(&server) == 3).then_some(())
    })
    .await;
    assert_eq!(asked.load(Ordering::SeqCst), 3);

    node.heard.forget();
    for kind in ["normal", "pubsub"] {
        server.cli::<()>(&["CLIENT", "KILL", "TYPE", kind]);
    }
    node.heard.heard(&BusEvent::Subscribed).await;
    eventually("they are made again", || (logged_in(&server) == 3).then_some(())).await;
    assert!(asked.load(Ordering::SeqCst) >= 6, "each asked again: {asked:?}");
    node.store(&key("k"), b"v").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_of_the_default_user_needs_no_name() {
    let server = RedisServer::with_password("secret");
    let provider = || async { Ok(Credentials::new("", "secret")) };
    let node = Node::of(builder(&server).credentials(provider).connect().await.unwrap()).await;
    node.store(&key("k"), b"v").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_credentials_are_a_configuration_error_and_are_never_shown() {
    let server = server();
    let provider = || async { Ok(Credentials::new("app", "wrong-horse")) };
    let refused = builder(&server).credentials(provider).connect().await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Config, "{refused:?}");
    assert!(refused.to_string().contains("wrong user name or password"), "{refused}");
    let shown = format!("{refused:?} {:?}", builder(&server).credentials(provider));
    assert!(!shown.contains("horse"), "{shown}");
    let shown = format!("{:?}", Credentials::new("app", "wrong-horse"));
    assert!(shown.contains("app") && !shown.contains("horse"), "{shown}");
}

/// Token services like to quote what they were sent.
#[tokio::test(flavor = "multi_thread")]
async fn an_error_of_the_provider_is_told_without_the_secrets_it_gave() {
    let server = server();
    let asked = AtomicUsize::new(0);
    let provider = move || {
        let first = asked.fetch_add(1, Ordering::SeqCst) == 0;
        async move {
            let error = || BoxError::from("the token service refused secret-token");
            if first { Ok(Credentials::new("app", "secret-token")) } else { Err(error()) }
        }
    };
    let backend = builder(&server).connections(1).credentials(provider).connect_lazy().await.unwrap();
    let node = Node::unsubscribed(backend, "ns", RECORD);
    let text = told(&node, "the token service refused ***").await;
    assert!(text.contains("asking the credentials provider"), "{text}");
    assert!(!text.contains("secret-token"), "{text}");
}

/// The error of an operation, once it says this.
async fn told(node: &Node, what: &str) -> String {
    let start = std::time::Instant::now();
    loop {
        let error = node.region.baseline(0, None).await.unwrap_err();
        let text = format!("{error:?}");
        if text.contains(what) {
            return text;
        }
        assert!(start.elapsed() < Duration::from_secs(60), "never told: {text}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_fails_hangs_or_panics_is_told_in_time() {
    let server = server();
    let limit = Duration::from_millis(100);
    let start = || builder(&server).credentials_timeout(limit);
    let failing = start().credentials(|| async { Err("no token".into()) });
    let hanging = start().credentials(std::future::pending);
    let panicking = start().credentials(|| async { panic!("no token") });
    let panicking_at_once = start().credentials(|| -> std::future::Ready<_> { panic!("no token") });
    for (builder, what) in [
        (failing, "it failed: no token"),
        (hanging, "it gave nothing within 100ms"),
        (panicking, "it panicked"),
        (panicking_at_once, "it panicked"),
    ] {
        let attempt = tokio::time::timeout(Duration::from_secs(30), builder.connect());
        let error = attempt.await.unwrap_or_else(|_| panic!("{what}: it hangs")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Backend, "{error:?}");
        let text = error.to_string();
        assert!(text.contains(&format!("asking the credentials provider: {what}")), "{what}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_recovers_is_asked_again() {
    let server = server();
    let asked = AtomicUsize::new(0);
    let provider = move || {
        let number = asked.fetch_add(1, Ordering::SeqCst);
        async move {
            match number {
                0 => Err("the token service is away".into()),
                1 => panic!("the token service talks nonsense"),
                _ => Ok(Credentials::new("app", "secret")),
            }
        }
    };
    let backend = builder(&server).credentials(provider).connect_lazy().await.unwrap();
    let node = Node::of(backend).await;
    let start = std::time::Instant::now();
    while let Err(error) = node.region.baseline(0, None).await {
        assert!(start.elapsed() < Duration::from_secs(60), "it is not asked again: {error:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_may_take_longer_than_a_connection() {
    let server = server();
    let provider = || async {
        tokio::time::sleep(Duration::from_millis(2500)).await;
        Ok(Credentials::new("app", "secret"))
    };
    let builder = builder(&server).connect_timeout(Duration::from_secs(2)).credentials(provider);
    builder.credentials_timeout(Duration::from_secs(30)).connect().await.unwrap();
}

#[tokio::test]
async fn credentials_are_given_once() {
    let provider = || async { Ok(Credentials::new("app", "secret")) };
    for url in ["redis://:hunter2@127.0.0.1", "redis://app:hunter2@127.0.0.1", "redis://app@127.0.0.1"] {
        let builder = RedisBackend::builder().url(url).credentials(provider);
        let error = builder.connect_lazy().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{error:?}");
        assert!(error.to_string().contains("`credentials`"), "{error}");
    }
    let url = "redis://127.0.0.1";
    let pool = deadpool_redis::Config::from_url(url);
    let pool = pool.builder().unwrap().runtime(deadpool_redis::Runtime::Tokio1).build().unwrap();
    let builder = RedisBackend::builder().pool(pool, redis::Client::open(url).unwrap()).credentials(provider);
    let error = builder.connect_lazy().await.unwrap_err();
    assert!(error.to_string().contains("a pool of your own"), "{error}");
    let builder = RedisBackend::builder().url(url).credentials_timeout(Duration::ZERO);
    assert_eq!(builder.connect_lazy().await.unwrap_err().kind(), ErrorKind::Config);
}
