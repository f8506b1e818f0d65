//! The settings of a relay.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use async_cache_core::key::CacheKey;
use async_cache_core::{Invalidator, TieredCache};
use tokio_util::sync::CancellationToken;

use crate::change;
use crate::database::Store;
use crate::error::Error;
use crate::relay::Relay;
use crate::relay::apply::Caches;
use crate::relay::stats::Shared;
use crate::relay::work::Worker;
use crate::task::{self, Task};

const INTERVALS: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(10);
const TIMEOUTS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(600);
const BATCHES: RangeInclusive<u32> = 1..=5_000;

/// Builds a [`Relay`]; made by [`Outbox::relay`](crate::Outbox::relay).
#[must_use]
pub struct RelayBuilder {
    store: Arc<dyn Store>,
    caches: Vec<Invalidator>,
    options: Options,
}

/// The settings.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Options {
    pub(crate) poll_interval: Duration,
    pub(crate) takeover_interval: Duration,
    pub(crate) batch: u32,
    pub(crate) shutdown_limit: Duration,
    pub(crate) session_timeout: Duration,
}

impl RelayBuilder {
    pub(crate) fn new(store: Arc<dyn Store>) -> Self {
        let options = Options::new(store.session_timeout());
        Self { store, caches: Vec::new(), options }
    }

    /// Adds a cache whose rows the relay applies. It needs an L2. The relay keeps the cache open.
    pub fn cache<K: CacheKey, V: Send + Sync + 'static>(self, cache: &TieredCache<K, V>) -> Self {
        self.invalidator(cache.invalidator())
    }

    /// Adds a cache by its [`Invalidator`].
    pub fn invalidator(mut self, cache: Invalidator) -> Self {
        self.caches.push(cache);
        self
    }

    /// How often the relay at work looks at the table if nothing wakes it: 1 s by default, from 10 ms to 10 s.
    pub fn poll_interval(mut self, interval: Duration) -> Self {
        self.options.poll_interval = interval;
        self
    }

    /// How often the other relays try to take over: 1 s by default, from 10 ms to 10 s.
    pub fn takeover_interval(mut self, interval: Duration) -> Self {
        self.options.takeover_interval = interval;
        self
    }

    /// The most rows that are read, invalidated and deleted together: 2,000 by default, from 1 to 5,000.
    pub fn batch(mut self, rows: u32) -> Self {
        self.options.batch = rows;
        self
    }

    /// How long the relay at work may be silent before the database ends its session, and another relay takes over: 60 s by
    /// default, 10 s on SQLite; from 1 s to 10 min. It matters if a machine or a network vanishes, or a process is stopped.
    /// It must be three times the `poll_interval` or more.
    pub fn session_timeout(mut self, timeout: Duration) -> Self {
        self.options.session_timeout = timeout;
        self
    }

    /// How long [`Relay::shutdown`] may take: 5 s by default.
    pub fn shutdown_limit(mut self, limit: Duration) -> Self {
        self.options.shutdown_limit = limit;
        self
    }

    /// Starts the relay in the background. If the database cannot be reached yet, the relay tries again, with pauses of
    /// up to 5 s. [`Relay::stats`] has its state and its last error.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] without a cache, for a cache without an L2, for a setting outside its range, and outside a Tokio
    /// runtime.
    pub fn start(self) -> Result<Relay, Error> {
        self.check()?;
        let runtime = task::runtime("relay")?;
        let (shared, stop) = (Arc::new(Shared::new(self.store.table())), CancellationToken::new());
        let worker = Worker {
            store: self.store,
            caches: Caches::new(self.caches),
            options: self.options,
            shared: Arc::clone(&shared),
            stop: stop.clone(),
        };
        // The metrics exist from the start, also while the database cannot be reached.
        shared.publish();
        let task = Task::new(runtime.spawn(worker.run()), stop, self.options.shutdown_limit);
        Ok(Relay { shared, task })
    }

    fn check(&self) -> Result<(), Error> {
        if self.caches.is_empty() {
            return Err(Error::Config(
                "the relay has no cache: add each one with `.cache(&cache)`".to_owned(),
            ));
        }
        if let Some(alone) = self.caches.iter().find(|cache| !cache.has_l2()) {
            return Err(change::alone(alone.namespace()));
        }
        self.options.check()
    }
}

impl Options {
    pub(crate) fn new(session_timeout: Duration) -> Self {
        Self {
            poll_interval: Duration::from_secs(1),
            takeover_interval: Duration::from_secs(1),
            batch: 2_000,
            shutdown_limit: Duration::from_secs(5),
            session_timeout,
        }
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        let wrong = |what: String| Err(Error::Config(what));
        let Self { poll_interval, takeover_interval, batch, session_timeout, .. } = *self;
        for (name, interval) in [("poll_interval", poll_interval), ("takeover_interval", takeover_interval)] {
            if !INTERVALS.contains(&interval) {
                return wrong(format!("`{name}` is {interval:?}: set it from 10 ms to 10 s"));
            }
        }
        if !TIMEOUTS.contains(&session_timeout) || session_timeout < 3 * poll_interval {
            return wrong(format!(
                "`session_timeout` is {session_timeout:?}: set it from 1 s to 10 min, and to three times the `poll_interval` \
                 ({poll_interval:?}) or more"
            ));
        }
        if !BATCHES.contains(&batch) {
            return wrong(format!("`batch` is {batch}: set it from 1 to 5,000 rows"));
        }
        Ok(())
    }
}

impl fmt::Debug for RelayBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RelayBuilder")
            .field("table", &self.store.table())
            .field("caches", &self.caches)
            .field("options", &self.options)
            .finish()
    }
}
