//! The history of a run, and its judgement.
//!
//! The database is a version for each key. A write commits a version, then invalidates the key. When the
//! invalidation has returned, this version is owed to certain reads: to every read that starts `max_staleness`
//! later, to reads with the stamp at once, and to reads on the same node at once, even if the outcome is
//! unknown. The invalidation of a tag counts for every key with the tag. If the versions of one key have
//! different tags, no older version with the invalidated tag may be read, but others may.
//!
//! Expired values and absences are judged in the same way.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use tokio::time::Instant;

use super::plan::{CLASSES, class_of};

/// An event on a node.
#[expect(missing_docs, reason = "the fields are named for what they are")]
#[derive(Debug, Clone, Hash)]
pub enum Event {
    /// A version was committed.
    Committed { key: usize, version: u64 },
    /// A change of keys began, for these versions.
    Changing { what: &'static str, versions: Vec<(usize, u64)> },
    /// The change returned.
    Changed { what: &'static str, versions: Vec<(usize, u64)>, stamp: String },
    /// The change has an unknown outcome.
    Undecided { what: &'static str },
    /// A load read the database.
    Loaded { key: usize, version: u64 },
    /// A lookup was answered.
    Read { what: &'static str, key: usize, begun: u64, version: Option<u64>, owed: Owed },
    /// A lookup returned an error.
    Failed { what: &'static str, key: usize, why: String },
    /// A fault of the network or the server began.
    Fault { what: String },
}

/// A broken rule.
#[expect(missing_docs, reason = "the fields are named for what they are")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Violation {
    /// A read returned an older version than it owed.
    Stale { node: usize, what: &'static str, key: usize, version: u64, owed: Owed, at_ms: u64 },
    /// A read found no row, although every version that it may return has one.
    Vanished { node: usize, what: &'static str, key: usize, owed: u64, at_ms: u64 },
    /// A read returned a version that was never committed, or the value of another key.
    Invented { key: usize, value: u64 },
    /// An operation did not end.
    Hangs(&'static str),
    /// Long after the last fault a node still returns another version than the committed one.
    Diverged { node: usize, key: usize, version: u64, committed: u64 },
    /// L1 of a node did not answer for the partitions of a server, although nothing was wrong with that server.
    Suspended { node: usize, server: usize },
    /// Flights or waiters were left behind.
    LeftBehind { node: usize },
    /// There were more loads than the changes explain.
    TooManyLoads { key: usize, loads: u64, changes: u64 },
    /// Without a fault, a lookup waited long after the end of the load that it waited for.
    LateWake { node: usize, key: usize, late_ms: u64 },
    /// A lookup failed without a fault.
    FailedInCalm(String),
}

impl Violation {
    /// Whether it breaks the promise about reads.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        match self {
            Self::Stale { .. } | Self::Vanished { .. } => true,
            // Version 0 means that there was no answer.
            Self::Diverged { version, .. } => *version > 0,
            _ => false,
        }
    }
}

/// A moment in the order of all events, across nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment {
    at: Instant,
    number: u64,
}

/// The oldest versions of a key that a read may return.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Owed {
    /// The oldest version of any class.
    pub any: u64,
    /// The oldest version of each class.
    pub classes: [u64; CLASSES],
}

impl Owed {
    /// Requires at least this version.
    #[must_use]
    pub fn version(version: u64) -> Self {
        Self { any: version, ..Self::default() }
    }

    /// Whether a read may return this version.
    #[must_use]
    pub fn is_met_by(&self, version: u64) -> bool {
        version >= self.any && version >= self.classes[class_of(version)]
    }

    /// Requires both.
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
    /// The class of versions that it voids. `None` means all lower versions.
    class: Option<usize>,
    returned: Moment,
    node: usize,
    outcome: Landed,
}

/// The node's knowledge about a change that it made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Landed {
    /// It was executed, so every node owes it.
    Surely,
    /// Its outcome is unknown, so only the node that made it owes it.
    Perhaps,
}

/// The events of one run.
#[derive(Debug)]
pub struct History {
    start: Instant,
    max_staleness: Duration,
    number: u64,
    hasher: DefaultHasher,
    changes: Vec<Change>,
    verbose: bool,
    /// The first broken rule.
    pub violation: Option<Violation>,
    /// The number of answered lookups.
    pub reads: u64,
    /// The number of lookups that began within ten bounds after an invalidation of their key.
    pub at_risk: u64,
    /// The number of changes that returned.
    pub changed: u64,
}

impl History {
    /// A history without events.
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

    /// The present moment.
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

    /// Notes that a change has returned. From now on its versions are owed.
    pub fn changed(&mut self, node: usize, versions: &[(usize, u64)], class: Option<usize>, outcome: Landed) {
        let returned = self.moment();
        self.changed += versions.len() as u64;
        let change = |&(key, version)| Change { key, version, class, returned, node, outcome };
        self.changes.extend(versions.iter().map(change));
    }

    /// The versions that are owed to a read of `key` on `node` that began at this moment: always, and while the
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

    /// Notes a violation. Only the first is kept.
    pub fn violated(&mut self, violation: Violation) {
        if self.verbose {
            println!("{:6} VIOLATION {violation:?}", self.ms(Instant::now()));
        }
        self.violation.get_or_insert(violation);
    }

    /// A number that differs between runs with different events.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        self.hasher.finish()
    }
}
