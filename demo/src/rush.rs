//! Many requests at once for a product that no tier has.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use crate::clock::{self, MILLISECOND};
use crate::driver::Driver;

/// The requests that one instance sends.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Rush {
    pub(crate) product: u32,
    /// Tasks, with one request each.
    pub(crate) tasks: u32,
    /// When they begin, by [`clock::now`].
    pub(crate) at: u64,
    /// How long the query takes.
    pub(crate) query_ms: u64,
}

/// The result of one cold key.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Cold {
    pub(crate) tasks: u32,
    pub(crate) failed: u32,
    pub(crate) loads: u64,
    pub(crate) slowest_ns: u64,
}

impl Cold {
    pub(crate) fn add(&mut self, other: Self) {
        self.tasks += other.tasks;
        self.failed += other.failed;
        self.loads += other.loads;
        self.slowest_ns = self.slowest_ns.max(other.slowest_ns);
    }
}

/// When the callers of a cold key start: late enough for every instance to have received the order.
pub(crate) fn soon() -> u64 {
    clock::now() + 50 * MILLISECOND
}

impl Rush {
    /// Sends the requests, and waits for all answers.
    pub(crate) async fn send(self, driver: &Driver) -> Cold {
        let Self { product, tasks, at, query_ms } = self;
        let database = driver.catalogue.database().with_latency(Duration::from_millis(query_ms));
        let catalogue = driver.catalogue.with_database(database);
        tokio::time::sleep(Duration::from_nanos(at.saturating_sub(clock::now()))).await;
        let begun = clock::now();
        let mut callers = JoinSet::new();
        for _ in 0..tasks {
            let catalogue = catalogue.clone();
            callers.spawn(async move {
                let outcome = catalogue.get(product).await;
                (outcome.is_ok_and(|found| found.value.is_some()), clock::now())
            });
        }
        let mut cold = Cold { tasks, ..Cold::default() };
        while let Some(caller) = callers.join_next().await {
            let (answered, ended) = caller.unwrap_or((false, begun));
            cold.failed += u32::from(!answered);
            cold.slowest_ns = cold.slowest_ns.max(ended - begun);
        }
        cold.loads = catalogue.database().queries();
        cold
    }
}
