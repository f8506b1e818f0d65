//! The L2 of one process: values, leases and numbers that nodes share. Each operation is one critical section.
//!
//! It runs the same operations as the scripts of the Redis tier, one to one:
//!
//! | script | here |
//! |---|---|
//! | `epoch.lua`, the head of each | `State::check_epoch` |
//! | `valid.lua`, `get_valid.lua` | `Partition::admits`, `Partition::shown`, `State::get_valid` |
//! | `state.lua`, `baseline.lua` | `State::seq_and_floor`, `State::tags` |
//! | `acquire.lua`, `fill.lua`, `renew.lua`, `release.lua` | the functions of `leases` |
//! | `put.lua`, `invalidate.lua`, `expire.lua`, `clear.lua`, `tag.lua`, `heartbeat.lua` | the functions of `changes` |
//! | `lease.lua`, `tags.lua` | `Partition::break_lock`, `Partition::voids`, `Partition::expires`, `Partition::note` |
//! | `wake.lua` | `State::wake` |

pub(crate) mod changes;
pub(crate) mod deliver;
pub(crate) mod leases;
pub(crate) mod partition;
pub(crate) mod state;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use async_cache_core::backend::{NodeId, RunId};
use parking_lot::Mutex;
use tokio::time::Instant;

use self::deliver::Courier;
use self::state::{Caller, State};
#[cfg(feature = "testing")]
use crate::faults::Faults;

/// The server process this memory begins with.
const FIRST_RUN: RunId = RunId(1);

/// The namespaces of one tier.
#[derive(Debug)]
pub(crate) struct Stores {
    pub(crate) capacity: u64,
    pub(crate) partitions: u16,
    /// The server process: [`RunId`].
    pub(crate) run: AtomicU64,
    pub(crate) namespaces: Mutex<HashMap<String, Arc<Store>>>,
    #[cfg(feature = "testing")]
    pub(crate) faults: Faults,
}

impl Stores {
    pub(crate) fn new(capacity: u64, partitions: u16) -> Self {
        Self {
            capacity,
            partitions,
            // Only tests replace the memory without replacing the process.
            run: AtomicU64::new(FIRST_RUN.0),
            namespaces: Mutex::default(),
            #[cfg(feature = "testing")]
            faults: Faults::default(),
        }
    }
}

/// One namespace.
pub(crate) struct Store {
    pub(crate) record: String,
    pub(crate) state: Mutex<State>,
    courier: Courier,
    born: Instant,
}

impl Store {
    pub(crate) fn new(record: String, stores: &Stores) -> Self {
        let state = State::new(FIRST_RUN, stores);
        Self { record, state: Mutex::new(state), courier: Courier::default(), born: Instant::now() }
    }

    /// Milliseconds since this namespace was opened first, plus one.
    pub(crate) fn time_ms(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_add(1)
    }

    /// The clock from which an epoch begins. It is far above any sequence number that changes alone can reach.
    fn time_us(&self) -> u64 {
        (1 << 50) + u64::try_from(self.born.elapsed().as_micros()).unwrap_or(0)
    }

    /// Runs an operation of `node`, then delivers the events that it has caused.
    pub(crate) fn operate<T>(
        &self,
        node: NodeId,
        caller: Caller<'_>,
        operation: impl FnOnce(&mut State) -> T,
    ) -> T {
        let (result, events_wait) = {
            let mut state = self.state.lock();
            state.outbox.subscribe(node);
            state.check_epoch(caller, || self.time_us());
            (operation(&mut state), state.outbox.events_wait())
        };
        if events_wait {
            self.deliver();
        }
        result
    }

    /// Delivers the events that wait.
    pub(crate) fn deliver(&self) {
        self.courier.run(&self.state, |state| &mut state.outbox);
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("record", &self.record).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use async_cache_core::backend::{Accept, Acquire, Acquired, Token};
    use async_cache_core::key::Key;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn leases_of_nodes_that_died_are_thrown_out() {
        let store = Store::new(String::new(), &Stores::new(10, 1));
        let node = NodeId(1);
        for n in 0..10_000u64 {
            let ask = Acquire {
                token: Token { node, counter: n },
                ttl: Duration::from_millis(100),
                accept: Accept::Any,
            };
            let acquired = store.operate(node, Caller { run: FIRST_RUN, known: None }, |state| {
                leases::acquire(state, node, &Key::encode(&n).unwrap(), ask)
            });
            assert!(matches!(acquired, Acquired::Granted(_)));
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        let locks = store.state.lock().locks();
        assert!(locks <= 300, "{locks} locks are held, at most 100 of which stand");
    }
}
