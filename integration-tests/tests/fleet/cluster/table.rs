//! A table of rows, which counts its queries and knows which versions may be read.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_cache::testing::No;
use integration_tests::fleet::Cache;
use parking_lot::Mutex;

/// Rows whose values are their versions, from 1 on. Clones are the same table.
#[derive(Clone, Default)]
pub(super) struct Table(Arc<Mutex<HashMap<String, Row>>>);

struct Row {
    version: u64,
    loads: usize,
    /// The versions whose invalidation has returned, and when.
    invalidated: Vec<(Instant, u64)>,
}

impl Default for Row {
    fn default() -> Self {
        Self { version: 1, loads: 0, invalidated: Vec::new() }
    }
}

impl Table {
    fn row<T>(&self, key: &str, at: impl FnOnce(&mut Row) -> T) -> T {
        at(self.0.lock().entry(key.to_owned()).or_default())
    }

    pub(super) fn loads(&self, key: &str) -> usize {
        self.row(key, |row| row.loads)
    }

    pub(super) fn forget_loads(&self) {
        self.0.lock().values_mut().for_each(|row| row.loads = 0);
    }

    /// Gets a row through a cache. Checks that it is not older than `bound` allows.
    pub(super) async fn get(&self, cache: &Cache, key: &str, bound: Duration) {
        let start = Instant::now();
        let (table, name) = (self.clone(), key.to_owned());
        let load = move || async move {
            tokio::time::sleep(Duration::from_millis(1)).await;
            Ok::<_, No>(table.row(&name, |row| {
                row.loads += 1;
                row.version
            }))
        };
        let found = *cache.get_or_load(key, load).await.unwrap_or_else(|error| panic!("{key}: {error:#}"));
        let due = self.row(key, |row| {
            let old = row.invalidated.iter().filter(|(at, _)| *at + bound <= start);
            old.map(|(_, version)| *version).max().unwrap_or(1)
        });
        assert!(found >= due, "{key}: version {found}, where {due} was invalidated {bound:?} before");
    }

    /// Writes a row and invalidates it. False if the outcome of the invalidation is unknown.
    pub(super) async fn write(&self, cache: &Cache, key: &str) -> bool {
        let version = self.row(key, |row| {
            row.version += 1;
            row.version
        });
        let done = cache.invalidate(key).await;
        if let Err(error) = &done {
            eprintln!("{key}: {error:#}");
        }
        if done.is_ok() {
            self.row(key, |row| row.invalidated.push((Instant::now(), version)));
        }
        done.is_ok()
    }
}
