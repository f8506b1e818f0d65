//! Changes made on this node: invalidations, clears and inserts.
//!
//! Each change runs in its own task, so that a cancelled caller leaves no half-made change. An invalidation
//! of keys and an insert remove their keys from L1 before the command and again after the reply; see
//! [`Stripes::changed`](crate::local::stripes::Stripes::changed).

use std::sync::Arc;

use futures_util::future::BoxFuture;

use crate::backend::Effect;
use crate::changes::intent::{Change, Intent, Landed};
use crate::changes::send::{is_retried, send_clear, send_expire, send_insert, send_invalidate, send_tags};
use crate::error::{Error, ErrorKind, Result};
use crate::format::key::Key;
use crate::format::tags::{MAX_TAGS, Tags};
use crate::inner::Inner;
use crate::liveness::stamp::Stamp;
use crate::observe::trace;
use crate::options::StoreOptions;

/// The maximum number of keys or tags that one call may change.
const MAX_CHANGES: usize = 100_000;

pub(crate) async fn invalidate<V: Send + Sync + 'static>(
    inner: &Arc<Inner<V>>,
    keys: Vec<Key>,
) -> Result<Stamp> {
    check_change(inner, keys.len())?;
    let keys: Arc<[Key]> = keys.into();
    let intent = Intent::new(inner, Change::Keys(Arc::clone(&keys)));
    for key in &*keys {
        inner.local.stripes.change_begins(inner.local.engine(), key.as_bytes());
    }
    inner.observer.counters.invalidations_sent.add(keys.len());
    let send = move |inner: Arc<Inner<V>>| async move {
        let sent = send_invalidate(&inner, &keys).await;
        sent.map_err(|error| inner.local.liveness.l2_failed(error))
    };
    in_own_task(inner, "invalidation", intent, send).await
}

/// Expires keys. If the outcome is unknown, they are invalidated.
pub(crate) async fn expire<V: Send + Sync + 'static>(inner: &Arc<Inner<V>>, keys: Vec<Key>) -> Result<Stamp> {
    check_change(inner, keys.len())?;
    let keys: Arc<[Key]> = keys.into();
    let intent = Intent::new(inner, Change::Keys(Arc::clone(&keys)));
    let now = inner.local.now();
    for key in &*keys {
        inner.local.stripes.expiry_begins(inner.local.engine(), key, now);
    }
    inner.observer.counters.invalidations_sent.add(keys.len());
    in_own_task(inner, "expiry", intent, move |inner| async move { send_expire(&inner, &keys).await }).await
}

pub(crate) async fn invalidate_all<V: Send + Sync + 'static>(inner: &Arc<Inner<V>>) -> Result<Stamp> {
    check_change(inner, 1)?;
    let landed = Landed::nowhere(inner.local.liveness.node.partition_count());
    let intent = Intent::new(inner, Change::Clear(landed.clone()));
    inner.local.liveness.node.partitions().for_each(|(_, partition)| partition.move_generation());
    inner.observer.counters.invalidations_sent.add(1);
    in_own_task(inner, "clear", intent, |inner| async move { send_clear(&inner, &landed).await }).await
}

/// Splits tags into sets. Each set has at most as many tags as one change may have.
fn in_sets<T: AsRef<str>>(tags: impl IntoIterator<Item = T>) -> Result<Vec<Tags>> {
    let tags: Vec<T> = tags.into_iter().collect();
    tags.chunks(MAX_TAGS).map(|tags| Tags::new(tags.iter().map(|tag| tag.as_ref().as_bytes()))).collect()
}

/// Invalidates or expires tags. If the outcome is unknown, they are invalidated.
pub(crate) async fn change_tags<V: Send + Sync + 'static, T: AsRef<str>>(
    inner: &Arc<Inner<V>>,
    tags: impl IntoIterator<Item = T>,
    effect: Effect,
) -> Result<Stamp> {
    let tags = in_sets(tags).map_err(|error| error.in_namespace(&inner.observer.namespace))?;
    let count = tags.iter().map(|tags| tags.iter().count()).sum();
    check_change(inner, count)?;
    let landed = Landed::nowhere(inner.local.liveness.node.partition_count());
    let intent = Intent::new(inner, Change::Tags(tags.clone(), landed.clone()));
    inner.observer.counters.invalidations_sent.add(count);
    let what = match effect {
        Effect::Void => "invalidation",
        Effect::Expire => "expiry",
    };
    in_own_task(
        inner,
        what,
        intent,
        move |inner| async move { send_tags(&inner, &tags, effect, &landed).await },
    )
    .await
}

/// Stores values as changes. Other nodes drop their values of the keys, and running loads lose their leases.
pub(crate) async fn insert<V: Send + Sync + 'static>(
    inner: &Arc<Inner<V>>,
    values: Vec<(Key, Arc<V>)>,
    options: StoreOptions,
) -> Result<Stamp> {
    check_change(inner, values.len())?;
    inner.local.check_store_options(&options)?;
    let intent = Intent::new(inner, Change::Keys(values.iter().map(|(key, _)| key.clone()).collect()));
    for (key, _) in &values {
        inner.local.stripes.change_begins(inner.local.engine(), key.as_bytes());
    }
    inner.observer.counters.invalidations_sent.add(values.len());
    in_own_task(inner, "insert", intent, |inner| async move { send_insert(&inner, values, options).await })
        .await
}

fn check_change<V: Send + Sync + 'static>(inner: &Inner<V>, keys: usize) -> Result<()> {
    inner.lifecycle.check_open()?;
    if keys > MAX_CHANGES {
        let message =
            format!("{keys} keys or tags in one call is over the limit of {MAX_CHANGES}: send them in parts");
        return Err(inner.observer.error(ErrorKind::Key, message));
    }
    Ok(())
}

#[cold]
fn undecided<V: Send + Sync + 'static>(inner: &Inner<V>, what: &str, cause: Error) -> Error {
    inner.local.liveness.emit_state_changes(None);
    if !cause.is_temporary() {
        let message = format!(
            "this {what} was refused by L2: dropped from this node, and retried, ever less often, until it lands \
             ({cause})"
        );
        return inner.observer.error(cause.kind(), message).with_source(cause);
    }
    if cause.effect_is_known() {
        let message = format!(
            "this {what} was refused by L2: dropped from this node, and retried as an invalidation until it lands \
             ({cause})"
        );
        return inner.observer.error(cause.kind(), message).with_known_effect().with_source(cause);
    }
    let message = format!(
        "it is unknown whether this {what} has reached L2: dropped from this node, and retried as an invalidation until it lands"
    );
    inner.observer.error(ErrorKind::Backend, message).with_source(cause)
}

/// Makes a change in its own task. The intent is kept until the outcome is known.
async fn in_own_task<V: Send + Sync + 'static, Work>(
    inner: &Arc<Inner<V>>,
    what: &'static str,
    intent: Intent<V>,
    work: impl FnOnce(Arc<Inner<V>>) -> Work,
) -> Result<Stamp>
where
    Work: Future<Output = Result<Stamp>> + Send + 'static,
{
    let (at_work, work) = (Arc::clone(inner), work(Arc::clone(inner)));
    let change: BoxFuture<'static, Result<Stamp>> = Box::pin(async move {
        match work.await {
            Err(error) if is_retried(&error) => {
                drop(intent);
                Err(undecided(&at_work, what, error))
            }
            decided => {
                intent.decided();
                decided
            }
        }
    });
    match inner.lifecycle.tasks.spawn(trace::change(&inner.observer.namespace, change)).await {
        Ok(result) => result,
        Err(cause) => {
            let message = format!(
                "the task making this {what} ended early, by a panic or with its runtime: what it has not done is retried as an \
                 invalidation"
            );
            Err(inner.observer.error(ErrorKind::Backend, message).with_source(cause))
        }
    }
}
