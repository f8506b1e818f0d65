//! The promises, and the report of a broken one. The report contains the actions on the key before, of all
//! processes.

use std::fs;
use std::io::Write;
use std::sync::atomic::Ordering;

use integration_tests::surface::Verb;
use serde::{Deserialize, Serialize};

use crate::ledger::{Count, Global, Ledger, now};

/// The number of broken cases of each promise that are reported in full.
const TOLD: u64 = 8;

/// A promise that a part of the checker judges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Promise {
    /// No read returns a value that was invalidated, if the invalidation returned more than the bound before
    /// the read.
    Staleness,
    /// No value answers after its life.
    Age,
    /// One load for each key, change and expiry in the fleet.
    Loads,
    /// Every call ends.
    Liveness,
    /// One node causes only a limited cost for the others.
    Cost,
    /// A value is returned as it was loaded, byte for byte.
    Values,
    /// What is no longer needed is released.
    Growth,
    /// A node that cannot take part gets an error, and harms no other node.
    Membership,
    /// Without faults no call fails, except by its loader.
    Calm,
    /// A key that many callers on many nodes load at once is loaded once, and is stored afterwards.
    Storms,
    /// A fault of one master concerns only its own partitions.
    Isolation,
    /// The verifier proves of no hit that it was stale.
    Verifier,
}

impl Promise {
    pub(crate) const ALL: [Self; 12] = [
        Self::Staleness,
        Self::Age,
        Self::Loads,
        Self::Liveness,
        Self::Cost,
        Self::Values,
        Self::Growth,
        Self::Membership,
        Self::Storms,
        Self::Calm,
        Self::Isolation,
        Self::Verifier,
    ];

    /// The name in a report.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Staleness => "staleness",
            Self::Age => "age",
            Self::Loads => "loads",
            Self::Liveness => "liveness",
            Self::Cost => "cost",
            Self::Values => "values",
            Self::Growth => "growth",
            Self::Membership => "membership",
            Self::Storms => "storms",
            Self::Isolation => "isolation",
            Self::Verifier => "verifier",
            Self::Calm => "calm",
        }
    }

    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Staleness => "stale reads",
            Self::Age => "answers past their life",
            Self::Loads => "loads of a key that had just been loaded, or was being loaded",
            Self::Liveness => "calls that did not end within their limits",
            Self::Cost => "times one node cost the others too much",
            Self::Values => "values that are not what was loaded",
            Self::Growth => "things that were not let go",
            Self::Membership => "nodes that were not told that they cannot take part",
            Self::Calm => "errors of L2 while nothing was wrong with it",
            Self::Storms => "storms of loads that were not met by one load, or left nothing",
            Self::Isolation => "times L1 was suspended by the fault of a server that it does not need",
            Self::Verifier => "hits that a verifier has proved to be stale",
        }
    }

    /// Reads a name.
    pub(crate) fn parse(name: &str) -> Result<Self, String> {
        let names = Self::ALL.map(Self::name).join(", ");
        Self::ALL.into_iter().find(|promise| promise.name() == name).ok_or(format!("it is one of {names}"))
    }

    /// The promise with this name.
    pub(crate) fn named(name: &str) -> &'static str {
        let promise = Self::ALL.into_iter().find(|promise| promise.name() == name);
        promise.map_or("", |promise| match promise {
            Self::Staleness => "that no read answers what a change has voided that returned the bound before",
            Self::Age => "that nothing answers past its life",
            Self::Loads => "one load for each key, change and expiry in the fleet",
            Self::Liveness => "that every call ends",
            Self::Cost => "that what one node does costs the others a bounded amount",
            Self::Values => "that a value is answered as it was written, byte for byte",
            Self::Growth => "that what is no longer needed is let go",
            Self::Membership => "that a node that cannot take part is told so, and harms nobody",
            Self::Calm => "that nothing fails while nothing is wrong, but by its loader",
            Self::Isolation => "that a fault of one master suspends L1 for its own partitions only",
            Self::Verifier => "that no verifier proves a hit to be stale",
            Self::Storms => {
                "that what many callers on many nodes load at once is loaded once, and is there afterwards"
            }
        })
    }

    fn broken(self) -> Global {
        match self {
            Self::Staleness => Global::Stale,
            Self::Age => Global::Aged,
            Self::Loads => Global::ExcessLoads,
            Self::Liveness => Global::Hung,
            Self::Cost => Global::Costly,
            Self::Values => Global::Mangled,
            Self::Growth => Global::Grown,
            Self::Membership => Global::Intruders,
            Self::Storms => Global::Stormy,
            Self::Isolation => Global::Spread,
            Self::Verifier => Global::Proved,
            Self::Calm => Global::Uncalm,
        }
    }

    /// Whether the promise counts as broken. Two excess loads are allowed, and one in 10,000 more: a short
    /// pause of the machine delays the notes about a load.
    pub(crate) fn is_broken(self, ledger: &Ledger) -> bool {
        let allowed = match self {
            Self::Loads => 2 + ledger.total(Count::JudgedLoads) / 10_000,
            _ => 0,
        };
        self.count(ledger) > allowed
    }

    /// How often the promise was broken.
    pub(crate) fn count(self, ledger: &Ledger) -> u64 {
        ledger.global(self.broken()).load(Ordering::Relaxed)
    }
}

/// A promise that was broken.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Violation {
    pub promise: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<usize>,
    pub what: String,
    /// The actions on the key, each with its time before the report in milliseconds.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub before: Vec<String>,
}

impl Ledger {
    /// Reports a broken promise.
    pub(crate) fn accuse(&self, promise: Promise, key: Option<usize>, what: String) {
        if self.global(promise.broken()).fetch_add(1, Ordering::Relaxed) >= TOLD {
            return;
        }
        let before = key.map(|key| self.history(key, now())).unwrap_or_default();
        let violation = Violation { promise: promise.name().to_owned(), key, what, before };
        eprintln!("torture: {}: {}", violation.promise, violation.what);
        let mut line = serde_json::to_vec(&violation).expect("it can be written");
        line.push(b'\n');
        // One write, so that lines of several processes do not mix.
        let log = fs::File::options().append(true).create(true).open(self.log());
        let _ = log.and_then(|mut log| log.write_all(&line));
    }

    /// The broken promises that were reported so far.
    pub(crate) fn violations(&self) -> Vec<Violation> {
        let text = fs::read_to_string(self.log()).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }
}

/// An action on a key, for the report of a broken promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    LoadBegins,
    BatchBegins,
    ReloadBegins,
    LoadEnds,
    LoadConfirms,
    LoadFails,
    LoadFindsNothing,
    /// The life of the loaded value, in milliseconds.
    LivesMs,
    Commits,
    Returns,
    Fails,
    Dropped,
    Reads,
    /// A drawn call, with its number.
    Asks(Verb),
}

/// Numbers from here on stand for methods.
const VERBS_AT: u64 = 100;

impl What {
    const ALL: [(Self, &str); 13] = [
        (Self::LoadBegins, "a load begins, at version"),
        (Self::BatchBegins, "a load of many keys begins, at version"),
        (Self::ReloadBegins, "a load on purpose begins, at version"),
        (Self::LoadEnds, "a load ends, with version"),
        (Self::LoadConfirms, "a load finds it unchanged, at version"),
        (Self::LoadFails, "a load fails, at version"),
        (Self::LoadFindsNothing, "a load finds nothing, at version"),
        (Self::LivesMs, "what it brings lives for so many ms:"),
        (Self::Commits, "version committed:"),
        (Self::Returns, "its change has returned: version"),
        (Self::Fails, "its change has failed: version"),
        (Self::Dropped, "nobody waits for its change any more: version"),
        (Self::Reads, "a read ends, with version"),
    ];

    /// The number in a note.
    pub(crate) fn number(self) -> u64 {
        match self {
            Self::Asks(verb) => {
                VERBS_AT + Verb::ALL.iter().position(|known| *known == verb).unwrap_or(0) as u64
            }
            other => Self::ALL.iter().position(|(known, _)| *known == other).unwrap_or(0) as u64,
        }
    }

    pub(crate) fn words(number: u64) -> String {
        match number.checked_sub(VERBS_AT) {
            Some(verb) => {
                let (owner, method) = Verb::ALL.get(verb as usize).map_or(("?", "?"), |verb| verb.method());
                format!("{owner}::{method}, call")
            }
            None => Self::ALL.get(number as usize).map_or("?", |(_, words)| words).to_owned(),
        }
    }
}
