//! The leases of a batch, kept alive from when they are granted to when they are filled.

use std::convert::Infallible;
use std::time::Duration;

use futures_util::future::pending;
use tokio::time::sleep;

use crate::backend::{Lease, Renewed};
use crate::coherence::Mutant;
use crate::key::Key;
use crate::options::Options;
use crate::shared::Shared;
use crate::sync::Mutex;

/// Most keys in one question about leases: meanwhile those of the last one are to be kept alive.
pub(super) const PART: usize = 2048;

/// What each lease of a batch adds to the time that renewing all of them takes, on a slow machine.
const PER_LEASE: Duration = Duration::from_micros(200);

/// Leases that are held, and not yet filled.
#[derive(Debug, Default)]
pub(super) struct Kept {
    leases: Mutex<Vec<(Key, Lease)>>,
}

impl Kept {
    pub(super) fn of(leases: Vec<(Key, Lease)>) -> Self {
        Self { leases: Mutex::new(leases) }
    }

    pub(super) fn add(&self, key: &Key, lease: Lease) {
        self.leases.lock().push((key.clone(), lease));
    }

    /// Somebody else keeps them from now on.
    pub(super) fn hand_over(&self) {
        self.leases.lock().clear();
    }
}

impl<V: 'static> Shared<V> {
    /// The life of a lease in a batch of so many keys. To renew them takes time, which must not be all that they have.
    pub(super) fn lease_ttl(&self, options: &Options, keys: usize) -> Duration {
        if self.switch.is(Mutant::LeasesKeptFromLoad) {
            return options.load.lease_ttl;
        }
        options.load.lease_ttl.max(PER_LEASE * u32::try_from(keys).unwrap_or(u32::MAX))
    }

    /// Renews the leases at a third of their life, but for those that are lost: their fills will be refused.
    pub(super) async fn keep_alive(&self, kept: &Kept, ttl: Duration) -> Infallible {
        let Some(l2) = &self.l2 else { return pending().await };
        loop {
            sleep(ttl / 3).await;
            let held = kept.leases.lock().clone();
            let mut lost = Vec::new();
            for part in held.chunks(PART) {
                match l2.region.renew_many(part, ttl).await {
                    Ok(renewed) => {
                        let gone = part.iter().zip(renewed).filter(|(_, held)| *held == Renewed::Lost);
                        lost.extend(gone.map(|((_, lease), _)| lease.token));
                    }
                    Err(error) => drop(self.l2_failed(error)),
                }
            }
            if !lost.is_empty() {
                let lost: std::collections::HashSet<_> = lost.into_iter().collect();
                kept.leases.lock().retain(|(_, lease)| !lost.contains(&lease.token));
            }
        }
    }
}
