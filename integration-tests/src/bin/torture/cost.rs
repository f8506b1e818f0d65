//! Measures the cost of the fleet: the commands that the server executes, and how often nodes verify their L1
//! again.

use serde::Serialize;

use crate::fault::Fault;
use crate::ledger::{Count, Ledger, now};
use crate::promise::Promise;
use crate::rig::Rig;

/// The cost up to a moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spent {
    at: u64,
    commands: u64,
    /// The flushes of all healthy nodes together.
    flushes: u64,
    handles: usize,
}

impl Rig {
    /// The cost so far. It is `None` while a server is away.
    pub(crate) fn spent(&self) -> Option<Spent> {
        let commands = |server| {
            let info: String = self.ask(server, &[b"INFO", b"stats"])?;
            let line =
                info.lines().find_map(|line| line.trim_end().strip_prefix("total_commands_processed:"));
            line?.parse::<u64>().ok()
        };
        let commands = (0..self.deployment.servers().len()).map(commands).sum::<Option<u64>>()?;
        let count =
            |handle| self.ledger.count(handle, Count::Flushes).load(std::sync::atomic::Ordering::Relaxed);
        let flushes = self.handles().map(count).sum();
        Some(Spent { at: now(), commands, flushes, handles: self.handles().count() })
    }
}

/// The cost per second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(crate) struct Rate {
    pub commands_per_s: f64,
    /// The flushes of one healthy node.
    pub flushes_per_s: f64,
}

impl Rate {
    fn between(before: Option<Spent>, after: Option<Spent>) -> Option<(Self, f64)> {
        let (before, after) = (before?, after?);
        let seconds = after.at.checked_sub(before.at)? as f64 / 1e9;
        let commands = after.commands.checked_sub(before.commands)? as f64;
        let flushes = after.flushes.checked_sub(before.flushes)? as f64 / before.handles.max(1) as f64;
        (seconds > 0.5).then_some((
            Self { commands_per_s: commands / seconds, flushes_per_s: flushes / seconds },
            seconds,
        ))
    }
}

/// The highest costs that were measured.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct Costs {
    pub quiet: Rate,
    pub beside_a_bad_node: Rate,
}

/// The number of flushes that a fault may cause once, and the number per second while it lasts. A node that
/// misbehaves all the time must not make the other nodes verify their L1 all the time.
const FLUSHES: f64 = 3.0;
const FLUSHES_PER_S: f64 = 0.5;
/// The limit on the server's commands, as a multiple of those in quiet time and a number per second. It
/// includes the commands of the bad node.
const COMMANDS: f64 = 3.0;
const COMMANDS_PER_S: f64 = 2000.0;

impl Costs {
    /// Notes the cost of quiet time.
    pub(crate) fn note_quiet(&mut self, before: Option<Spent>, after: Option<Spent>) {
        if let Some((rate, _)) = Rate::between(before, after) {
            self.quiet = self.quiet.most(rate);
        }
    }

    /// Judges the cost of a time in which one node misbehaved.
    pub(crate) fn judge(&mut self, fault: Fault, ledger: &Ledger, [before, after]: [Option<Spent>; 2]) {
        let Some((rate, seconds)) = Rate::between(before, after) else { return };
        self.beside_a_bad_node = self.beside_a_bad_node.most(rate);
        let commands = COMMANDS * self.quiet.commands_per_s + COMMANDS_PER_S;
        let flushes = FLUSHES / seconds + FLUSHES_PER_S + self.quiet.flushes_per_s;
        if rate.flushes_per_s > flushes || rate.commands_per_s > commands {
            let what = format!(
                "beside {fault:?} every healthy node verified its L1 afresh {:.1} times a second ({flushes:.1} are \
                 allowed), and the server executed {:.0} commands a second ({commands:.0})",
                rate.flushes_per_s, rate.commands_per_s,
            );
            ledger.accuse(Promise::Cost, None, what);
        }
    }
}

impl Rate {
    fn most(self, other: Self) -> Self {
        Self {
            commands_per_s: self.commands_per_s.max(other.commands_per_s),
            flushes_per_s: self.flushes_per_s.max(other.flushes_per_s),
        }
    }
}
