//! Leases that may have been granted to a caller that did not learn of them.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use redis::{Cmd, RedisResult};
use tokio::time::{sleep, timeout};

use crate::connection::link::Link;
use crate::connection::repeat::{Again, Calls};
use crate::connection::slots::Slots;
use crate::inner::Inner;
use crate::limits::{PIPELINE_KEYS, Pauses, Purpose, backoff};

/// How long releases are tried. After that the lease lapses by itself.
const PATIENCE: Duration = Duration::from_secs(10);

/// The interval at which a release that waits for its answer checks whether its connection is still in use.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Between attempts on other connections.
const PAUSES: Pauses = Pauses { first: Duration::from_millis(50), longest: Duration::from_millis(500) };

/// Watches acquires of unknown outcome: they have timed out, or their caller has gone away.
///
///   1. an acquire is stuck, its caller gives up
///   2. the server executes it and grants a lease that no node knows of
///   3. the key is not loaded until that lease lapses
///
/// So a release is sent behind the acquire, on the same connection, where it cannot overtake it. If that connection is
/// lost, the release is sent on the next one.
pub(super) struct Orphan<'a> {
    inner: &'a Inner,
    link: &'a Arc<Link>,
    releases: Vec<Cmd>,
}

impl<'a> Orphan<'a> {
    pub(super) fn new(inner: &'a Inner, link: &'a Arc<Link>) -> Self {
        Self { inner, link, releases: Vec::new() }
    }

    /// Watches more acquires.
    pub(super) fn watch(&mut self, releases: impl IntoIterator<Item = Cmd>) {
        self.releases.extend(releases);
    }

    /// Notes that the outcomes are known, except at the places for which `unknown` is true.
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
        // Beyond the limit of releases the lease expires by itself.
        let Ok(permit) = Arc::clone(&self.inner.orphans).try_acquire_owned() else { return };
        let lost = Lost { slots: Arc::clone(&self.inner.slots), releases };
        let link = Arc::clone(self.link);
        self.inner.background.spawn(async move {
            let _permit = permit;
            let _ = timeout(PATIENCE, lost.release(link)).await;
        });
    }
}

/// What has become of the releases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sent {
    Executed,
    Lost,
}

/// Releases whose acquires have no answer.
struct Lost {
    slots: Arc<Slots>,
    releases: Vec<Cmd>,
}

impl Lost {
    /// Sends them on the connection of the acquires. If it was lost, they are sent on another one to the same server
    /// process: the server may have executed the acquires before the connection ended. Another process has not.
    async fn release(self, link: Arc<Link>) {
        if self.send_behind(&link).await == Sent::Executed {
            return;
        }
        let run = link.run_text().to_owned();
        // The connection may be half open, and a reference to it would keep it open.
        drop(link);
        for round in 0.. {
            sleep(backoff(round, PAUSES)).await;
            let Ok(other) = self.slots.pick(Purpose::Write) else { continue };
            if other.link.run_text() != run || other.answer(self.send(&other.link)).await.is_ok() {
                return;
            }
        }
    }

    /// Sends them on the connection of the acquires. They are sent only once, because a server that stalls later
    /// executes what it has received, in order.
    async fn send_behind(&self, link: &Arc<Link>) -> Sent {
        let mut sent = pin!(self.send(link));
        loop {
            match timeout(LOOK_EVERY, &mut sent).await {
                Ok(Ok(())) => return Sent::Executed,
                Ok(Err(_)) => return Sent::Lost,
                Err(_) if self.slots.holds(link) => {}
                Err(_) => return Sent::Lost,
            }
        }
    }

    async fn send(&self, link: &Link) -> RedisResult<()> {
        for calls in self.releases.chunks(PIPELINE_KEYS) {
            let calls = Calls { script: &link.lua.release, calls, again: Again::FromFirst };
            link.scripts::<()>(calls).await?;
        }
        Ok(())
    }
}
