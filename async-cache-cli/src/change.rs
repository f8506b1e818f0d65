//! The verbs that change: `invalidate`, `tag`, `expire`, `expire-tag`, `clear`. They run the scripts that nodes run, so every node hears of it.

use async_cache::key::Key;
use async_cache::tags::MAX_TAGS;
use async_cache::tools::Namespace;
use async_cache::{Error, Stamp, Tags};
use serde_json::json;

use crate::args::{Shared, Tagged, Which};
use crate::connect;
use crate::failure::{Failure, Outcome};
use crate::{key, output};

/// What a change does to keys and tags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Nobody gets the values any more.
    Invalidate,
    /// The values are not fresh any more, and remain fallbacks.
    Expire,
}

/// Changes keys.
pub(crate) async fn keys(shared: &Shared, which: &Which, effect: Effect) -> Result<Outcome, Failure> {
    let keys = key::read(which)?;
    let namespace = connect::open(shared, connect::deaf()).await?;
    let partitions = namespace.record().partitions;
    let region = namespace.region();
    let (what, seqs) = match effect {
        Effect::Invalidate => ("invalidated", region.invalidate(&keys).await?),
        Effect::Expire => ("expired", region.expire(&keys).await?),
    };
    let changes = keys.iter().map(|key: &Key| key.partition(partitions)).zip(seqs);
    let shown: Vec<_> = keys.iter().map(|key| key::shown(key.as_bytes())).collect();
    report(shared, what, &shown, &stamp(shared, changes)?)
}

/// Changes tags.
pub(crate) async fn tags(shared: &Shared, tagged: &Tagged, effect: Effect) -> Result<Outcome, Failure> {
    let mut changes = Vec::new();
    for tags in tagged.tags.chunks(MAX_TAGS) {
        changes.push(Tags::new(tags).map_err(|error| Failure::usage(error.to_string()))?);
    }
    let namespace = connect::open(shared, connect::deaf()).await?;
    let region = namespace.region();
    let mut seqs = Vec::new();
    for partition in 0..namespace.record().partitions {
        for tags in &changes {
            let seq = match effect {
                Effect::Invalidate => region.invalidate_tags(partition, tags).await,
                Effect::Expire => region.expire_tags(partition, tags).await,
            };
            seqs.push((partition, seq.map_err(|error| partial(error, &namespace, partition))?));
        }
    }
    let what = match effect {
        Effect::Invalidate => "invalidated_tags",
        Effect::Expire => "expired_tags",
    };
    report(shared, what, &tagged.tags, &stamp(shared, seqs)?)
}

/// Clears the namespace.
pub(crate) async fn clear(shared: &Shared) -> Result<Outcome, Failure> {
    let namespace = connect::open(shared, connect::deaf()).await?;
    let region = namespace.region();
    let mut seqs = Vec::new();
    for partition in 0..namespace.record().partitions {
        let seq = region.clear(partition).await;
        seqs.push((partition, seq.map_err(|error| partial(error, &namespace, partition))?));
    }
    report(shared, "cleared", &[], &stamp(shared, seqs)?)
}

/// Says how far a change of several partitions has come.
fn partial(error: Error, namespace: &Namespace, done: u16) -> Error {
    match namespace.record().partitions {
        1 => error,
        all => {
            let message = format!("done in {done} of {all} partitions, run it again: {error}");
            Error::new(error.kind(), message).with_source(error)
        }
    }
}

/// The stamp of changes, each with its partition.
fn stamp(shared: &Shared, changes: impl IntoIterator<Item = (u16, u64)>) -> Result<Stamp, Failure> {
    let seqs: Vec<_> = changes.into_iter().map(|(partition, seq)| format!("{partition}:{seq}")).collect();
    let name = connect::namespace_name(shared).unwrap_or_default();
    Ok(format!("{name}@{}", seqs.join(",")).parse::<Stamp>()?)
}

fn report(shared: &Shared, what: &str, which: &[String], stamp: &Stamp) -> Result<Outcome, Failure> {
    let printed = if shared.json {
        let names = if which.is_empty() { json!(true) } else { json!(which) };
        output::json(&json!({ "namespace": stamp.namespace(), what: names, "stamp": stamp }))
    } else {
        output::line(&stamp.to_string())
    };
    printed
        .map_err(|error| Failure::from(error).with(&format!("the change was made; its stamp is {stamp}")))?;
    Ok(Outcome::Good)
}
