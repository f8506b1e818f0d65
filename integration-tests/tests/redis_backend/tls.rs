//! TLS with the server.

use std::time::Duration;

use async_cache_core::backend::BusEvent;
use async_cache_core::{Error, ErrorKind, TieredCache};
use async_cache_memory::MemoryBackend;
use async_cache_redis::{RedisBackend, RedisBackendBuilder, Tls};
use integration_tests::{Data, RedisServer, eventually};
use tokio::net::TcpListener;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};

use crate::certificates::{Authority, TlsServer, Validity};
use crate::rig::{LIFE, Node, frame, key};

fn builder(url: &str, tls: Tls) -> RedisBackendBuilder {
    // Time enough for a machine that has other things to do.
    RedisBackend::builder().url(url).tls(tls).command_timeout(Duration::from_secs(5))
}

async fn connected(url: &str, tls: Tls) -> Node {
    Node::of(builder(url, tls).connect_timeout(Duration::from_secs(10)).connect().await.unwrap()).await
}

/// A node stores, reads and is told of changes.
async fn works(node: &Node) {
    let (_, stored) = node.store(&key("k"), b"v").await;
    assert_eq!(node.read(&key("k")).await, Some(stored));
    let seq = node.region.clear(0).await.unwrap();
    node.heard.heard(&BusEvent::Cleared { partition: 0, seq }).await;
}

/// The error of a connection that must fail for its settings.
async fn refused(url: &str, tls: Tls) -> String {
    let error = builder(url, tls.clone()).connect().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error:?}");
    let lazy = builder(url, tls).connect_lazy().await.unwrap();
    let told = told_by_a_cache(lazy).await;
    assert_eq!(told.kind(), ErrorKind::Config, "{told:?}");
    let (text, told) = (error.to_string(), told.to_string());
    let remedy = text.split_once(": ").map_or(&*text, |(_, remedy)| remedy).trim_start_matches("127.0.0.1:");
    let remedy = remedy.split_once(' ').map_or(remedy, |(_, remedy)| remedy);
    assert!(told.contains(remedy), "a backend built lazily says the same: {told}; not {remedy}");
    text
}

async fn told_by_a_cache(backend: RedisBackend) -> Error {
    let builder = TieredCache::<u64, u64>::builder().namespace("rows").l1(MemoryBackend::new(10)).l2(backend);
    let cache = builder.build().unwrap();
    let ready = tokio::time::timeout(Duration::from_secs(60), cache.ready()).await.expect("it does not wait");
    ready.unwrap_err()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_connection_speaks_tls_if_the_url_asks_for_it() {
    let authority = Authority::new();
    let server = TlsServer::of(&authority);
    for scheme in ["rediss", "valkeys"] {
        let url = format!("{scheme}://127.0.0.1:{}", server.port);
        let node = connected(&url, Tls::new().ca(authority.pem())).await;
        works(&node).await;
        let by_tls = || {
            let list = server.server.cli::<String>(&["CLIENT", "LIST"]);
            list.lines().filter(|line| line.contains(&format!("laddr=127.0.0.1:{} ", server.port))).count()
        };
        eventually("two connections for commands and one for messages", || (by_tls() == 3).then_some(()))
            .await;
        drop(node);
        eventually("they are closed", || (by_tls() == 0).then_some(())).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_by_tls_are_made_again_after_a_restart() {
    let authority = Authority::new();
    let server = TlsServer::of(&authority);
    let node = connected(&server.url(), Tls::new().ca(authority.pem())).await;
    works(&node).await;
    node.heard.forget();
    server.server.restart(Data::Drop);
    node.heard.heard(&BusEvent::Subscribed).await;
    while node.region.state(0).await.is_err() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    works(&node).await;
}

/// A task of ours reads and writes such a connection.
#[tokio::test(flavor = "multi_thread")]
async fn connections_by_tls_to_a_server_that_hangs_are_closed_when_everything_is_dropped() {
    let authority = Authority::new();
    let server = TlsServer::of(&authority);
    let node = connected(&server.url(), Tls::new().ca(authority.pem())).await;
    let later = node.region.state(0).await.unwrap().time_ms + 60_000;
    // More than the buffers of the sockets take: the task waits to write the rest.
    let entry = (key("k"), frame(node.token(), &vec![0; 32 << 20]));
    server.server.pause();
    let region = node.region.clone();
    let put = tokio::spawn(async move { region.put(&[entry], LIFE, later).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    put.abort();
    let _ = put.await;
    drop(node);
    let metrics = tokio::runtime::Handle::current().metrics();
    let closed = eventually("no task is left", || (metrics.num_alive_tasks() == 0).then_some(()));
    // By itself the kernel gives the connection up after 9 s.
    tokio::time::timeout(Duration::from_secs(6), closed).await.expect("the task ends with the connection");
    server.server.resume();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_asks_for_a_client_certificate_is_shown_it() {
    let authority = Authority::new();
    let shown = authority.sign("127.0.0.1", Validity::Now);
    for protocols in ["TLSv1.2", "TLSv1.3"] {
        let further = ["--tls-auth-clients", "yes", "--tls-protocols", protocols];
        let server = TlsServer::start(&authority, &shown, &further);
        let client = authority.sign("client", Validity::Now);
        let tls = Tls::new().ca(authority.pem()).client_cert(&client.certificate, &client.key);
        works(&connected(&server.url(), tls).await).await;

        // The alert may be lost with the connection, so the kind of the error is not certain.
        let without = builder(&server.url(), Tls::new().ca(authority.pem())).connect().await.unwrap_err();
        assert!(without.to_string().contains("client certificate"), "{protocols}: {without:?}");
        assert!(without.to_string().contains("Tls::client_cert"), "{protocols}: {without:?}");

        let stranger = Authority::new().sign("client", Validity::Now);
        let tls = Tls::new().ca(authority.pem()).client_cert(&stranger.certificate, &stranger.key);
        let foreign = builder(&server.url(), tls).connect().await.unwrap_err();
        assert!(foreign.to_string().contains("refuse"), "{protocols}: {foreign:?}");
        assert!(foreign.to_string().contains("the client certificate"), "{protocols}: {foreign:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_for_another_name_is_told_with_its_names() {
    let authority = Authority::new();
    let server = TlsServer::start(&authority, &authority.sign("cache.internal", Validity::Now), &[]);
    let tls = Tls::new().ca(authority.pem());
    let text = refused(&server.url(), tls.clone()).await;
    for part in ["`127.0.0.1`", "cache.internal", "Tls::server_name"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    works(&connected(&server.url(), tls.server_name("cache.internal")).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_an_unknown_authority_is_told() {
    let (authority, other) = (Authority::new(), Authority::named("another"));
    let server = TlsServer::of(&authority);
    // One has the right name, but another key.
    for stranger in [&other, &Authority::new()] {
        let text = refused(&server.url(), Tls::new().ca(stranger.pem())).await;
        assert!(text.contains("authority (CA)") && text.contains("Tls::ca"), "{text}");
    }
    // One of several is enough.
    let both = [other.pem(), authority.pem()].concat();
    works(&connected(&server.url(), Tls::new().ca(both)).await).await;
}

/// The authorities of this machine did not sign it, if there are any.
#[tokio::test(flavor = "multi_thread")]
async fn without_an_authority_of_its_own_a_server_is_not_trusted() {
    let authority = Authority::new();
    let server = TlsServer::of(&authority);
    let error = RedisBackend::connect(server.url()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error:?}");
    assert!(error.to_string().contains("`Tls::ca`"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_is_not_valid_at_this_time_is_told() {
    let authority = Authority::new();
    for (validity, what) in [(Validity::Past, "has expired"), (Validity::Future, "is not valid yet")] {
        let server = TlsServer::start(&authority, &authority.sign("127.0.0.1", validity), &[]);
        let text = refused(&server.url(), Tls::new().ca(authority.pem())).await;
        assert!(text.contains(what) && text.contains("clock"), "{validity:?}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_tls_on_this_port_is_told() {
    let authority = Authority::new();
    for server in [RedisServer::start(), RedisServer::with_password("hunter2")] {
        let url = format!("rediss://127.0.0.1:{}", server.port());
        let text = refused(&url, Tls::new().ca(authority.pem())).await;
        assert!(text.contains("TLS") && text.contains("`redis://`"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_speaks_tls_is_told_to_a_client_that_does_not() {
    let server = TlsServer::of(&Authority::new());
    let url = format!("redis://127.0.0.1:{}", server.port);
    let error = RedisBackend::connect(&url).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error:?}");
    assert!(error.to_string().contains("`rediss://`"), "{error}");
    let told = told_by_a_cache(RedisBackend::connect_lazy(&url).await.unwrap()).await;
    assert!(told.to_string().contains("`rediss://`"), "{told}");
}

/// A peer that takes the connection and says nothing may be a server that hangs.
#[tokio::test]
async fn a_peer_that_does_not_answer_to_tls_is_an_outage() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("rediss://{}", listener.local_addr().unwrap());
    let silent = tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((socket, _)) = listener.accept().await {
            held.push(socket);
        }
    });
    let limit = Duration::from_millis(200);
    let attempt = builder(&url, Tls::new().ca(Authority::new().pem())).connect_timeout(limit).connect();
    let error = tokio::time::timeout(Duration::from_secs(60), attempt).await.expect("in time").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Backend, "{error:?}");
    assert!(error.to_string().contains("did not answer"), "{error}");
    silent.abort();
}

#[tokio::test]
async fn certificates_and_keys_that_are_none_are_told_by_their_setting() {
    let authority = Authority::new();
    let (one, other) = (authority.sign("a", Validity::Now), authority.sign("b", Validity::Now));
    let secret = one.key.lines().nth(1).expect("a line of the key").to_owned();
    for (tls, setting) in [
        (Tls::new().ca("no certificate"), "`ca`"),
        (Tls::new().ca(authority.pem()).client_cert("none", &one.key), "`client_cert`"),
        (Tls::new().ca(authority.pem()).client_cert(&one.certificate, "none"), "private key"),
        (Tls::new().ca(authority.pem()).client_cert(&one.certificate, &other.key), "do not fit"),
        (Tls::new().ca(authority.pem()).server_name("no name"), "`no name`"),
    ] {
        let error = builder("rediss://127.0.0.1", tls.clone()).connect_lazy().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{error:?}");
        assert!(error.to_string().contains(setting), "{setting}: {error}");
        assert!(!format!("{tls:?} {error:?}").contains(&secret), "{error:?}");
    }
    let error = builder("redis://127.0.0.1", Tls::new()).connect_lazy().await.unwrap_err();
    assert!(error.to_string().contains("`rediss://`"), "{error}");
    let error = RedisBackend::connect_lazy("rediss://127.0.0.1/#insecure").await.unwrap_err();
    assert!(error.to_string().contains("Tls::ca"), "{error}");
}

/// The only test here that installs a provider: it is one for the whole process.
#[tokio::test(flavor = "multi_thread")]
async fn the_crypto_provider_of_the_process_is_neither_used_nor_set() {
    let authority = Authority::new();
    let server = TlsServer::of(&authority);
    let tls = Tls::new().ca(authority.pem());
    works(&connected(&server.url(), tls.clone()).await).await;
    assert!(CryptoProvider::get_default().is_none(), "none was installed");

    // With this one, no TLS connection can be made.
    let broken = CryptoProvider { cipher_suites: Vec::new(), ..ring::default_provider() };
    broken.install_default().expect("it is the first");
    works(&connected(&server.url(), tls).await).await;
}
