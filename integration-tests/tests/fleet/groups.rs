//! Tags that entries of several caches share.

use std::time::Duration;

use async_cache::testing::{No, until};
use async_cache::{CacheGroup, CacheKey, ErrorKind, MemoryBackend, RedisBackend, Stamp, TieredCache};
use integration_tests::server::RedisServer;

/// The caches of one process, on one handle of Redis.
struct Process {
    users: TieredCache<u64, String>,
    teams: TieredCache<String, u32>,
    group: CacheGroup,
}

impl Process {
    async fn on(server: &RedisServer) -> Self {
        let redis = RedisBackend::connect(server.url()).await.expect("the server answers");
        let users = TieredCache::builder().namespace("users").l1(MemoryBackend::new(100)).l2(redis.clone());
        let teams = TieredCache::builder().namespace("teams").l1(MemoryBackend::new(100)).l2(redis);
        // `expire` leaves fallbacks.
        let stale_for = Duration::from_secs(600);
        let users = users.stale_for(stale_for).build().unwrap();
        let teams = teams.stale_for(stale_for).build().unwrap();
        until("both serve", || users.is_serving() && teams.is_serving()).await;
        let group = CacheGroup::new().with(&users).with(&teams);
        Self { users, teams, group }
    }

    async fn fill(&self) {
        self.users.insert(&1, "Ada".to_owned()).tag("team:9").await.unwrap();
        self.users.insert(&2, "Eve".to_owned()).tag("team:8").await.unwrap();
        self.teams.insert("nine", 9).tag("team:9").await.unwrap();
    }

    async fn held(&self) -> [bool; 3] {
        let (one, two) = (held(&self.users, &1).await, held(&self.users, &2).await);
        [one, two, held(&self.teams, "nine").await]
    }
}

async fn held<K, V, Q>(cache: &TieredCache<K, V>, key: &Q) -> bool
where
    K: CacheKey + std::borrow::Borrow<Q>,
    V: Send + Sync + 'static,
    Q: CacheKey + ?Sized,
{
    cache.get(key).await.unwrap().is_some()
}

/// One call changes the entries of all caches, on every node, and the others stay.
#[tokio::test]
async fn one_call_reaches_every_cache_on_every_node() {
    let server = RedisServer::start();
    let (here, there) = (Process::on(&server).await, Process::on(&server).await);
    assert_eq!(format!("{:?}", here.group), r#"["users", "teams"]"#);

    here.fill().await;
    assert_eq!(there.held().await, [true; 3]);
    let report = here.group.invalidate_tag("team:9").await;
    let namespaces: Vec<_> = report.stamps.iter().map(Stamp::namespace).collect();
    assert_eq!((namespaces, report.failed.len()), (vec!["users", "teams"], 0));
    assert_eq!(here.held().await, [false, true, false], "read your writes");
    let (of_users, of_teams) = (report.stamp("users").unwrap(), report.stamp("teams").unwrap());
    assert_eq!(there.users.get(&1).at_least(of_users).await.unwrap(), None);
    assert_eq!(there.teams.get("nine").at_least(of_teams).await.unwrap(), None);
    until("the other process has heard all changes", || {
        let (users, teams) = (there.users.stats(), there.teams.stats());
        (users.invalidations_received, teams.invalidations_received) == (3, 2)
    })
    .await;
    assert_eq!(there.held().await, [false, true, false]);
    assert!(report.stamp("others").is_none() && report.into_result().unwrap().len() == 2);

    here.fill().await;
    let stamps = here.group.invalidate_tags(["team:8", "team:9"]).await.into_result().unwrap();
    assert_eq!(there.users.get(&2).at_least(&stamps[0]).await.unwrap(), None);
    assert_eq!(here.held().await, [false; 3]);

    here.fill().await;
    here.group.expire_tag("team:9").await.into_result().unwrap();
    assert_eq!(here.held().await, [false, true, false]);
    let failing = || async { Err::<String, _>(No(0)) };
    assert_eq!(*here.users.get_or_load(&1, failing).await.unwrap(), "Ada", "a fallback");

    here.fill().await;
    here.group.invalidate_all().await.into_result().unwrap();
    assert_eq!(here.held().await, [false; 3]);
}

/// A failure in one cache neither stops the others nor gets lost. That cache repairs it as after its own call.
#[tokio::test]
async fn a_cache_that_fails_stops_no_other() {
    let server = RedisServer::start();
    let (here, there) = (Process::on(&server).await, Process::on(&server).await);
    here.fill().await;
    assert_eq!(there.held().await, [true; 3]);
    // Somebody has taken the record of one namespace.
    server.cli::<()>(&["SET", "{teams:0}M", "x"]);
    let report = here.group.invalidate_tag("team:9").await;
    assert_eq!(report.stamps.len(), 1);
    assert_eq!(there.users.get(&1).at_least(report.stamp("users").unwrap()).await.unwrap(), None);
    let [(namespace, error)] = &report.failed[..] else { panic!("one has failed: {report:?}") };
    assert_eq!((&**namespace, error.kind(), error.namespace()), ("teams", ErrorKind::Config, Some("teams")));
    assert!(error.to_string().contains("{teams:0}M"), "{error}");
    assert_eq!(here.teams.stats().pending_invalidations, 1, "it is retried");
    assert_eq!(report.into_result().unwrap_err().namespace(), Some("teams"));

    server.cli::<i64>(&["DEL", "{teams:0}M"]);
    until("it has been sent", || here.teams.stats().pending_invalidations == 0).await;
    assert!(!held(&here.teams, "nine").await);
}

/// An invalid tag is sent to nobody.
#[tokio::test]
async fn an_invalid_tag_fails_in_every_cache() {
    let server = RedisServer::start();
    let here = Process::on(&server).await;
    here.fill().await;
    let report = here.group.invalidate_tags(["team:9", ""]).await;
    let failed: Vec<_> =
        report.failed.iter().map(|(namespace, error)| (&**namespace, error.kind())).collect();
    assert_eq!(failed, [("users", ErrorKind::Config), ("teams", ErrorKind::Config)]);
    assert_eq!((report.stamps.len(), here.held().await), (0, [true; 3]));
    assert!(CacheGroup::new().invalidate_all().await.into_result().unwrap().is_empty());
}
