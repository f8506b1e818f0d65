//! Progress on the standard error while the demo runs.

use std::time::Duration;

use indicatif::{HumanCount, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::clock::SECOND;
use crate::referee::Seen;

/// The extent of the traffic.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Goal {
    Seconds(f64),
    Requests(u64),
}

/// A line of phases, and a bar while there is traffic. Without a terminal it prints the phases only.
pub(crate) struct Progress {
    bar: ProgressBar,
    goal: Goal,
}

impl Progress {
    pub(crate) fn new(goal: Goal) -> Self {
        let length = match goal {
            Goal::Seconds(seconds) => (seconds * 1000.0) as u64,
            Goal::Requests(requests) => requests,
        };
        let bar = ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr());
        bar.set_style(ProgressStyle::with_template("{spinner} {msg}").expect("a template"));
        bar.enable_steady_tick(Duration::from_millis(100));
        Self { bar, goal }
    }

    pub(crate) fn phase(&self, text: &str) {
        if self.bar.is_hidden() {
            eprintln!("{text}");
        } else {
            self.bar.set_message(text.to_owned());
        }
    }

    pub(crate) fn traffic_begins(&self, text: &str) {
        let style = ProgressStyle::with_template("{bar:30} {percent:>3} % {msg}").expect("a template");
        self.bar.set_style(style);
        self.phase(text);
    }

    pub(crate) fn traffic(&self, seen: &Seen) {
        let Some(first) = seen.first else { return };
        let took = seen.last.saturating_sub(first);
        match self.goal {
            Goal::Seconds(_) => self.bar.set_position(took / (SECOND / 1000)),
            Goal::Requests(_) => self.bar.set_position(seen.requests),
        }
        if !self.bar.is_hidden() {
            let (requests, queries, stale) =
                (HumanCount(seen.requests), HumanCount(seen.queries), seen.stale);
            self.bar.set_message(format!("{requests} requests, {queries} database queries, {stale} stale"));
        }
    }

    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
