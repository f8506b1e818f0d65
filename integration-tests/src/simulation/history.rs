//! What happened, and whether it may have.
//!
//! The database is a version per key. A write commits a version, then invalidates; when that has
//! returned, every read that starts `max_staleness` later owes at least that version; with the stamp
//! at once; on the same node at once, even if the outcome is unknown. The invalidation of a tag is
//! one of every key that carries the tag; where versions of one key differ in a tag, no older
//! version that carries it may be read, others may.
//!
//! Values that have expired, and values found absent, are judged like any other.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use tokio::time::Instant;

use super::plan::{CLASSES, class_of};

/// Something that happened on a node.
#[expect(missing_docs, reason = "the fields are named for what they are")]
#[derive(Debug, Clone, Hash)]
pub enum Event {
    /// A version was committed.
    Committed { key: usize, version: u64 },
    /// A change of a key was asked for, for that version of each key.
    Changing { what: &'static str, versions: Vec<(usize, u64)> },
    /// It returned.
    Changed { what: &'static str, versions: Vec<(usize, u64)>, stamp: String },
    /// Its outcome is unknown.
    Undecided { what: &'static str },
    /// A load read the database.
    Loaded { key: usize, version: u64 },
    /// A lookup was answered.
    Read { what: &'static str, key: usize, begun: u64, version: Option<u64>, owed: Owed },
    /// A lookup failed.
    Failed { what: &'static str, key: usize, why: String },
    /// Something went wrong with the network or the server.
    Fault { what: String },
}

/// What must not happen, and did.
#[expect(missing_docs, reason = "the fields are named for what they are")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Violation {
    /// A read gave an older version than it owed.
    Stale { node: usize, what: &'static str, key: usize, version: u64, owed: Owed, at_ms: u64 },
    /// A read found a row gone that is there in every version it may give.
    Vanished { node: usize, what: &'static str, key: usize, owed: u64, at_ms: u64 },
    /// A read gave a version that was never committed, or another key's.
    Invented { key: usize, value: u64 },
    /// Something did not end.
    Hangs(&'static str),
    /// Long after the last fault a node still reads something else than what is committed.
    Diverged { node: usize, key: usize, version: u64, committed: u64 },
    /// Flights or waiters were left behind.
    LeftBehind { node: usize },
    /// More loads than the changes account for.
    TooManyLoads { key: usize, loads: u64, changes: u64 },
    /// With the network in order, a lookup went on long after the load that it had waited for.
    LateWake { node: usize, key: usize, late_ms: u64 },
    /// A lookup failed with the network in order.
    FailedInCalm(String),
}

impl Violation {
    /// Whether it is a broken promise about what is read.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        match self {
            Self::Stale { .. } | Self::Vanished { .. } => true,
            // No version stands for no answer.
            Self::Diverged { version, .. } => *version > 0,
            _ => false,
        }
    }
}

/// The order of events, across nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment {
    at: Instant,
    number: u64,
}

/// The oldest versions of a key that a read may give.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Owed {
    /// Of any class.
    pub any: u64,
    /// Of each class.
    pub classes: [u64; CLASSES],
}

impl Owed {
    /// At least that version.
    #[must_use]
    pub fn version(version: u64) -> Self {
        Self { any: version, ..Self::default() }
    }

    /// Whether a read may give that version.
    #[must_use]
    pub fn is_met_by(&self, version: u64) -> bool {
        version >= self.any && version >= self.classes[class_of(version)]
    }

    /// Both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let classes = std::array::from_fn(|class| self.classes[class].max(other.classes[class]));
        Self { any: self.any.max(other.any), classes }
    }

    fn raise(&mut self, class: Option<usize>, version: u64) {
        let least = class.map_or(&mut self.any, |class| &mut self.classes[class]);
        *least = version.max(*least);
    }
}

#[derive(Debug)]
struct Change {
    key: usize,
    version: u64,
    /// The versions that it voids, if not all below.
    class: Option<usize>,
    returned: Moment,
    node: usize,
    outcome: Landed,
}

/// What a node knows of a change it made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Landed {
    /// It has been executed: every node owes it.
    Surely,
    /// Its outcome is unknown: the node that made it owes it.
    Perhaps,
}

/// Everything that happened in one run.
#[derive(Debug)]
pub struct History {
    start: Instant,
    max_staleness: Duration,
    number: u64,
    hasher: DefaultHasher,
    changes: Vec<Change>,
    verbose: bool,
    /// The first thing that must not happen.
    pub violation: Option<Violation>,
    /// Lookups answered.
    pub reads: u64,
    /// Lookups that began soon after an invalidation of their key: within ten times the bound.
    pub at_risk: u64,
    /// Changes that returned.
    pub changed: u64,
}

impl History {
    /// Nothing has happened.
    #[must_use]
    pub fn new(max_staleness: Duration, verbose: bool) -> Self {
        Self {
            start: Instant::now(),
            max_staleness,
            number: 0,
            hasher: DefaultHasher::new(),
            changes: Vec::new(),
            verbose,
            violation: None,
            reads: 0,
            at_risk: 0,
            changed: 0,
        }
    }

    /// Now.
    pub fn moment(&mut self) -> Moment {
        self.number += 1;
        Moment { at: Instant::now(), number: self.number }
    }

    /// Milliseconds since the start.
    #[must_use]
    pub fn ms(&self, at: Instant) -> u64 {
        at.duration_since(self.start).as_millis() as u64
    }

    /// Notes an event.
    pub fn note(&mut self, node: usize, event: &Event) {
        let at = self.ms(Instant::now());
        (at, node, event).hash(&mut self.hasher);
        if self.verbose {
            println!("{at:6} node {node} {event:?}");
        }
    }

    /// Notes that a change has returned: from now on its versions are owed.
    pub fn changed(&mut self, node: usize, versions: &[(usize, u64)], class: Option<usize>, outcome: Landed) {
        let returned = self.moment();
        self.changed += versions.len() as u64;
        let change = |&(key, version)| Change { key, version, class, returned, node, outcome };
        self.changes.extend(versions.iter().map(change));
    }

    /// What a read of `key` on `node` owes that began then: whatever happens, and as long as the
    /// bound is not suspended.
    pub fn owed(&mut self, node: usize, key: usize, begun: Moment) -> (Owed, Owed) {
        let bound = self.max_staleness;
        let mut at_risk = false;
        let (mut always, mut bounded) = (Owed::default(), Owed::default());
        for change in self.changes.iter().filter(|change| change.key == key) {
            if change.node == node {
                if change.returned < begun {
                    always.raise(change.class, change.version);
                }
            } else if change.outcome == Landed::Surely && change.returned.at + bound < begun.at {
                bounded.raise(change.class, change.version);
            }
            at_risk |= change.returned < begun && begun.at < change.returned.at + bound * 10;
        }
        self.reads += 1;
        self.at_risk += u64::from(at_risk);
        (always, bounded)
    }

    /// Notes a violation; the first counts.
    pub fn violated(&mut self, violation: Violation) {
        if self.verbose {
            println!("{:6} VIOLATION {violation:?}", self.ms(Instant::now()));
        }
        self.violation.get_or_insert(violation);
    }

    /// A number that two runs share only if the same happened in both.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        self.hasher.finish()
    }
}
