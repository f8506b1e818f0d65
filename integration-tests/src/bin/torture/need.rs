//! Whether a load was needed.

use std::sync::atomic::Ordering;

use tokio::time::sleep;

use crate::ledger::{Count, Global, Ledger};
use crate::load::SETTLED;
use crate::promise::Promise;

/// A node may take a value for expired this long before it expires: its view of the server's clock is not
/// exact. The value is stored a little after its load has ended, and never before.
const EARLY_NS: u64 = 100_000_000;
/// A value that was stored this long before a call began is available to the call.
const STORED_NS: u64 = 100_000_000;

/// A load that is beginning.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Begun {
    pub handle: usize,
    pub key: usize,
    /// The time at which its call began.
    pub called: u64,
    pub at: u64,
}

/// The time from which a loaded value answers a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answers {
    /// From the end of its load: every call that waits for it gets it.
    Loaded,
    /// From its storage before the call. The options that the loader chose may keep it from calls that wait.
    Stored,
}

/// Judges whether a load that begins is one too many.
pub(crate) fn judge(ledger: &'static Ledger, begun: Begun, answers: Answers) {
    let Begun { handle, key, called, at } = begun;
    let quiet = ledger.quiet();
    if quiet.is_none() {
        return;
    }
    ledger.add(handle, Count::JudgedLoads, 1);
    let row = ledger.row(key);
    let (since, until) = row.lives();
    let (since, until) = (since.load(Ordering::Acquire), until.load(Ordering::Acquire));
    let there = answers == Answers::Loaded || row.filled_at().load(Ordering::Acquire) + STORED_NS < called;
    let ahead = ledger.ahead(handle, key).load(Ordering::Acquire) >= since;
    let (before, why) = match () {
        () if ledger.loads_of(key) > 1 => {
            let other = row.load_began().load(Ordering::Acquire);
            if row.filled_at().load(Ordering::Acquire) >= other {
                // The load under way is not the last one that began, so its start is unknown.
                return ledger.add(handle, Count::UnjudgedLoads, 1);
            }
            (other, "another load of it was under way".to_owned())
        }
        () if at + EARLY_NS < until && there && ahead => {
            // The value may be refreshed ahead on this handle at any time.
            return ledger.add(handle, Count::UnjudgedLoads, 1);
        }
        () if at + EARLY_NS < until && there => {
            let (ago, left) = ((at - since) / 1_000_000, (until - at) / 1_000_000);
            (since, format!("what was loaded for it {ago} ms before lives for {left} ms more"))
        }
        () => return,
    };
    // The call may have waited for two loads that ended without a value because of a change. Then it loads by
    // itself.
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
        // A pause of the machine is noted when it is over.
        sleep(SETTLED).await;
        if excused() {
            return ledger.add(handle, Count::UnjudgedLoads, 1);
        }
        ledger.accuse(Promise::Loads, Some(key), format!("handle {handle} loaded key {key} although {why}"));
    });
}
