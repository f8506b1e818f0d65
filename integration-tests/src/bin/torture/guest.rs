//! Faulty nodes beside the healthy ones.

use std::time::Duration;

use async_cache::ErrorKind;
use serde::Serialize;

use crate::ledger::Count;
use crate::node::Handle;
use crate::orders;
use crate::promise::Promise;

/// The fault of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[value(rename_all = "snake_case")]
pub(crate) enum Guest {
    /// Its user has no right to publish or to subscribe, or loses that right.
    Weak,
    /// It stores values in another format.
    OtherBuild,
}

impl Guest {
    /// The name on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Weak => "weak",
            Self::OtherBuild => "other_build",
        }
    }
}

/// The maximum time until a node gets its error.
const TOLD_WITHIN: Duration = Duration::from_secs(10);

/// Checks that a node of another build gets the error from every call and from `ready`.
pub(crate) async fn is_refused(handle: &Handle) {
    // An answer may time out on a busy machine.
    let config = |kind: Option<ErrorKind>| matches!(kind, Some(ErrorKind::Config | ErrorKind::Backend));
    loop {
        let ready = tokio::time::timeout(TOLD_WITHIN, handle.cache.ready()).await;
        let ready = ready.map(|ready| ready.err().map(|error| error.kind()));
        let got = handle.cache.get(&1).await.err().map(|error| error.kind());
        let changed = handle.cache.invalidate(&1).await.err().map(|error| error.kind());
        handle.ledger.add(handle.index, Count::Refused, 1);
        if !ready.as_ref().is_ok_and(|ready| config(*ready)) || !config(got) || !config(changed) {
            let what = format!(
                "a node of another format is not refused as wrongly configured: `ready` gives {ready:?}, \
                 `get` {got:?}, `invalidate` {changed:?}"
            );
            handle.ledger.accuse(Promise::Membership, None, what);
            return orders::wait_for_the_end();
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
