//! The state of the model, and its functions by the names they have in the code.
//!
//! There is no clock: of each moment the state holds how long ago it was, and of none beyond what can
//! matter. So time goes on for ever in a space that ends.

use arrayvec::ArrayVec;

use super::{Mutant, Scene};
use crate::phase::{Joined, Phase};

/// `max_staleness`, in ticks.
pub(super) const BOUND: u8 = 2;
/// `Clock::LAG`: a glance may show the tick before.
pub(super) const LAG: u8 = 1;
/// Older than the bound. Strictly: within one tick, what came first does not show.
const OLD: u8 = BOUND + 1;
pub(super) const CHANGES: u8 = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Message {
    Subscribed,
    Invalidated(u8),
    /// The sequence, and how long ago the heartbeat was begun.
    Echo(u8, u8),
}

/// Which generation, as far as anyone can still ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Generation {
    Current,
    /// The one that the get under way has read, if it is not the current one.
    Seen,
    Old,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Entry {
    pub(super) version: u8,
    seq: u8,
    pub(super) generation: Generation,
}

/// A get between the steps of `L1::check` and the reading of the entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Probe {
    /// The least version it owes: what had been promised a bound before it started.
    owes: u8,
    step: u8,
    generation: Option<Generation>,
    entry: Option<Entry>,
}

/// A flight, and what it reads: from L2 or from the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Load {
    started: u8,
    seq: u8,
    joinable: bool,
    /// The most that anyone is owed who waits for it.
    owes: u8,
    pub(super) read: Option<u8>,
    /// The ticket: the generation has moved; a change was heard.
    spoiled: bool,
    heard: bool,
}

/// A new baseline between its two halves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Half {
    sent: u8,
    flushes: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Story {
    /// The row's version, which is also the server's sequence.
    pub(super) row: u8,
    /// How long ago the invalidation of version 2, 3… returned.
    promised: [u8; CHANGES as usize],
    /// The server knows the node as a subscriber.
    pub(super) subscribed: bool,
    pub(super) bus: ArrayVec<Message, 3>,
    pub(super) phase: Phase,
    pub(super) applied: u8,
    /// `serving_until`, as how long ago the question was sent whose answer proved it; `None` if over.
    pub(super) proof: Option<u8>,
    /// Mutant: what a task says of the lease.
    pub(super) flag: bool,
    pub(super) entry: Option<Entry>,
    last_seq: u8,
    /// The heartbeat on its way: how long ago its time was noted.
    pub(super) beat: Option<u8>,
    /// `state` on its way: how long ago it was sent, and the sequence once it is executed.
    pub(super) state: Option<(u8, Option<u8>)>,
    pub(super) half: Option<Half>,
    pub(super) probe: Option<Probe>,
    pub(super) load: Option<Load>,
    pub(super) lost: u8,
    pub(super) disconnected: u8,
    pub(super) stale: bool,
    pub(super) new_hits: bool,
}

impl Story {
    /// Version 1 everywhere, the node serving.
    pub(super) fn opening(scene: &Scene) -> Self {
        Self {
            row: 1,
            promised: [0; CHANGES as usize],
            subscribed: true,
            bus: ArrayVec::new(),
            phase: Phase::Live,
            applied: 1,
            proof: Some(0),
            flag: scene.mutant == Mutant::FlagNotClock,
            entry: scene.hits.then_some(Entry { version: 1, seq: 1, generation: Generation::Current }),
            last_seq: 1,
            beat: None,
            state: None,
            half: None,
            probe: None,
            load: None,
            lost: 0,
            disconnected: 0,
            stale: false,
            new_hits: false,
        }
    }

    /// A tick later.
    pub(super) fn grow_older(&mut self, mutant: Mutant) {
        // What is older than this is as good as endlessly old.
        let oldest = if mutant == Mutant::LagIgnored { OLD + LAG } else { OLD };
        let older = |age: &mut u8| *age = (*age + 1).min(oldest);
        let changed = usize::from(self.row - 1);
        self.promised[..changed].iter_mut().for_each(|age| *age = (*age + 1).min(OLD));
        for message in &mut self.bus {
            if let Message::Echo(_, sent) = message {
                older(sent);
            }
        }
        self.beat.iter_mut().for_each(older);
        self.state.iter_mut().for_each(|(sent, _)| older(sent));
        self.half.iter_mut().for_each(|half| older(&mut half.sent));
        self.load.iter_mut().for_each(|load| older(&mut load.started));
        self.proof.iter_mut().for_each(older);
        self.proof = self.proof.filter(|sent| is_live(*sent, mutant));
    }

    /// What a get that starts now owes.
    pub(super) fn owed(&self) -> u8 {
        1 + self.promised.iter().filter(|age| **age == OLD).count() as u8
    }

    /// `Partition::serving_at`, as a glance at the clock has it.
    fn serving(&self, mutant: Mutant) -> bool {
        if mutant == Mutant::FlagNotClock { self.flag } else { self.proof.is_some() }
    }

    fn suspend(&mut self, phase: Phase) {
        (self.phase, self.proof, self.flag) = (phase, None, false);
    }

    fn extend(&mut self, sent: u8, mutant: Mutant) {
        if is_live(sent, mutant) {
            self.proof = Some(self.proof.map_or(sent, |proof| proof.min(sent)));
            self.flag = mutant == Mutant::FlagNotClock;
        }
    }

    /// The node finds that it is not connected.
    pub(super) fn lost(&mut self, mutant: Mutant) {
        self.suspend(Phase::Deaf);
        if mutant == Mutant::FlushBeforeSubscribed {
            self.move_generation();
        }
    }

    /// `Listener::notify`.
    pub(super) fn deliver(&mut self, message: Message, mutant: Mutant) {
        match message {
            Message::Subscribed => self.suspend(Phase::Syncing(None)),
            Message::Invalidated(seq) => {
                self.changed(seq);
                self.heard(seq);
            }
            Message::Echo(seq, sent) if self.phase == Phase::Live => {
                if seq == self.applied || mutant == Mutant::HeartbeatWithoutSequenceCheck {
                    let sent = if mutant == Mutant::BeatTimedByItsAnswer { 0 } else { sent };
                    self.extend(sent, mutant);
                } else {
                    self.suspend(Phase::Syncing(None));
                }
            }
            Message::Echo(..) => {}
        }
    }

    /// `Stripes::changed`.
    fn changed(&mut self, seq: u8) {
        self.last_seq = self.last_seq.max(seq);
        if self.entry.is_some_and(|entry| entry.seq < seq) {
            self.entry = None;
        }
        if let Some(load) = &mut self.load {
            load.heard = true;
            load.joinable &= load.seq >= seq;
        }
    }

    /// `Partition::heard`.
    fn heard(&mut self, seq: u8) {
        (self.phase, self.applied) = self.phase.heard(seq, self.applied);
        if self.phase != Phase::Live {
            (self.proof, self.flag) = (None, false);
        }
    }

    /// The first half of `Partition::baseline`: the generation moves.
    pub(super) fn baseline(&mut self, mutant: Mutant) -> Option<()> {
        let (sent, seq) = self.state.take()?;
        let (Phase::Syncing(heard), seq) = (self.phase, seq?) else { return Some(()) };
        let (reached, missed) = match Joined::of(heard, seq, self.applied) {
            Joined::Whole(reached) => (reached, false),
            Joined::Missed(reached) => (reached, true),
            Joined::Again => {
                self.phase = Phase::Syncing(None);
                return Some(());
            }
        };
        let unfenced = matches!(mutant, Mutant::ReconnectWithoutFlush | Mutant::FlushBeforeSubscribed);
        let half = Half { sent, flushes: missed && !unfenced };
        self.applied = reached;
        match mutant {
            Mutant::LeaseBeforeGeneration => self.serve_from(half, mutant),
            _ if half.flushes => self.move_generation(),
            _ => {}
        }
        self.half = Some(half);
        Some(())
    }

    /// The second half: L1 serves.
    pub(super) fn baseline_ends(&mut self, mutant: Mutant) -> Option<()> {
        let half = self.half.take()?;
        match mutant {
            Mutant::LeaseBeforeGeneration if half.flushes => self.move_generation(),
            Mutant::LeaseBeforeGeneration => {}
            _ => self.serve_from(half, mutant),
        }
        Some(())
    }

    fn serve_from(&mut self, half: Half, mutant: Mutant) {
        self.phase = Phase::Live;
        self.extend(if mutant == Mutant::StateTimedByItsAnswer { 0 } else { half.sent }, mutant);
    }

    fn move_generation(&mut self) {
        let seen = |of: &Probe| of.generation == Some(Generation::Current);
        let now = if self.probe.as_ref().is_some_and(seen) { Generation::Seen } else { Generation::Old };
        let past = |generation: &mut Generation| {
            if *generation == Generation::Current {
                *generation = now;
            }
        };
        self.entry.iter_mut().for_each(|entry| past(&mut entry.generation));
        if let Some(probe) = &mut self.probe {
            probe.entry.iter_mut().for_each(|entry| past(&mut entry.generation));
            probe.generation.iter_mut().for_each(past);
        }
        if let Some(load) = &mut self.load {
            (load.spoiled, load.joinable) = (true, false);
        }
    }

    /// A get begins.
    pub(super) fn get(&mut self) {
        self.probe = Some(Probe { owes: self.owed(), step: 0, generation: None, entry: None });
    }

    /// One step of a get: `L1::check`, then the entry.
    pub(super) fn probe(&mut self, mutant: Mutant) -> Option<()> {
        let mut probe = self.probe?;
        let order = match mutant {
            Mutant::EntryBeforeLease => ["entry", "lease", "generation"],
            Mutant::GenerationBeforeLease => ["generation", "lease", "entry"],
            _ => ["lease", "generation", "entry"],
        };
        match order[usize::from(probe.step)] {
            "lease" if !self.serving(mutant) => return self.missed(),
            "lease" => {}
            "generation" => probe.generation = Some(Generation::Current),
            _ if self.entry.is_none() => return self.missed(),
            _ => probe.entry = self.entry,
        }
        probe.step += 1;
        self.probe = Some(probe);
        if probe.step == 3 {
            if let Some(entry) = probe.entry.filter(|entry| Some(entry.generation) == probe.generation) {
                self.stale |= entry.version < probe.owes;
                self.new_hits |= entry.version > 1;
            }
            return self.missed();
        }
        Some(())
    }

    /// A get is over.
    fn missed(&mut self) -> Option<()> {
        self.probe = None;
        // Nobody has seen it any more.
        if let Some(entry) = &mut self.entry
            && entry.generation == Generation::Seen
        {
            entry.generation = Generation::Old;
        }
        Some(())
    }

    /// A flight begins.
    pub(super) fn enter(&mut self, scene: &Scene) {
        self.load = Some(Load {
            started: 0,
            seq: self.applied,
            joinable: scene.joins,
            owes: if scene.joins { self.owed() } else { 0 },
            read: None,
            spoiled: false,
            heard: false,
        });
    }

    /// The flight's value is read; under a lease granted just before, or alone.
    pub(super) fn row_read(&mut self, leased: bool) -> Option<()> {
        let row = self.row;
        let load = self.load.as_mut()?;
        load.read = Some(row);
        load.seq = if leased { row } else { load.seq };
        Some(())
    }

    /// `Lead::land`.
    pub(super) fn land(&mut self, scene: &Scene) -> Option<()> {
        let load = self.load.take()?;
        let version = load.read?;
        self.stale |= version < load.owes;
        if scene.hits && !load.spoiled && (!load.heard || self.last_seq <= load.seq) {
            self.entry = Some(Entry { version, seq: load.seq, generation: Generation::Current });
        }
        Some(())
    }

    /// Whoever may join the flight now does: `joinable`, `may_join_unheard`.
    pub(super) fn join(&mut self, mutant: Mutant) {
        let (owed, serving) = (self.owed(), self.serving(mutant));
        if let Some(load) = &mut self.load
            && load.joinable
            && (serving || load.started <= BOUND || mutant == Mutant::JoinAtAnyAge)
        {
            load.owes = load.owes.max(owed);
        }
        // Of a flight that nobody joins it does not matter how old it is.
        if let Some(load) = &mut self.load
            && !load.joinable
        {
            load.started = OLD;
        }
    }
}

/// Whether a lease proven so long ago is live, to who looks at the clock at a glance: `lease_end`.
fn is_live(sent: u8, mutant: Mutant) -> bool {
    let allowed = if mutant == Mutant::LagIgnored { BOUND } else { BOUND - LAG };
    sent <= allowed + LAG
}
