//! Two processes behind a proxy, and two nodes.

use super::Mutant;

/// The tokens of a run. 0 is none.
const TOKENS: usize = 8;
/// The change and the install are one script, the read is another.
const CHANGE: usize = 0;
const READ: usize = 1;
/// More than the number of changes by which a replica may lag: `LEAP`.
const JUMP: u8 = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Budget {
    pub(super) changes: u8,
    pub(super) gets: u8,
    pub(super) switches: u8,
    pub(super) forgets: u8,
    pub(super) flushes: u8,
    /// Whether gets carry the stamp of the last change.
    pub(super) stamps: bool,
}

/// What must not happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Broken {
    Stale,
    TwoProcesses,
    NeedlessEpoch,
}

/// A stored value: the version of the row, and the number of its seal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Value {
    version: u8,
    seal: u8,
}

/// What a replica has, too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Memory {
    token: u8,
    seq: u8,
    floor: u8,
    value: Option<Value>,
}

/// A process: its data, and the tokens whose scripts it knows, one bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Process {
    memory: Memory,
    scripts: [u8; 2],
}

/// How far a node has come on its way to a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Step {
    Idle,
    /// `M` has this token.
    Read(u8),
    /// It has this one, whose scripts the process does not know.
    Dead(u8),
    /// So many scripts of the node's own token are loaded, in place of the other.
    Loading {
        own: u8,
        was: u8,
        scripts: usize,
    },
    /// All of them are in one process.
    Ready {
        own: u8,
        was: u8,
    },
}

/// A node and its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Node {
    /// The token that its connection uses; 0 before there is one.
    pub(super) token: u8,
    step: Step,
    /// The floor that it knows, and the highest number.
    floor: u8,
    known: u8,
    /// The version whose invalidation is to be executed.
    pub(super) change: Option<u8>,
    /// The version that the get under way owes.
    pub(super) owed: Option<u8>,
}

impl Node {
    pub(super) fn may_read(&self) -> bool {
        self.token == 0 && self.step == Step::Idle
    }

    pub(super) fn may_ask(&self) -> bool {
        matches!(self.step, Step::Read(_))
    }

    pub(super) fn may_load(&self) -> bool {
        matches!(self.step, Step::Dead(_) | Step::Loading { scripts: 1, .. })
    }

    pub(super) fn may_verify(&self) -> bool {
        matches!(self.step, Step::Loading { scripts: 2, .. })
    }

    pub(super) fn may_install(&self) -> bool {
        matches!(self.step, Step::Ready { .. })
    }

    /// The connection is given up. The next one begins without a token.
    fn lost(&mut self) {
        (self.token, self.step) = (0, Step::Idle);
    }

    fn has(&mut self, token: u8) {
        (self.token, self.step) = (token, Step::Idle);
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct World {
    processes: [Process; 2],
    /// The process to which the proxy leads.
    master: usize,
    pub(super) nodes: [Node; 2],
    next: u8,
    /// The process in which each token was first used.
    homes: [Option<usize>; TOKENS],
    /// The version of the row, and the highest one whose invalidation has returned.
    row: u8,
    promised: u8,
    /// The number of the last change.
    stamp: u8,
    /// The highest number given; the clock is beyond it.
    highest: u8,
    epochs: u8,
    /// How many epochs there may be: one for each node and each fault. A node may have found a token dead in one process,
    /// and install its own in the other.
    causes: u8,
    pub(super) answered: bool,
    pub(super) broken: Option<Broken>,
    pub(super) left: Budget,
}

impl World {
    pub(super) fn opening(left: Budget) -> Self {
        let node = Node { token: 0, step: Step::Idle, floor: 0, known: 0, change: None, owed: None };
        Self {
            processes: [Process::default(); 2],
            master: 0,
            nodes: [node; 2],
            next: 1,
            homes: [None; TOKENS],
            row: 1,
            promised: 1,
            stamp: 0,
            highest: 0,
            epochs: 0,
            // The first epoch is that of the empty memory.
            causes: 1,
            answered: false,
            broken: None,
            left,
        }
    }

    fn here(&mut self) -> &mut Process {
        &mut self.processes[self.master]
    }

    fn knows(&self, script: usize, token: u8) -> bool {
        self.processes[self.master].scripts[script] & (1 << token) != 0
    }

    /// Tries to execute a script of a token. `epoch.lua` is its head. Without the script the connection is lost.
    fn run(&mut self, n: usize, script: usize, token: u8, was: Option<u8>, mutant: Mutant) -> bool {
        if !self.knows(script, token) {
            if mutant != Mutant::SilentReload {
                self.nodes[n].lost();
                return false;
            }
            self.here().scripts[script] |= 1 << token;
        }
        let (master, found) = (self.master, self.here().memory.token);
        if found != token {
            let may =
                found == 0 || was == Some(found) || (was.is_some() && mutant == Mutant::InstallUncompared);
            if !may {
                self.nodes[n].lost();
                return false;
            }
            self.begin_epoch(n, token, mutant);
        } else if self.here().memory.seq < self.nodes[n].known {
            self.begin_epoch(n, token, mutant);
        }
        match self.homes[usize::from(token)] {
            Some(home) if home != master => self.broken = Some(Broken::TwoProcesses),
            _ => self.homes[usize::from(token)] = Some(master),
        }
        let Memory { floor, seq, .. } = self.here().memory;
        let node = &mut self.nodes[n];
        (node.floor, node.known) = (floor, node.known.max(seq));
        true
    }

    fn begin_epoch(&mut self, n: usize, token: u8, mutant: Mutant) {
        let (highest, known) = (self.highest, self.nodes[n].known);
        let memory = &mut self.here().memory;
        memory.token = token;
        if mutant != Mutant::NoEpoch {
            memory.seq = if memory.seq == 0 { highest + 1 } else { memory.seq.max(known) + JUMP };
            memory.floor = memory.seq;
        }
        self.highest = self.highest.max(self.processes[self.master].memory.seq);
        self.epochs += 1;
        if self.epochs > self.causes {
            self.broken = Some(Broken::NeedlessEpoch);
        }
    }

    pub(super) fn token_read(&mut self, n: usize) {
        self.nodes[n].step = Step::Read(self.here().memory.token);
    }

    pub(super) fn asked(&mut self, n: usize, mutant: Mutant) {
        let Step::Read(found) = self.nodes[n].step else { return };
        if found != 0 && mutant == Mutant::AdoptUnproven {
            self.here().scripts.iter_mut().for_each(|tokens| *tokens |= 1 << found);
        }
        let known = found != 0 && self.knows(CHANGE, found) && self.knows(READ, found);
        if known {
            self.nodes[n].has(found);
        } else {
            self.nodes[n].step = Step::Dead(found);
        }
    }

    /// One SCRIPT LOAD. `None` if there are no more tokens.
    pub(super) fn loaded(&mut self, n: usize) -> Option<()> {
        let (own, was, scripts) = match self.nodes[n].step {
            Step::Dead(was) => {
                let own = self.next;
                self.next += 1;
                (own, was, 0)
            }
            Step::Loading { own, was, scripts } => (own, was, scripts),
            _ => return None,
        };
        if usize::from(own) >= TOKENS {
            return None;
        }
        self.here().scripts[scripts] |= 1 << own;
        self.nodes[n].step = Step::Loading { own, was, scripts: scripts + 1 };
        Some(())
    }

    /// SCRIPT EXISTS, of all scripts at once.
    pub(super) fn verified(&mut self, n: usize, mutant: Mutant) {
        let Step::Loading { own, was, .. } = self.nodes[n].step else { return };
        if mutant == Mutant::LoadUnverified || (self.knows(CHANGE, own) && self.knows(READ, own)) {
            self.nodes[n].step = Step::Ready { own, was };
        } else {
            self.nodes[n].lost();
        }
    }

    pub(super) fn installed(&mut self, n: usize, mutant: Mutant) {
        let Step::Ready { own, was } = self.nodes[n].step else { return };
        if self.run(n, CHANGE, own, Some(was), mutant) {
            self.nodes[n].has(own);
        }
    }

    pub(super) fn committed(&mut self, n: usize) {
        self.left.changes -= 1;
        self.row += 1;
        self.nodes[n].change = Some(self.row);
    }

    pub(super) fn change_executed(&mut self, n: usize, mutant: Mutant) {
        let (token, Some(version)) = (self.nodes[n].token, self.nodes[n].change) else { return };
        if self.run(n, CHANGE, token, None, mutant) {
            let memory = &mut self.here().memory;
            memory.seq += 1;
            memory.value = None;
            self.highest = self.highest.max(self.processes[self.master].memory.seq);
            (self.promised, self.stamp) = (self.promised.max(version), self.here().memory.seq);
            self.nodes[n].known = self.stamp;
            self.nodes[n].change = None;
        }
    }

    pub(super) fn get_begun(&mut self, n: usize) {
        self.left.gets -= 1;
        self.nodes[n].owed = Some(self.promised);
        if self.left.stamps {
            self.nodes[n].known = self.nodes[n].known.max(self.stamp);
        }
    }

    pub(super) fn get_executed(&mut self, n: usize, mutant: Mutant) {
        let (token, Some(owed)) = (self.nodes[n].token, self.nodes[n].owed) else { return };
        let plain = mutant == Mutant::PlainReads;
        if !plain && !self.run(n, READ, token, None, mutant) {
            return;
        }
        let floor = if plain { self.nodes[n].floor } else { self.here().memory.floor };
        match self.here().memory.value.filter(|value| value.seal >= floor) {
            Some(value) => {
                self.answered = true;
                if value.version < owed {
                    self.broken = Some(Broken::Stale);
                }
            }
            // The load and its fill, which is a script.
            None if plain && !self.run(n, READ, token, None, mutant) => return,
            None => {
                let (version, memory) = (self.row, &mut self.here().memory);
                memory.value = Some(Value { version, seal: memory.seq });
            }
        }
        self.nodes[n].owed = None;
    }

    pub(super) fn copied(&mut self) {
        self.processes[1 - self.master].memory = self.processes[self.master].memory;
    }

    pub(super) fn switched(&mut self) {
        self.left.switches -= 1;
        self.causes += self.nodes.len() as u8;
        self.master = 1 - self.master;
    }

    pub(super) fn forgotten(&mut self) {
        self.left.forgets -= 1;
        self.causes += self.nodes.len() as u8;
        self.here().scripts = [0; 2];
    }

    pub(super) fn flushed(&mut self) {
        self.left.flushes -= 1;
        self.causes += self.nodes.len() as u8;
        self.here().memory = Memory::default();
    }
}
