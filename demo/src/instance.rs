//! One instance of the service: executes orders, and reports.
//!
//! This code runs both as a task among others and as a separate process.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_cache::{Backend, LoadFailureLog, MemoryBackend};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::catalogue::Catalogue;
use crate::database::Database;
use crate::driver::{Driver, observer};
use crate::events::Journal;
use crate::messages::{Command, Message, Setup, Tiers};
use crate::notices;
use crate::orders::{Desk, Parts};
use crate::outbox::Relay;
use crate::traffic::Traffic;

/// How long an expired product is kept as a fallback, if the instance serves.
const STALE_FOR: Duration = Duration::from_secs(600);
/// How long a request of an instance that serves waits for the database, if there is a fallback.
const SOFT_TIMEOUT: Duration = Duration::from_millis(100);
/// Time between two batches.
const REPORT_EVERY: Duration = Duration::from_millis(20);
/// The time that an instance has until its L1 must answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// A running instance: its setup, its driver, and the channel for its reports.
pub(crate) struct Instance {
    setup: Arc<Setup>,
    pub(crate) driver: Arc<Driver>,
    desk: Option<Desk>,
    relay: Option<Arc<Relay>>,
    out: mpsc::Sender<Message>,
}

impl Instance {
    /// Opens the service and waits until its L1 answers. `memory` is the shared tier if there is no
    /// Redis.
    pub(crate) async fn start(
        setup: Setup,
        memory: Option<MemoryBackend>,
        out: mpsc::Sender<Message>,
    ) -> Result<Self, String> {
        let shared: Option<Arc<dyn Backend>> = match (&setup.redis, memory) {
            (Some(redis), _) => Some(Arc::new(redis.connect().await.map_err(|error| chain(&error))?)),
            (None, Some(memory)) => Some(Arc::new(memory)),
            (None, None) => None,
        };
        let parts = setup.serve_ttl_ms.map(|_| Parts::new(setup.l1_entries, shared.clone()));
        let driver = Arc::new(open(&setup, shared, parts.as_ref()).map_err(|error| chain(&error))?);
        let cache = driver.catalogue.cache();
        let begun = Instant::now();
        while !cache.is_serving() {
            if begun.elapsed() > PATIENCE {
                return Err(format!("instance {} did not come to serve within {PATIENCE:?}", setup.index));
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let desk = parts.map(|parts| Desk::open(parts, &setup.namespace, &driver, out.clone())).transpose();
        let desk = desk.map_err(|error| chain(&error))?;
        // Entries of an earlier run in Redis belong to another database.
        if setup.index == 0 {
            cache.invalidate_all().await.map_err(|error| chain(&error))?;
            if let Some(desk) = &desk {
                desk.forget().await.map_err(|error| chain(&error))?;
            }
        }
        if desk.is_some() {
            notices::pass_on(cache, out.clone());
        }
        let relay = match setup.outbox {
            true => Some(Arc::new(Relay::start(&setup.database, cache).await?)),
            false => None,
        };
        Ok(Self { setup: Arc::new(setup), driver, desk, relay, out })
    }

    /// Executes orders until it is told to finish, or the sender is gone.
    pub(crate) async fn run(self, mut commands: mpsc::Receiver<Command>) {
        let reporting = CancellationToken::new();
        let reporter = tokio::spawn(self.report(reporting.clone()));
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        self.say(Message::Ready).await;
        while let Some(command) = commands.recv().await {
            match command {
                Command::ColdKey(rush) => self.say(Message::Cold(rush.send(&self.driver).await)).await,
                Command::Order { id, order } => {
                    if let Some(desk) = self.desk.clone() {
                        tasks.spawn(desk.execute(id, order));
                    }
                    while tasks.try_join_next().is_some() {}
                }
                Command::Traffic { seconds } => {
                    let traffic = Traffic::new(&self.setup, &self.driver, stop.clone());
                    let (traffic, out) =
                        (traffic.run(seconds.map(Duration::from_secs_f64)), self.out.clone());
                    tasks.spawn(async move {
                        traffic.await;
                        let _ = out.send(Message::TrafficEnded).await;
                    });
                }
                Command::Stop => stop.cancel(),
                Command::Finish => break,
            }
        }
        stop.cancel();
        while tasks.join_next().await.is_some() {}
        if let Some(relay) = &self.relay {
            relay.shutdown().await;
        }
        reporting.cancel();
        let _ = reporter.await;
        self.say(Message::Finished).await;
    }

    async fn say(&self, message: Message) {
        // If the receiver is gone, there is nothing to report.
        let _ = self.out.send(message).await;
    }

    /// Sends a batch at intervals, and a last one.
    fn report(&self, until: CancellationToken) -> impl Future<Output = ()> + Send + 'static {
        let (driver, desk, out) = (Arc::clone(&self.driver), self.desk.clone(), self.out.clone());
        let relay = self.relay.clone();
        async move {
            loop {
                let last = until.is_cancelled();
                let (events, complete_to) = driver.journal.take();
                let l2_unreachable = desk.as_ref().is_some_and(|desk| !desk.reaches_the_tier());
                let relay = relay.as_ref().map(|relay| relay.figures());
                let tiers = Tiers { l2_unreachable, relay, ..tiers(&driver) };
                if out.send(Message::Batch { events, complete_to, tiers }).await.is_err() || last {
                    return;
                }
                let _ = tokio::time::timeout(REPORT_EVERY, until.cancelled()).await;
            }
        }
    }
}

/// Opens the service: its database, and its cache with the tiers of this mode.
fn open(
    setup: &Setup,
    shared: Option<Arc<dyn Backend>>,
    parts: Option<&Parts>,
) -> async_cache::Result<Driver> {
    let journal = Arc::new(Journal::default());
    let latency = Duration::from_millis(setup.query_ms.into());
    let database = Database::open(&setup.database, setup.index, latency, observer(&journal));
    let catalogue = Catalogue::open(&setup.namespace, database, |builder| {
        let builder = match parts {
            Some(parts) => builder.l1(parts.copies.clone()),
            None => builder.l1(MemoryBackend::new(setup.l1_entries)),
        };
        let builder = match setup.serve_ttl_ms {
            Some(ttl) => builder
                .ttl(Duration::from_millis(ttl))
                .stale_for(STALE_FOR)
                .soft_timeout(SOFT_TIMEOUT)
                // An outage of the database is shown on the page, not in the log.
                .load_failure_log(LoadFailureLog::Off),
            None => builder,
        };
        match parts.map_or(shared, Parts::shared) {
            Some(shared) => builder.l2(shared),
            None => builder,
        }
    })?;
    Ok(Driver { catalogue, journal })
}

/// The statistics that the cache of an instance reports.
pub(crate) fn tiers(driver: &Driver) -> Tiers {
    let stats = driver.catalogue.cache().stats();
    Tiers {
        l1_hits: stats.l1_hits,
        l2_hits: stats.l2_hits,
        loads: stats.loads,
        waits: stats.coalesced_waits,
        lease_waits: stats.lease_waits,
        invalidations_sent: stats.invalidations_sent,
        invalidations_received: stats.invalidations_received,
        fills_rejected: stats.fills_rejected,
        flushes: stats.flushes,
        l2_errors: stats.l2_errors,
        l1_entries: stats.entries,
        l1_suspended: stats.l1_suspended,
        pending_invalidations: stats.pending_invalidations,
        load_failures: stats.load_failures,
        l2_unreachable: false,
        relay: None,
    }
}

/// An error with all its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
