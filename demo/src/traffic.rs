//! The traffic on one instance. Reads follow popularity or a trace, and writes are mixed in. The writes of one
//! product are observed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::driver::Driver;
use crate::events::Purpose;
use crate::keys::{Keys, Zipf};
use crate::messages::Setup;

/// Tasks that read, in each instance.
const READERS: u32 = 16;
/// Most requests under way, in each instance that serves. Further ones are not sent.
const CLIENTS: usize = 2_000;
/// Time between two groups of their requests.
const TICK_OF_CLIENTS: Duration = Duration::from_millis(5);
/// Pause of a task that is ahead of its rate.
const TICK: Duration = Duration::from_millis(2);
/// Reads in a row before a task yields: hits never wait, so they would never yield.
const BURST: u32 = 32;
/// Time between two reads of the observed product.
const LOOK_EVERY: Duration = Duration::from_micros(200);
/// The same for instances that serve: the page need not measure as finely, and the machine has other work.
const LOOK_EVERY_SERVING: Duration = Duration::from_micros(500);
/// Time between two writes to it, over all instances.
const WRITE_WATCHED_EVERY: Duration = Duration::from_millis(50);

/// The planned traffic.
pub(crate) struct Traffic {
    setup: Arc<Setup>,
    driver: Arc<Driver>,
    keys: Arc<Keys>,
    stop: CancellationToken,
}

/// The products outside the traffic: their ids are above those that it uses.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Apart {
    /// Every instance observes its writes.
    pub(crate) watched: u32,
    /// No instance has read it before.
    pub(crate) cold: u32,
    /// No traffic reads or writes it.
    pub(crate) quiet: u32,
}

impl Apart {
    pub(crate) const COUNT: u32 = 3 + Self::RUSHES;
    /// Products of which each rush takes the next: in between nobody reads them.
    pub(crate) const RUSHES: u32 = 64;

    pub(crate) fn of(products: u32) -> Self {
        Self { watched: products + 1, cold: products + 2, quiet: products + 3 }
    }
}

impl Traffic {
    pub(crate) fn new(setup: &Arc<Setup>, driver: &Arc<Driver>, stop: CancellationToken) -> Self {
        let keys = match &setup.trace {
            Some(trace) => Keys::share_of(trace, setup.index, setup.of),
            None => Keys::Zipf(Zipf::new(setup.products)),
        };
        Self { setup: Arc::clone(setup), driver: Arc::clone(driver), keys: Arc::new(keys), stop }
    }

    /// Runs until the time is over, the trace has ended, or it is stopped.
    pub(crate) async fn run(self, limit: Option<Duration>) {
        let mut readers = JoinSet::new();
        if self.setup.serve_ttl_ms.is_some() {
            readers.spawn(self.clients());
        } else {
            (0..READERS).for_each(|_| _ = readers.spawn(self.reader()));
        }
        let mut others = JoinSet::new();
        if let Some(pause) = self.pause_between_writes() {
            others.spawn(self.writer(pause));
        }
        others.spawn(self.watched_writer());
        let looking = self.look_from_a_thread();
        let all_read = async { while readers.join_next().await.is_some() {} };
        tokio::select! {
            () = all_read => {}
            () = tokio::time::sleep(limit.unwrap_or(Duration::MAX)), if limit.is_some() => {}
        }
        self.stop.cancel();
        while readers.join_next().await.is_some() {}
        while others.join_next().await.is_some() {}
        let _ = looking.await;
    }

    /// Requests of clients that do not wait for each other, as a service meets them: a slow answer delays no
    /// other request.
    fn clients(&self) -> impl Future<Output = ()> + Send + 'static {
        let (driver, keys, stop) = (Arc::clone(&self.driver), Arc::clone(&self.keys), self.stop.clone());
        let rate = self.setup.rate.unwrap_or_default();
        async move {
            let under_way = Arc::new(Semaphore::new(CLIENTS));
            let mut ticks = tokio::time::interval(TICK_OF_CLIENTS);
            // After a stall it does not catch up with a burst of requests.
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let mut due = 0.0;
            while !stop.is_cancelled() {
                ticks.tick().await;
                due += rate * TICK_OF_CLIENTS.as_secs_f64();
                while due >= 1.0 {
                    due -= 1.0;
                    let permit = Arc::clone(&under_way).try_acquire_owned();
                    let (Ok(permit), Some(product)) = (permit, keys.next()) else { continue };
                    let mut caller = driver.caller();
                    tokio::spawn(async move {
                        // The journal has the failed read.
                        let _ = caller.read(product, Purpose::Traffic).await;
                        drop(permit);
                    });
                }
            }
        }
    }

    fn reader(&self) -> impl Future<Output = ()> + Send + 'static {
        let (mut caller, keys, stop) = (self.driver.caller(), Arc::clone(&self.keys), self.stop.clone());
        let rate = self.setup.rate.map(|rate| rate / f64::from(READERS));
        async move {
            let begun = Instant::now();
            let mut done = 0_u64;
            while !stop.is_cancelled() {
                for _ in 0..BURST {
                    if rate.is_some_and(|rate| done as f64 >= begun.elapsed().as_secs_f64() * rate) {
                        caller.report();
                        tokio::time::sleep(TICK).await;
                        break;
                    }
                    let Some(product) = keys.next() else { return };
                    // The journal has the failed read.
                    let _ = caller.read(product, Purpose::Traffic).await;
                    done += 1;
                }
                caller.report();
                tokio::task::yield_now().await;
            }
        }
    }

    /// Follows the rate of reads; without a rate it assumes 10,000 a second.
    fn pause_between_writes(&self) -> Option<Duration> {
        let per_second = self.setup.rate.unwrap_or(10_000.0) * self.setup.writes;
        (per_second > 0.0).then(|| Duration::from_secs_f64((1.0 / per_second).min(3600.0)))
    }

    fn writer(&self, pause: Duration) -> impl Future<Output = ()> + Send + 'static {
        let (driver, keys, stop) = (Arc::clone(&self.driver), Arc::clone(&self.keys), self.stop.clone());
        async move {
            let mut due = tokio::time::interval(pause);
            // After a stall it does not catch up with a burst of writes.
            due.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                let tick = async {
                    due.tick().await;
                };
                let (None, Some(product)) = (stop_or(&stop, tick).await, keys.any()) else { return };
                // The journal has the failed write.
                let _ = driver.sell(product).await;
            }
        }
    }

    /// Writes to the observed product, in turn with the other instances.
    fn watched_writer(&self) -> impl Future<Output = ()> + Send + 'static {
        let (driver, stop, of) = (Arc::clone(&self.driver), self.stop.clone(), u32::from(self.setup.of));
        let product = Apart::of(self.setup.products).watched;
        let first = WRITE_WATCHED_EVERY * u32::from(self.setup.index);
        async move {
            let mut pause = WRITE_WATCHED_EVERY + first;
            while stop_or(&stop, tokio::time::sleep(pause)).await.is_none() {
                let _ = driver.sell(product).await;
                pause = WRITE_WATCHED_EVERY * of;
            }
        }
    }

    /// Reads the observed product again and again, on its own thread, because Tokio's timers are too
    /// coarse for this measurement.
    fn look_from_a_thread(&self) -> tokio::task::JoinHandle<()> {
        let (mut caller, stop) = (self.driver.caller(), self.stop.clone());
        let product = Apart::of(self.setup.products).watched;
        let runtime = tokio::runtime::Handle::current();
        let pause = if self.setup.serve_ttl_ms.is_some() { LOOK_EVERY_SERVING } else { LOOK_EVERY };
        tokio::task::spawn_blocking(move || {
            while !stop.is_cancelled() {
                let _ = runtime.block_on(caller.read(product, Purpose::Lag));
                caller.report();
                std::thread::sleep(pause);
            }
        })
    }
}

/// `Some` if it is time to stop.
async fn stop_or(stop: &CancellationToken, wait: impl Future<Output = ()>) -> Option<()> {
    tokio::select! {
        () = stop.cancelled() => Some(()),
        () = wait => None,
    }
}
