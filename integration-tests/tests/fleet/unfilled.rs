//! A load whose fill does not reach L2, although its node is healthy: its connections are lost as the load ends, or its
//! user may not write for a moment. Nobody renews its lease any more, and the other nodes must not wait until it expires.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_cache::testing::{No, Source, until};
use async_cache::{MemoryBackend, RedisBackend, Source as From, TieredCache, TieredCacheBuilder};
use integration_tests::fleet::{Cache, Fleet};
use integration_tests::{Conditions, Flow, Proxy, RedisServer, Route, eventually};
use tokio::time::timeout;

/// The duration of the leases, and how long a node waits for one.
const LEASE: Duration = Duration::from_secs(120);

/// A wait below this is not a wait for the end of the lease. A busy machine takes far less.
const SOON: Duration = Duration::from_secs(30);

fn patient(builder: TieredCacheBuilder<String, u64>) -> TieredCacheBuilder<String, u64> {
    builder.lease_ttl(LEASE).wait_timeout(LEASE)
}

/// How the node loads the key.
#[derive(Clone, Copy)]
enum Load {
    Single,
    Batch,
    Refresh,
}

impl Load {
    async fn perform(self, node: &Cache, source: Source) -> u64 {
        match self {
            Self::Single => *node.get_or_load("k1", move || source.held()).await.unwrap(),
            Self::Refresh => *node.refresh("k1", move || source.held()).await.unwrap(),
            Self::Batch => {
                let load = |missing: Vec<String>| async move {
                    let version = source.held().await?;
                    let rows = missing.into_iter().map(|key| (key, version));
                    Ok::<HashMap<String, u64>, No>(rows.collect())
                };
                let found = node.get_many_or_load(["k0", "k1", "k2"], load).await.unwrap();
                *found[1].clone().unwrap()
            }
        }
    }
}

/// What keeps the fill from L2.
enum Fault {
    /// The connections are closed, and none can be made for a moment.
    Closed(Arc<Proxy>),
    /// The connections are silent, so that the outcome of the fill is unknown. Then they are closed.
    Silent(Arc<Proxy>),
    /// The user may not run scripts for a moment.
    Forbidden(Arc<RedisServer>),
}

impl Fault {
    fn begin(&self) {
        match self {
            Self::Closed(proxy) => {
                proxy.set(Route::Commands, Conditions { flow: Flow::Refused, ..Conditions::default() });
                proxy.cut(Route::Commands);
            }
            Self::Silent(proxy) => {
                proxy.set(Route::Commands, Conditions { flow: Flow::Lost, ..Conditions::default() });
            }
            Self::Forbidden(server) => server.set_user("app", "-evalsha"),
        }
    }

    fn end(&self) {
        match self {
            Self::Closed(proxy) => proxy.clear(),
            Self::Silent(proxy) => {
                proxy.clear();
                proxy.cut(Route::Commands);
            }
            Self::Forbidden(server) => server.set_user("app", "+evalsha"),
        }
    }
}

/// One node loads, and another one waits for it. The fill meets the fault.
async fn meets(fleet: &Fleet, loading: &Cache, load: Load, fault: Fault) {
    let waiting = fleet.node_with(patient).await;
    let (source, other) = (Source::new(), Source::new());
    let call = tokio::spawn({
        let (node, source) = (loading.clone(), source.clone());
        async move { load.perform(&node, source).await }
    });
    source.begun(1).await;
    let waits = tokio::spawn({
        let (node, source) = (waiting.clone(), other.clone());
        async move { node.get_or_load("k1", move || source.now()).traced().await.unwrap() }
    });
    until("the other node waits for the lease", || waiting.stats().lease_waits == 1).await;

    fault.begin();
    source.let_go(1);
    assert_eq!(call.await.unwrap(), 1, "the callers of the load get its value");
    assert!(loading.stats().fills_rejected > 0, "the fill has failed");
    until("the lease could not be returned, either", || loading.stats().l2_errors >= 2).await;
    fault.end();

    let found = timeout(SOON, waits).await.expect("it does not wait for the end of the lease").unwrap();
    assert_eq!((*found.value, found.source), (1, From::Load));
    assert_eq!((source.loads(), other.loads()), (1, 1), "one more load for the fill that was lost");
    // The keys of the batch that nobody asked for are free, too.
    let none_left = || fleet.server().cli::<Vec<String>>(&["KEYS", "{rows:0}L:*"]).is_empty();
    eventually("no lease is left", || none_left().then_some(())).await;
}

async fn through_a_proxy(load: Load, fault: fn(Arc<Proxy>) -> Fault) {
    let fleet = Fleet::redis();
    let proxy = Arc::new(Proxy::start(fleet.server().port()).await);
    let loading = fleet.node_through(&proxy, patient).await;
    meets(&fleet, &loading, load, fault(proxy)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lease_of_a_fill_lost_with_its_connection_is_returned() {
    through_a_proxy(Load::Single, Fault::Closed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leases_of_a_batch_lost_with_its_connection_are_returned() {
    through_a_proxy(Load::Batch, Fault::Closed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lease_of_a_refresh_lost_with_its_connection_is_returned() {
    through_a_proxy(Load::Refresh, Fault::Closed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lease_of_a_fill_of_unknown_outcome_is_returned() {
    through_a_proxy(Load::Single, Fault::Silent).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leases_of_a_batch_of_unknown_outcome_are_returned() {
    through_a_proxy(Load::Batch, Fault::Silent).await;
}

async fn without_rights(load: Load) {
    let server = Arc::new(RedisServer::start());
    let fleet = Fleet::on(Arc::clone(&server));
    server.set_user("app", "~* &* +@all");
    let backend = RedisBackend::connect(server.url_as("app")).await.unwrap();
    let builder = TieredCache::builder().namespace("rows").l1(MemoryBackend::new(1000)).l2(backend);
    let loading = patient(builder).build().unwrap();
    until("it serves", || loading.is_serving()).await;
    meets(&fleet, &loading, load, Fault::Forbidden(server)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lease_is_returned_once_the_user_may_do_so_again() {
    without_rights(Load::Single).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leases_of_a_batch_are_returned_once_the_user_may_do_so_again() {
    without_rights(Load::Batch).await;
}

/// The server executes the request for a lease, but its answer is lost with the connection. So no node knows of the
/// lease.
#[tokio::test(flavor = "multi_thread")]
async fn a_lease_whose_grant_was_lost_with_the_connection_is_returned() {
    let fleet = Fleet::redis();
    let proxy = Proxy::start(fleet.server().port()).await;
    let builder = RedisBackend::builder().url(fleet.server().url_at(proxy.port())).command_timeout(LEASE);
    let backend = builder.connect().await.unwrap();
    let asking: Cache = patient(TieredCache::builder().namespace("rows").l2(backend)).build().unwrap();
    asking.ready().await.unwrap();
    let waiting = fleet.node_with(patient).await;
    let source = Source::new();

    // After these a lookup asks for the lease at once, without a read before.
    for other in 0..60 {
        let load = source.clone();
        asking.get_or_load(&format!("other{other}"), move || load.now()).await.unwrap();
    }

    fleet.server().pause();
    let call = tokio::spawn({
        let (asking, source) = (asking.clone(), source.clone());
        async move { asking.get_or_load("k1", move || source.now()).await }
    });
    // The request must be in the buffers of the server before the connection ends. If the machine is too busy for
    // that, the test shows nothing.
    tokio::time::sleep(Duration::from_millis(500)).await;
    proxy.cut(Route::Commands);
    assert_eq!(*call.await.unwrap().unwrap(), 1, "it is loaded without a lease");
    fleet.server().resume();

    let load = source.clone();
    let found = timeout(SOON, waiting.get_or_load("k1", move || load.now()));
    assert_eq!(*found.await.expect("it does not wait for the end of the lease").unwrap(), 1);
}
