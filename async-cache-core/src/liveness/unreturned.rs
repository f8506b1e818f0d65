//! The leases that this node could not return yet. Until it does, other nodes wait for a load that has ended.

use tokio::time::Instant;

use crate::backend::Lease;
use crate::format::key::Key;
use crate::sync::{Mutex, Notify};

/// The maximum number of such leases. Further ones are not returned, and expire by themselves.
const MAX_UNRETURNED: usize = 10_000;

/// The leases of loads that have ended. Each is kept until L2 has taken it back, or until it has expired.
#[derive(Debug, Default)]
pub(crate) struct Unreturned {
    leases: Mutex<Vec<Owed>>,
    pub(crate) added: Notify,
}

/// A lease to be returned.
#[derive(Debug, Clone)]
pub(crate) struct Owed {
    pub(crate) lease: (Key, Lease),
    /// The time at which the lease has expired if nobody renews it.
    pub(crate) expires: Instant,
}

impl Unreturned {
    pub(crate) fn add(&self, owed: Vec<Owed>) {
        let mut leases = self.leases.lock();
        let room = MAX_UNRETURNED.saturating_sub(leases.len());
        leases.extend(owed.into_iter().take(room));
        drop(leases);
        self.added.notify_one();
    }

    /// Removes up to `limit` leases that have not expired, those first that were added first, and returns them. So each
    /// has its turn while L2 refuses some. Expired ones are dropped.
    pub(crate) fn take(&self, limit: usize) -> Vec<Owed> {
        let mut leases = self.leases.lock();
        let now = Instant::now();
        leases.retain(|owed| owed.expires > now);
        let taken = leases.len().min(limit);
        leases.drain(..taken).collect()
    }

    /// Whether there is none. Expired ones are dropped first.
    pub(crate) fn is_empty(&self) -> bool {
        let mut leases = self.leases.lock();
        let now = Instant::now();
        leases.retain(|owed| owed.expires > now);
        leases.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::backend::Token;

    fn owed(number: u64, ttl: Duration) -> Owed {
        let lease = Lease { token: Token::from_bytes([1; 16]), seq: 1 };
        Owed { lease: (Key::encode(&number).unwrap(), lease), expires: Instant::now() + ttl }
    }

    #[tokio::test(start_paused = true)]
    async fn leases_are_bounded_in_number_and_kept_until_they_expire() {
        let unreturned = Unreturned::default();
        let second = Duration::from_secs(1);
        unreturned.add((0..MAX_UNRETURNED as u64 + 5).map(|number| owed(number, second)).collect());
        unreturned.add(vec![owed(0, second)]);
        let taken = unreturned.take(3);
        assert_eq!(taken.len(), 3);
        assert_eq!(taken[0].lease.0, Key::encode(&0_u64).unwrap(), "the first comes first");
        assert_eq!(unreturned.take(usize::MAX).len(), MAX_UNRETURNED - 3);
        assert!(unreturned.is_empty());

        unreturned.add(taken);
        tokio::time::advance(second).await;
        assert!(unreturned.take(usize::MAX).is_empty(), "they have expired");
        assert!(unreturned.is_empty());
    }
}
