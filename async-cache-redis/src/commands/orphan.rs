//! Leases that may have been granted to a caller that did not learn of them.

use std::sync::Arc;
use std::time::Duration;

use redis::Cmd;
use tokio::time::timeout;

use crate::connection::link::{Again, Calls, Link};
use crate::inner::Inner;
use crate::limits::PIPELINE_KEYS;

/// How long a release may wait for a stalled server. After that the lease lapses by itself.
const PATIENCE: Duration = Duration::from_secs(10);

/// Watches acquires of unknown outcome: they have timed out, or their caller has gone away.
///
///   1. an acquire is stuck, its caller gives up
///   2. the server executes it and grants a lease that no node knows of
///   3. the key is not loaded until that lease lapses
///
/// So a release is sent behind the acquire, on the same connection, where it cannot overtake it.
pub(super) struct Orphan<'a> {
    inner: &'a Inner,
    link: &'a Arc<Link>,
    releases: Vec<Cmd>,
}

impl<'a> Orphan<'a> {
    pub(super) fn new(inner: &'a Inner, link: &'a Arc<Link>) -> Self {
        Self { inner, link, releases: Vec::new() }
    }

    /// Watches more of them.
    pub(super) fn watch(&mut self, releases: impl IntoIterator<Item = Cmd>) {
        self.releases.extend(releases);
    }

    /// The outcome is known, but for the places of which `unknown` is true.
    pub(super) fn settled_but(mut self, unknown: impl Fn(usize) -> bool) {
        let mut place = 0..;
        self.releases.retain(|_| place.next().is_some_and(&unknown));
    }
}

impl Drop for Orphan<'_> {
    fn drop(&mut self) {
        let releases = std::mem::take(&mut self.releases);
        if releases.is_empty() {
            return;
        }
        // Best effort: beyond the limit the lease lapses.
        let Ok(permit) = Arc::clone(&self.inner.orphans).try_acquire_owned() else { return };
        let (link, scripts) = (Arc::clone(self.link), self.inner.scripts);
        self.inner.background.spawn(async move {
            let _permit = permit;
            let release = async {
                for calls in releases.chunks(PIPELINE_KEYS) {
                    let calls = Calls { script: &scripts.release, calls, again: Again::FromFirst };
                    link.scripts::<()>(calls).await?;
                }
                redis::RedisResult::Ok(())
            };
            let _ = timeout(PATIENCE, release).await;
        });
    }
}
