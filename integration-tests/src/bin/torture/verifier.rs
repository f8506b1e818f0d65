//! The reports of the verifiers of a node process.
//!
//! A proof of a verifier is a broken promise: it says that L1 has answered later than `max_staleness` after a change.
//! A suspicion is none. Loads here may find a version before its change is made, and then L2 has another value than L1.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use async_cache::{Event, EventStream};
use futures_util::{FutureExt, StreamExt};

use crate::ledger::{Global, Ledger, now};
use crate::node::{DRAWN_NAMESPACE, Handle, LIVES_NAMESPACE, NAMESPACE};
use crate::promise::Promise;

/// A hit is checked within this time.
const CHECKED_WITHIN_NS: u64 = 1_000_000_000;

/// The events of each cache, with the number of its handle and its namespace.
pub(crate) struct Reports(Vec<(usize, &'static str, EventStream)>);

impl Reports {
    pub(crate) fn of(handles: &[Arc<Handle>]) -> Self {
        let of = |handle: &Arc<Handle>| {
            [
                (handle.index, NAMESPACE, handle.cache.subscribe()),
                (handle.index, LIVES_NAMESPACE, handle.lives.subscribe()),
                (handle.index, DRAWN_NAMESPACE, handle.desk.cache.subscribe()),
            ]
        };
        Self(handles.iter().flat_map(of).collect())
    }

    /// Reports each proof since the last look.
    pub(crate) fn look(&mut self, ledger: &Ledger) {
        for (handle, namespace, events) in &mut self.0 {
            while let Some(Some(event)) = events.next().now_or_never() {
                let Event::StaleHit { key, evidence, knew } = event else { continue };
                if !evidence.is_proof() || is_deceived(ledger) {
                    continue;
                }
                let passed = now() - ledger.global(Global::Began).load(Ordering::Relaxed);
                let first = ledger.global(Global::FirstProof);
                let _ = first.compare_exchange(0, passed, Ordering::Relaxed, Ordering::Relaxed);
                let what = format!("handle {handle}, `{namespace}`: {evidence:?}, key hash {key}, {knew:?}");
                ledger.accuse(Promise::Verifier, None, what);
            }
        }
    }
}

/// Whether the server has gone back to older data just now, in the same process. Hits from then on are not promised to
/// be current at once: see `Handle::is_deceived`.
fn is_deceived(ledger: &Ledger) -> bool {
    let global = |global| ledger.global(global).load(Ordering::SeqCst);
    let until = global(Global::DeceivesUntil);
    until > 0 && (global(Global::DeceivesSince)..until.saturating_add(CHECKED_WITHIN_NS)).contains(&now())
}
