//! The background work of a cache.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::time::sleep;

use crate::api::answers;
use crate::changes::retry;
use crate::inner::Inner;
use crate::liveness::heartbeat;
use crate::liveness::lifecycle::Lifecycle;
use crate::local::sweep;
use crate::lookup::{load, verify};

/// The pause before a task that panicked starts again.
const PAUSE: Duration = Duration::from_millis(50);

/// Starts the background tasks. They end when the cache closes.
pub(crate) fn start<V: Send + Sync + 'static>(inner: &Arc<Inner<V>>, period: Duration) {
    #[cfg(feature = "metrics")]
    until_closed(inner, crate::api::figures::run);
    if inner.local.exists() {
        until_closed(inner, |inner| sweep::run(Arc::clone(&inner.local)));
    }
    if inner.local.sampler.is_some() {
        until_closed(inner, verify::run);
    }
    let Some(l2) = &inner.remote else { return };
    let region = Arc::clone(&l2.region);
    until_closed(inner, move |inner| {
        let region = Arc::clone(&region);
        async move { heartbeat::beat(&inner.local.liveness, &*region, period).await }
    });
    let region = Arc::clone(&l2.region);
    until_closed(inner, move |inner| {
        let region = Arc::clone(&region);
        async move { heartbeat::resync(&inner.local.liveness, &*region).await }
    });
    let region = Arc::clone(&l2.region);
    until_closed(inner, move |inner| answers::run(inner, Arc::clone(&region)));
    until_closed(inner, retry::run);
    until_closed(inner, load::return_leases);
}

/// Runs a background task until the cache closes.
fn until_closed<V, Work>(inner: &Arc<Inner<V>>, work: impl Fn(Arc<Inner<V>>) -> Work + Send + Sync + 'static)
where
    V: Send + Sync + 'static,
    Work: Future<Output = ()> + Send + 'static,
{
    let at_work = Arc::clone(inner);
    supervise(&inner.lifecycle, Box::new(move || work(Arc::clone(&at_work)).boxed()));
}

/// Runs a background task until the cache closes. The task drops values, and the `Drop` of `V` may panic. After
/// a panic the task starts again.
///
/// It knows no `V`, so that the task is compiled once, and not for each type of values.
fn supervise(lifecycle: &Lifecycle, work: Box<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>) {
    let (closing, piece) = (lifecycle.closing.clone(), lifecycle.background.piece());
    lifecycle.tasks.spawn(piece.run(async move {
        let supervised = async {
            while AssertUnwindSafe(work()).catch_unwind().await.is_err() {
                sleep(PAUSE).await;
            }
        };
        closing.run_until_cancelled(supervised).await;
    }));
}
