//! What `top` shows: the last answers, and what has changed since those before.

use std::collections::HashMap;

use tokio::time::Instant;

use crate::fleet::{Answers, Node};
use crate::stats::{health, hit_rate};

/// Counters that are shown as rates.
const GROWING: [&str; 6] = ["l1_hits", "l2_hits", "misses", "coalesced_waits", "stale_served", "loads"];

/// What is shown.
pub(super) struct View {
    pub(super) namespace: String,
    pub(super) rows: Vec<Row>,
    /// Listeners that did not answer.
    pub(super) missing: u64,
    /// Why the last round has failed.
    pub(super) failed: Option<String>,
    changes_per_s: Option<f64>,
    last: Option<Round>,
}

/// The round before.
struct Round {
    at: Instant,
    changes: u64,
    nodes: HashMap<String, [u64; GROWING.len()]>,
}

/// One node.
pub(super) struct Row {
    pub(super) id: String,
    pub(super) process: String,
    pub(super) health: &'static str,
    pub(super) hit_rate: f64,
    /// Per second, once there are two rounds.
    pub(super) lookups: Option<f64>,
    pub(super) loads: Option<f64>,
    pub(super) entries: u64,
    pub(super) in_flight: u64,
    pub(super) pending: u64,
}

impl View {
    pub(super) fn new(namespace: &str) -> Self {
        let namespace = namespace.to_owned();
        Self { namespace, rows: Vec::new(), missing: 0, failed: None, changes_per_s: None, last: None }
    }

    /// Takes the answers of a round that began `at` this time. `changes` have been heard so far.
    pub(super) fn take(&mut self, answers: &Answers, changes: u64, at: Instant) {
        let last = self.last.take();
        let seconds = last.as_ref().map_or(0.0, |last| (at - last.at).as_secs_f64());
        let per_s = |now: u64, before: u64| now.saturating_sub(before) as f64 / seconds;
        let grown = |node: &Node, from: usize, to: usize| {
            let before = last.as_ref()?.nodes.get(&node.id)?;
            let now = growing(node);
            (seconds > 0.0).then(|| per_s(now[from..to].iter().sum(), before[from..to].iter().sum()))
        };
        self.changes_per_s = last.as_ref().filter(|_| seconds > 0.0).map(|last| per_s(changes, last.changes));
        self.rows = answers
            .nodes
            .iter()
            .map(|node| Row {
                id: node.id.clone(),
                process: format!("{}/{}", node.text("host"), node.text("pid")),
                health: health(node),
                hit_rate: hit_rate(|name| node.number(name)),
                lookups: grown(node, 0, GROWING.len() - 1),
                loads: grown(node, GROWING.len() - 1, GROWING.len()),
                entries: node.number("entries"),
                in_flight: node.number("in_flight"),
                pending: node.number("pending_invalidations"),
            })
            .collect();
        let nodes = answers.nodes.iter().map(|node| (node.id.clone(), growing(node))).collect();
        self.last = Some(Round { at, changes, nodes });
        self.missing = answers.missing;
        self.failed = None;
    }

    /// A round has failed. The rows of the last one stay.
    pub(super) fn fail(&mut self, why: String) {
        self.failed = Some(why);
    }

    /// Lookups of all nodes in a second. `None` if no node has answered twice.
    pub(super) fn lookups(&self) -> Option<f64> {
        sum(self.rows.iter().map(|row| row.lookups))
    }

    /// Loads of all nodes in a second.
    pub(super) fn loads(&self) -> Option<f64> {
        sum(self.rows.iter().map(|row| row.loads))
    }

    /// Changes of the namespace in a second.
    pub(super) fn changes(&self) -> Option<f64> {
        self.changes_per_s
    }
}

fn growing(node: &Node) -> [u64; GROWING.len()] {
    GROWING.map(|name| node.number(name))
}

fn sum(rates: impl Iterator<Item = Option<f64>>) -> Option<f64> {
    rates.flatten().fold(None, |sum, rate| Some(sum.unwrap_or(0.0) + rate))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn rates_are_those_between_two_rounds_of_one_node() {
        let answers = |id: &str, hits: &str, loads: &str| Answers {
            nodes: vec![Node::for_test(id, &[("l1_hits", hits), ("loads", loads)])],
            missing: 0,
        };
        let (mut view, start) = (View::new("users"), Instant::now());
        view.take(&answers("a", "100", "1"), 7, start);
        assert_eq!((view.lookups(), view.loads(), view.changes()), (None, None, None));
        view.take(&answers("a", "300", "5"), 17, start + Duration::from_secs(2));
        assert_eq!((view.lookups(), view.loads(), view.changes()), (Some(100.0), Some(2.0), Some(5.0)));
        view.take(&answers("b", "9000", "5"), 17, start + Duration::from_secs(3));
        assert_eq!(view.lookups(), None, "another node, of which no earlier number is known");
    }
}
