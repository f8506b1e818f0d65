//! The password of the caches' user is changed under load.

use std::sync::Arc;

use async_cache::testing::{ms, until};
use async_cache::{Credentials, MemoryBackend, RedisBackend, TieredCache};
use integration_tests::fleet::Cache;
use integration_tests::traffic::Traffic;
use integration_tests::{RedisServer, eventually};
use parking_lot::Mutex;

/// What the provider gives.
type Vault = Arc<Mutex<String>>;

async fn node(server: &RedisServer, vault: &Vault) -> Cache {
    let vault = Arc::clone(vault);
    let provider = move || {
        let password = vault.lock().clone();
        async { Ok(Credentials::new("app", password)) }
    };
    let url = format!("redis://127.0.0.1:{}", server.port());
    let backend = RedisBackend::builder().url(url).credentials(provider).connect().await.unwrap();
    let cache = TieredCache::builder().namespace("rows").l1(MemoryBackend::new(1000)).l2(backend);
    let cache = cache.lease_ttl(ms(500)).build().unwrap();
    until("the node serves", || cache.is_serving()).await;
    cache
}

/// Connections of the user, of one kind.
fn connected(server: &RedisServer, kind: &str) -> usize {
    let list = server.cli::<String>(&["CLIENT", "LIST", "TYPE", kind]);
    list.lines().filter(|line| line.contains("user=app ")).count()
}

/// 1. the password is changed; 2. every connection is killed, so that attempts are made with the old password;
/// 3. the provider learns the new one.
#[tokio::test(flavor = "multi_thread")]
async fn a_password_that_changes_under_load_loses_nothing() {
    let server = RedisServer::start();
    server.cli::<()>(&["ACL", "SETUSER", "app", "on", ">password-0", "~*", "&*", "+@all"]);
    let vault: Vault = Arc::new(Mutex::new("password-0".to_owned()));
    let nodes = [node(&server, &vault).await, node(&server, &vault).await];
    let traffic = Traffic::start(&nodes, ms(2));
    for number in 1..=3 {
        traffic.goes_on(100, 10).await;
        let password = format!("password-{number}");
        server.cli::<()>(&["ACL", "SETUSER", "app", "resetpass", &format!(">{password}")]);
        for kind in ["normal", "pubsub"] {
            server.cli::<()>(&["CLIENT", "KILL", "TYPE", kind]);
        }
        let refused = || server.cli::<Vec<redis::Value>>(&["ACL", "LOG"]);
        eventually("the old password is refused", || (!refused().is_empty()).then_some(())).await;
        *vault.lock() = password;
        eventually("every connection is made again", || {
            ((connected(&server, "normal"), connected(&server, "pubsub")) == (4, 2)).then_some(())
        })
        .await;
        server.cli::<()>(&["ACL", "LOG", "RESET"]);
    }
    traffic.goes_on(100, 10).await;
    let report = traffic.finish().await;
    println!("{report:?}");
    assert!(report.stale.is_empty(), "{report:?}");
    assert_eq!(report.read_errors, 0, "lookups are answered meanwhile: {report:?}");
}
