//! Whether a load was needed.

use std::sync::atomic::Ordering;

use tokio::time::sleep;

use crate::ledger::{Count, Global, Ledger};
use crate::load::SETTLED;
use crate::promise::Promise;

/// A value may be taken for expired so long before it is: by what a node's view of the server's clock may
/// be off, and it is stored a little after its load has ended, never before.
const EARLY_NS: u64 = 100_000_000;
/// What was stored so long before a call began is there for it.
const STORED_NS: u64 = 100_000_000;

/// A load that begins.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Begun {
    pub handle: usize,
    pub key: usize,
    /// When its call was made.
    pub called: u64,
    pub at: u64,
}

/// From when on a loaded value answers a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answers {
    /// Its load has ended: whoever waits for it has it.
    Loaded,
    /// It was stored before the call was made: what the loader chose may keep it from those who wait.
    Stored,
}

/// Looks whether a load that begins is one too many.
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
                // It is not the last one that is under way: nobody knows since when.
                return ledger.add(handle, Count::UnjudgedLoads, 1);
            }
            (other, "another load of it was under way".to_owned())
        }
        () if at + EARLY_NS < until && there && ahead => {
            // It refreshes ahead here, at any time.
            return ledger.add(handle, Count::UnjudgedLoads, 1);
        }
        () if at + EARLY_NS < until && there => {
            let (ago, left) = ((at - since) / 1_000_000, (until - at) / 1_000_000);
            (since, format!("what was loaded for it {ago} ms before lives for {left} ms more"))
        }
        () => return,
    };
    // What a call has waited for in vain may have come to nothing because of a change, twice: then it loads by itself.
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
        ledger.accuse(Promise::Loads, Some(key), format!("handle {handle} loaded key {key} although {why}"));
    });
}
