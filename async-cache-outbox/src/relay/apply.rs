//! Turns the rows of a page into invalidations.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::error::Error as _;

use async_cache_core::key::Key;
use async_cache_core::{Error, ErrorKind, Invalidator};
use futures_util::future::join_all;
use tokio::time::timeout;

use crate::change::{Asked, Unreadable, read};
use crate::database::Row;
use crate::relay::STEP_TIMEOUT;
use crate::relay::pause::Pauses;

/// The caches of a relay by namespace. A namespace pauses after a failure, so that it does not hold up the others.
pub(crate) struct Caches {
    caches: HashMap<String, Vec<Invalidator>>,
    pauses: HashMap<String, Pauses>,
    pub(crate) names: Vec<String>,
}

/// What became of the rows of a page.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) landed: Vec<i64>,
    /// Rows that cannot be read, with the reason.
    pub(crate) unreadable: BTreeMap<&'static str, Vec<i64>>,
    /// Namespaces whose cache or L2 failed. Their rows stay.
    pub(crate) failed: Vec<(String, Error)>,
}

impl Outcome {
    /// Why namespaces failed, in words. What their caches do about it is left out: these invalidations are tried again anyway.
    pub(crate) fn failures(&self) -> impl Iterator<Item = String> {
        self.failed.iter().map(|(namespace, error)| {
            let cause = error.source().and_then(|cause| cause.downcast_ref::<Error>());
            format!("{:#}", cause.unwrap_or(error).clone().in_namespace(namespace))
        })
    }
}

/// What the rows of one namespace ask for, each once.
#[derive(Debug, Default)]
struct Work {
    ids: Vec<i64>,
    keys: HashSet<Key>,
    tags: BTreeSet<String>,
    all: bool,
}

impl Caches {
    pub(crate) fn new(invalidators: Vec<Invalidator>) -> Self {
        let mut caches: HashMap<String, Vec<Invalidator>> = HashMap::new();
        for cache in invalidators {
            caches.entry(cache.namespace().to_owned()).or_default().push(cache);
        }
        let names = caches.keys().cloned().collect();
        Self { caches, pauses: HashMap::new(), names }
    }

    /// The namespaces that are not paused.
    pub(crate) fn ready(&self) -> Vec<String> {
        let paused = |name: &String| self.pauses.get(name).is_some_and(|pauses| pauses.left().is_some());
        self.names.iter().filter(|name| !paused(name)).cloned().collect()
    }

    /// The time until the first pause ends.
    pub(crate) fn next_ready(&self) -> Option<std::time::Duration> {
        self.pauses.values().filter_map(Pauses::left).min()
    }

    /// Notes which namespaces have failed and which have not.
    pub(crate) fn learn(&mut self, tried: &[String], failed: &[(String, Error)]) {
        for name in tried {
            match failed.iter().any(|(other, _)| other == name) {
                true => self.pauses.entry(name.clone()).or_default().begin(),
                false => {
                    self.pauses.remove(name);
                }
            }
        }
    }

    /// Makes the invalidations of these rows. The rows are committed, so the source has their changes already.
    pub(crate) async fn apply(&self, rows: &[Row]) -> Outcome {
        let (work, mut outcome) = sort(rows);
        let done = work.into_iter().filter_map(|(namespace, work)| {
            let caches = self.caches.get(&namespace)?;
            Some(async move { (namespace, invalidate(caches, &work).await, work.ids) })
        });
        for (namespace, done, ids) in join_all(done).await {
            match done {
                Ok(()) => outcome.landed.extend(ids),
                Err(error) => outcome.failed.push((namespace, error)),
            }
        }
        outcome
    }
}

/// Collects what the rows ask for. A key or tag that many rows name is invalidated once: all of them are committed.
fn sort(rows: &[Row]) -> (BTreeMap<String, Work>, Outcome) {
    let (mut sorted, mut outcome) = (BTreeMap::<String, Work>::new(), Outcome::default());
    for row in rows {
        let asked = match read(&row.kind, &row.data) {
            Ok(asked) => asked,
            Err(why) => {
                outcome.unreadable.entry(Unreadable::text(why)).or_default().push(row.id);
                continue;
            }
        };
        let work = sorted.entry(row.namespace.clone()).or_default();
        work.ids.push(row.id);
        match asked {
            Asked::Key(key) => drop(work.keys.insert(key)),
            Asked::Tag(tag) => drop(work.tags.insert(tag)),
            Asked::All => work.all = true,
        }
    }
    (sorted, outcome)
}

async fn invalidate(caches: &[Invalidator], work: &Work) -> Result<(), Error> {
    let all = async {
        for cache in caches {
            invalidate_in(cache, work).await?;
        }
        Ok(())
    };
    timeout(STEP_TIMEOUT, all).await.unwrap_or_else(|_| {
        let what = format!("the invalidations took longer than {STEP_TIMEOUT:?}");
        let namespace = caches.first().map_or("", Invalidator::namespace);
        Err(Error::new(ErrorKind::Timeout, what).in_namespace(namespace))
    })
}

async fn invalidate_in(cache: &Invalidator, work: &Work) -> Result<(), Error> {
    if work.all {
        return cache.invalidate_all().await.map(drop);
    }
    if !work.tags.is_empty() {
        cache.invalidate_tags(work.tags.iter().cloned().collect()).await?;
    }
    if !work.keys.is_empty() {
        cache.invalidate_many(work.keys.iter().cloned().collect()).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_told_once_with_its_namespace() {
        let told = |error: Error| {
            let failed = vec![("rows".to_owned(), error)];
            Outcome { failed, ..Outcome::default() }.failures().collect::<Vec<_>>()
        };
        let down = || Error::new(ErrorKind::Backend, "Redis is away").with_source("connection refused");
        let expected = "namespace `rows`: Redis is away: connection refused";
        assert_eq!(told(down()), [expected]);
        for cause in [down(), down().in_namespace("rows")] {
            let change = Error::new(ErrorKind::Backend, "dropped from this node, and retried");
            assert_eq!(told(change.in_namespace("rows").with_source(cause)), [expected]);
        }
    }
}
