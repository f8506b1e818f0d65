//! The leases of a batch. They are renewed from the moment when they are granted until they are filled.

use std::collections::HashSet;
use std::convert::Infallible;
use std::time::Duration;

use futures_util::future::pending;
use tokio::time::{Instant, sleep, sleep_until};

use crate::backend::{Fill, Lease, Renewed, Token};
use crate::faults::mutant::Mutant;
use crate::format::key::Key;
use crate::inner::Inner;
use crate::options::Options;
use crate::sync::Mutex;

/// The maximum number of keys in one command for leases. While it runs, the leases that were granted before
/// must be renewed.
pub(crate) const PART: usize = 2048;

/// The time by which each lease of a batch extends the renewal of all of them, before that time is measured.
const PER_LEASE: Duration = Duration::from_micros(200);

/// The longest duration of a lease that is extended because L2 is slow. If the node dies, other nodes wait
/// for the key that long.
const LONGEST: Duration = Duration::from_secs(60);

/// A lease lasts this many times as long as the renewal of all leases takes. They are renewed after a third
/// of that.
const MARGIN: u32 = 6;

/// Leases that this node holds and has not filled yet.
#[derive(Debug)]
pub(crate) struct Kept {
    /// Their duration if L2 is fast.
    ttl: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    leases: Vec<(Key, Lease)>,
    /// The time of the next renewal. It is kept when another task takes over the leases, because they expire
    /// at the same times as before.
    due: Option<Instant>,
    /// The longest time that a command for one part of them has taken.
    part: Duration,
}

impl Kept {
    pub(crate) fn new(ttl: Duration) -> Self {
        Self { ttl, state: Mutex::default() }
    }

    /// Leases about which nothing else is known.
    pub(crate) fn of(leases: Vec<(Key, Lease)>, ttl: Duration) -> Self {
        let kept = Self::new(ttl);
        kept.state.lock().leases = leases;
        kept
    }

    /// Adds leases that were asked for at `asked`.
    pub(crate) fn add(&self, leases: impl IntoIterator<Item = (Key, Lease)>, asked: Instant) {
        let mut state = self.state.lock();
        state.leases.extend(leases);
        if !state.leases.is_empty() {
            state.due.get_or_insert(asked + self.ttl / 3);
        }
    }

    /// Notes how long a command for one part has taken.
    pub(crate) fn took(&self, span: Duration) {
        let mut state = self.state.lock();
        state.part = state.part.max(span);
    }

    /// The duration that this number of leases needs. Renewing them takes time, and it must not take all of
    /// their duration.
    pub(crate) fn life(&self, leases: usize) -> Duration {
        let parts = u32::try_from(leases.div_ceil(PART)).unwrap_or(u32::MAX);
        let needed = self.state.lock().part.saturating_mul(parts).saturating_mul(MARGIN);
        needed.min(LONGEST).max(self.ttl)
    }

    /// Moves the leases to a new owner, which renews them from now on.
    pub(crate) fn hand_over(&self) -> Self {
        let mut state = self.state.lock();
        let (leases, due, part) = (std::mem::take(&mut state.leases), state.due.take(), state.part);
        Self { ttl: self.ttl, state: Mutex::new(State { leases, due, part }) }
    }

    /// The leases that no new owner has taken over.
    pub(crate) fn into_leases(self) -> Vec<(Key, Lease)> {
        self.state.into_inner().leases
    }

    /// Removes leases that are filled. They need no renewal.
    pub(crate) fn filled(&self, fills: &[Fill]) {
        self.remove(&fills.iter().map(|fill| fill.lease.token).collect());
    }

    fn remove(&self, gone: &HashSet<Token>) {
        if !gone.is_empty() {
            self.state.lock().leases.retain(|(_, lease)| !gone.contains(&lease.token));
        }
    }

    /// Waits until the leases must be renewed, and returns them.
    async fn due(&self) -> Vec<(Key, Lease)> {
        loop {
            let due = self.state.lock().due;
            match due {
                Some(due) => sleep_until(due).await,
                None => sleep(self.ttl / 3).await,
            }
            let mut state = self.state.lock();
            if !state.leases.is_empty() {
                return state.leases.clone();
            }
            // The leases that were due are lost or filled. Leases added later are due later.
            state.due = None;
        }
    }
}

/// The duration of a lease in a batch of this number of keys, if L2 is fast.
pub(crate) fn lease_ttl<V: 'static>(inner: &Inner<V>, options: &Options, keys: usize) -> Duration {
    if inner.policy.faults.is(Mutant::LeasesKeptFromLoad) {
        return options.load.lease_ttl;
    }
    options.load.lease_ttl.max(PER_LEASE * u32::try_from(keys).unwrap_or(u32::MAX))
}

/// The longest duration of a lease in a batch.
pub(crate) fn longest_ttl(options: &Options) -> Duration {
    options.load.lease_ttl.max(LONGEST)
}

/// Renews the leases after a third of their duration. Lost leases are removed, and L2 will refuse their
/// fills.
pub(crate) async fn keep_alive<V: 'static>(inner: &Inner<V>, kept: &Kept) -> Infallible {
    let Some(l2) = &inner.remote else { return pending().await };
    loop {
        let held = kept.due().await;
        let begun = Instant::now();
        let ttl = kept.life(held.len());
        let mut pause = ttl / 3;
        let mut lost = HashSet::new();
        for part in held.chunks(PART) {
            let asked = Instant::now();
            match l2.region.renew(part, ttl).await {
                Ok(renewed) => {
                    let gone = part.iter().zip(renewed).filter(|(_, held)| *held == Renewed::Lost);
                    lost.extend(gone.map(|((_, lease), _)| lease.token));
                }
                Err(error) => {
                    pause = ttl / MARGIN;
                    drop(inner.local.liveness.l2_failed(error));
                }
            }
            kept.took(asked.elapsed());
        }
        kept.remove(&lost);
        kept.state.lock().due = Some(begun + pause);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    /// It sleeps until leases are added, and does not spin.
    #[tokio::test(start_paused = true)]
    async fn nothing_is_due_once_all_leases_are_lost() {
        let ttl = Duration::from_secs(3);
        let kept = Kept::new(ttl);
        let lease = |token| Lease { token: Token::from_bytes([token; 16]), seq: 1 };
        let key = Key::encode(&1_u64).unwrap();
        kept.add([(key.clone(), lease(1))], Instant::now());
        assert_eq!(kept.due().await.len(), 1);
        kept.remove(&HashSet::from([lease(1).token]));
        timeout(ttl, kept.due()).await.unwrap_err();
        let asked = Instant::now();
        kept.add([(key, lease(2))], asked);
        assert_eq!(kept.due().await.len(), 1);
        assert!(asked.elapsed() <= ttl / 3);
    }
}
