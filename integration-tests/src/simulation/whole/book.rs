//! The book of a run: its loads, changes and calls, in their order.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;

use super::breach::{Breach, Promise};
use super::plan::Plan;
use crate::surface::{Call, Verb};

/// A moment: in milliseconds, and as a position in the order of all events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct At {
    pub(super) n: u64,
    pub(super) ms: u64,
}

impl At {
    /// A moment after all others. Times can be added to it.
    pub(super) const NEVER: Self = Self { n: u64::MAX, ms: u64::MAX / 4 };
}

/// The end of a load or an insert.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Fate {
    Running,
    /// It returned a value that may be stored.
    Value,
    /// It returned that the previous value is still right.
    Unchanged,
    /// It returned an absence.
    Absent,
    /// It returned a value that must not be stored.
    Uncached,
    /// A batch left the key out.
    LeftOut,
    Failed,
}

/// One load of one key, or one insert.
#[derive(Debug, Clone)]
pub(super) struct Load {
    pub(super) key: u64,
    pub(super) node: usize,
    pub(super) verb: Verb,
    pub(super) call_begun: At,
    pub(super) begun: At,
    pub(super) ended: At,
    pub(super) fate: Fate,
    /// The value that it returned, as the number of the load that made it.
    pub(super) value: usize,
    /// How long the value may answer, and how long as a fallback.
    pub(super) life: (u64, u64),
    /// How long the value is sure to be stored. 0 if it is not sure.
    pub(super) sure_ms: u64,
    /// The minimum time in which the value does not count as expired.
    pub(super) least_ms: u64,
    /// Whether its call may have given up waiting for other loads. Then nothing is stored.
    pub(super) impatient: bool,
    pub(super) tags: Vec<String>,
    /// The value may lack the effect of a change that began after this moment.
    pub(super) from: At,
    pub(super) wait_timeout_ms: u64,
}

/// The entries that a change concerns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Scope {
    Keys(Vec<u64>),
    Tags(Vec<String>),
    Everything,
}

/// A change, from its call to its return.
#[derive(Debug, Clone)]
pub(super) struct Change {
    pub(super) node: usize,
    pub(super) scope: Scope,
    /// Whether it leaves older values as fallbacks.
    pub(super) expires: bool,
    pub(super) begun: At,
    pub(super) returned: At,
    pub(super) landed: Landed,
}

/// The knowledge about a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Landed {
    /// It was executed.
    Surely,
    /// Its outcome is unknown, and will be noted when it has been executed.
    Perhaps,
    /// Its outcome is unknown for ever, because its node was shut down.
    Untold,
}

impl Change {
    pub(super) fn covers(&self, load: &Load) -> bool {
        match &self.scope {
            Scope::Keys(keys) => keys.contains(&load.key),
            Scope::Tags(tags) => tags.iter().any(|tag| load.tags.contains(tag)),
            Scope::Everything => true,
        }
    }
}

/// One cache, from its start to its end.
#[derive(Debug, Clone, Default)]
pub(super) struct Node {
    pub(super) born_ms: u64,
    /// The time at which it was told to end, if it was.
    pub(super) ended_ms: Option<u64>,
    pub(super) loads: u64,
    pub(super) lookups: u64,
    /// The number of answers that had surely expired, and of those that may have.
    pub(super) stale: (u64, u64),
}

struct Line {
    ms: u64,
    node: usize,
    key: Option<u64>,
    text: String,
}

/// The book of a run. The loaders share it.
#[derive(Clone)]
pub(super) struct Book(Arc<Mutex<Pages>>);

pub(super) struct Pages {
    pub(super) plan: Plan,
    start: Instant,
    verbose: bool,
    moments: u64,
    hasher: DefaultHasher,
    pub(super) versions: Vec<u64>,
    pub(super) nodes: Vec<Node>,
    pub(super) calls: HashMap<u64, At>,
    /// The last call with `refresh_ahead`, by node and key. A call that finds its value in L1 also refreshes
    /// ahead.
    pub(super) ahead: HashMap<(usize, u64), At>,
    pub(super) loads: Vec<Load>,
    /// The loads of each key.
    pub(super) of_key: Vec<Vec<usize>>,
    pub(super) changes: Vec<Change>,
    lines: Vec<Line>,
    pub(super) breach: Option<Breach>,
    pub(super) answers: u64,
}

impl Book {
    pub(super) fn open(plan: Plan, verbose: bool) -> Self {
        let rows = plan.rows();
        Self(Arc::new(Mutex::new(Pages {
            plan,
            start: Instant::now(),
            verbose,
            moments: 0,
            hasher: DefaultHasher::new(),
            versions: vec![1; rows],
            nodes: Vec::new(),
            calls: HashMap::new(),
            ahead: HashMap::new(),
            loads: Vec::new(),
            of_key: vec![Vec::new(); rows],
            changes: Vec::new(),
            lines: Vec::new(),
            breach: None,
            answers: 0,
        })))
    }

    pub(super) fn pages(&self) -> MutexGuard<'_, Pages> {
        self.0.lock()
    }
}

impl Pages {
    pub(super) fn now(&mut self) -> At {
        self.moments += 1;
        At { n: self.moments, ms: self.start.elapsed().as_millis() as u64 }
    }

    pub(super) fn note(&mut self, node: usize, key: Option<u64>, text: String) {
        let ms = self.start.elapsed().as_millis() as u64;
        (ms, node, key, &text).hash(&mut self.hasher);
        if self.verbose {
            println!("{ms:6} node {node} {}{text}", key.map_or(String::new(), |key| format!("key {key}: ")));
        }
        self.lines.push(Line { ms, node, key, text });
    }

    /// Notes a breach. Only the first is kept.
    pub(super) fn breach(&mut self, promise: Promise, key: Option<u64>, what: String) {
        if self.verbose {
            println!("       BROKEN {promise:?}: {what}");
        }
        if self.breach.is_some() {
            return;
        }
        let about = |line: &&Line| key.is_none() || line.key.is_none() || line.key == key;
        let told = |line: &Line| format!("{:6} node {} {}", line.ms, line.node, line.text);
        let mut trail: Vec<String> = self.lines.iter().rev().filter(about).take(40).map(told).collect();
        trail.reverse();
        self.breach = Some(Breach { promise, seed: self.plan.seed, key, what, trail });
    }

    pub(super) fn fingerprint(&self) -> u64 {
        self.hasher.finish()
    }

    pub(super) fn call_begins(&mut self, node: usize, call: &Call) -> At {
        let at = self.now();
        self.calls.insert(call.id, at);
        let given = if call.insists { " at_least" } else { "" };
        let keys = match call.keys.len() {
            ..10 => format!("{:?}", call.keys),
            count => format!("{count} keys"),
        };
        for key in call.distinct() {
            if call.effective.refresh_ahead.is_some() {
                self.ahead.insert((node, key), at);
            }
            self.note(node, Some(key), format!("call {} {:?}{given} of {keys}", call.id, call.verb));
        }
        at
    }

    pub(super) fn change_begins(&mut self, node: usize, scope: Scope, expires: bool) -> usize {
        let begun = self.now();
        self.changes.push(Change {
            node,
            scope,
            expires,
            begun,
            returned: At::NEVER,
            landed: Landed::Perhaps,
        });
        self.changes.len() - 1
    }

    pub(super) fn change_ends(&mut self, id: usize, landed: Landed) {
        let at = self.now();
        let change = &mut self.changes[id];
        (change.returned, change.landed) = (at, landed);
    }
}
