//! Whether a load of a drawn key was needed.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::sleep;

use crate::ledger::{Count, Global, Ledger};
use crate::load::SETTLED;
use crate::promise::Promise;

/// What was stored so long before a call began is there for it.
const STORED_NS: u64 = 100_000_000;
/// By so much a view of the server's clock may be off.
const EARLY_NS: u64 = 100_000_000;
/// A load that begins so shortly before the end of its caller's patience may begin because of it.
const IMPATIENT_NS: u64 = 30_000_000;

/// Looks whether a load that begins is one too many, for a call that was made at `called`.
pub(super) fn judge(
    ledger: &'static Ledger,
    (handle, at): (usize, usize),
    (called, began): (u64, u64),
    patience: Duration,
) {
    let quiet = ledger.quiet();
    let waited = began.saturating_sub(called) + IMPATIENT_NS;
    if quiet.is_none() || u128::from(waited) >= patience.as_nanos() {
        return;
    }
    ledger.add(handle, Count::JudgedLoads, 1);
    let row = ledger.row(at);
    let (since, until) = row.lives();
    let (since, until) = (since.load(Ordering::Acquire), until.load(Ordering::Acquire));
    let stored = row.filled_at().load(Ordering::Acquire) + STORED_NS;
    let (before, why) = match () {
        () if ledger.loads_of(at) > 1 => {
            let began = row.load_began().load(Ordering::Acquire);
            if row.filled_at().load(Ordering::Acquire) >= began {
                // It is not the last one that is under way: nobody knows since when.
                return ledger.add(handle, Count::UnjudgedLoads, 1);
            }
            (began, "another load of it was under way".to_owned())
        }
        () if began + EARLY_NS < until && stored < called => {
            let (ago, left) = ((began - since) / 1_000_000, (until - began) / 1_000_000);
            (since, format!("what was loaded for it {ago} ms before lives for {left} ms more"))
        }
        () => return,
    };
    let before = before.min(called);
    let excused = move || {
        let global = |global| ledger.global(global).load(Ordering::Acquire);
        ledger.quiet() != quiet
            || global(Global::QuietSince) >= before
            || global(Global::StalledAt) >= before
            || row.touched_at().load(Ordering::Acquire) >= before
    };
    if excused() {
        return ledger.add(handle, Count::UnjudgedLoads, 1);
    }
    tokio::spawn(async move {
        // What keeps everything from running is noted when it is over.
        sleep(SETTLED).await;
        if excused() {
            return ledger.add(handle, Count::UnjudgedLoads, 1);
        }
        ledger.accuse(Promise::Loads, Some(at), format!("handle {handle} loaded key {at} although {why}"));
    });
}
