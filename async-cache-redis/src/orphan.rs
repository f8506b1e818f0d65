//! Leases nobody knows of.

use std::sync::Arc;
use std::time::Duration;

use redis::Cmd;
use tokio::time::timeout;

use crate::link::Link;
use crate::scripts::SCRIPTS;
use crate::shared::Shared;

/// How long a release may wait for a stalled server. After that the lease lapses by itself.
const PATIENCE: Duration = Duration::from_secs(10);

/// Watches an acquire of which it is not known whether it was executed: because it timed out, or
/// because its caller went away.
///
///   1. an acquire is stuck, its caller gives up
///   2. the server executes it and grants a lease to nobody
///   3. the key is not loaded until that lease lapses
///
/// So a release is sent behind it, on the same connection: it cannot overtake.
pub(crate) struct Orphan<'a> {
    shared: &'a Shared,
    link: &'a Arc<Link>,
    release: Option<Cmd>,
}

impl<'a> Orphan<'a> {
    pub(crate) fn new(shared: &'a Shared, link: &'a Arc<Link>, release: Cmd) -> Self {
        Self { shared, link, release: Some(release) }
    }

    /// The outcome is known.
    pub(crate) fn settled(mut self) {
        self.release = None;
    }
}

impl Drop for Orphan<'_> {
    fn drop(&mut self) {
        let Some(release) = self.release.take() else { return };
        // Best effort: beyond the limit the lease lapses.
        let Ok(permit) = Arc::clone(&self.shared.orphans).try_acquire_owned() else { return };
        let link = Arc::clone(self.link);
        self.shared.spawn(async move {
            let _permit = permit;
            let _ = timeout(PATIENCE, link.script::<()>(&SCRIPTS.release, &release)).await;
        });
    }
}
