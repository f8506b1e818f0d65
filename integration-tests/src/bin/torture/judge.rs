//! Judges an answer alone: its age and its bytes.

use std::time::Duration;

use crate::ledger::{Count, Global, Ledger, now};
use crate::load::SETTLED;
use crate::node::Handle;
use crate::promise::{Promise, What};
use crate::value::Value;

/// The maximum time from the load of a value to its storage, where its life begins. In this time its lease must
/// be valid, and the last renewal of the lease may have been executed late: 0.5 s for the deadline of a
/// command, 0.9 s for the slowest network, and 1 s for the lease. The rest is for clocks.
pub(crate) const STORED_WITHIN_NS: u64 = 3_000_000_000;
/// The maximum time from the load to the storage without any fault or pause since the load.
const STORED_IN_QUIET_NS: u64 = 300_000_000;
/// A slower answer did not come from L1.
const SLOW_NS: u64 = 150_000;
/// One of this many fast answers with long values is compared.
const SAMPLE: u64 = 64;

/// The values that may answer a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Allowed {
    Fresh,
    /// Values past their ttl, within their `stale_for`.
    Stale,
}

/// A call that has been answered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Answer<'a> {
    pub key: usize,
    pub started: u64,
    pub value: &'a Value,
    pub allowed: Allowed,
}

/// Judges the answer. Returns whether it was slow.
pub(crate) fn by_itself(handle: &Handle, answer: Answer<'_>) {
    let Answer { key, started, value, allowed } = answer;
    let (ledger, index) = (handle.ledger, handle.index);
    let slow = now() - started > SLOW_NS;
    if slow {
        ledger.note(key, index, What::Reads, value.version);
    }
    if slow || value.len() < 512 || started % SAMPLE == 0 {
        ledger.add(index, Count::Compared, 1);
        if !value.is_whole(key) {
            let (len, of) = (value.len(), value.key);
            let what = format!(
                "handle {index} asked for key {key}: the answer is of key {of} and {len} B long, and not as it was loaded"
            );
            ledger.accuse(Promise::Values, Some(key), what);
        }
    }
    let age = started.saturating_sub(value.loaded_at);
    ledger.add(index, Count::Aged, 1);
    if age <= value.ttl_ns {
        return;
    }
    let life = match allowed {
        Allowed::Fresh => value.ttl_ns,
        Allowed::Stale => value.ttl_ns + value.stale_ns,
    };
    let over = age.saturating_sub(life);
    ledger.global(Global::WorstAge).fetch_max(over, std::sync::atomic::Ordering::Relaxed);
    if over <= STORED_IN_QUIET_NS {
        return ledger.add(index, Count::StaleAnswers, u64::from(allowed == Allowed::Stale && over == 0));
    }
    let s = |ns| Duration::from_nanos(ns).as_secs_f64();
    let what = format!(
        "handle {index} read version {} of key {key}, loaded {:.3} s before, though it lives for {:.3} s{}",
        value.version,
        s(age),
        s(life),
        if allowed == Allowed::Stale { " as a stale one" } else { "" },
    );
    accuse_aged(ledger, key, (value.loaded_at, over), what);
}

/// Reports an answer that was past its life by this much, unless a pause or fault explains it.
pub(crate) fn accuse_aged(ledger: &'static Ledger, key: usize, (made, over): (u64, u64), what: String) {
    if over > STORED_WITHIN_NS {
        return ledger.accuse(Promise::Age, Some(key), what);
    }
    let quiet = ledger.quiet();
    let disturbed = move || {
        let global = |global| ledger.global(global).load(std::sync::atomic::Ordering::Acquire);
        quiet.is_none()
            || ledger.quiet() != quiet
            || global(Global::QuietSince) >= made
            || global(Global::StalledAt) >= made
    };
    if over <= STORED_IN_QUIET_NS || disturbed() {
        return;
    }
    tokio::spawn(async move {
        // A pause of the machine is noted when it is over.
        tokio::time::sleep(SETTLED).await;
        if !disturbed() {
            ledger.accuse(Promise::Age, Some(key), what);
        }
    });
}
