//! The state of the model. The functions have the names of those in the code.
//!
//! The model has no clock. For each moment the state contains its age, up to the age that can matter. So time
//! goes on for ever, and the number of states is finite.

use arrayvec::ArrayVec;

use super::{Mutant, Scene};
use crate::phase::{Joined, Phase};

/// `max_staleness`, in ticks.
pub(super) const BOUND: u8 = 2;
/// `Clock::LAG`: the coarse clock may show the tick before.
pub(super) const LAG: u8 = 1;
/// Older than the bound, by at least one tick: within one tick the order of events is unknown.
const OLD: u8 = BOUND + 1;
pub(super) const CHANGES: u8 = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Message {
    Subscribed,
    Invalidated(u8),
    /// The sequence number, and the age of the heartbeat.
    Echo(u8, u8),
}

/// The generation of an entry, as far as a later step can read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Generation {
    Current,
    /// The generation that the present lookup has read, if it is not the current one.
    Seen,
    Old,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Entry {
    pub(super) version: u8,
    seq: u8,
    pub(super) generation: Generation,
}

/// A lookup between the steps of `L1::check` and the read of the entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Probe {
    /// The lowest version that it owes: the version that had been promised a bound before it started.
    owes: u8,
    step: u8,
    generation: Option<Generation>,
    entry: Option<Entry>,
}

/// A flight, and the version that it reads from L2 or from the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Load {
    started: u8,
    seq: u8,
    joinable: bool,
    /// The highest version that is owed to a lookup which waits for it.
    owes: u8,
    pub(super) read: Option<u8>,
    /// The ticket: whether the generation has moved, and whether a change has arrived.
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
    /// The version of the row. It is also the sequence number of the server.
    pub(super) row: u8,
    /// The time since the invalidation of version 2, 3… returned.
    promised: [u8; CHANGES as usize],
    /// Whether the server has the node as a subscriber.
    pub(super) subscribed: bool,
    pub(super) bus: ArrayVec<Message, 3>,
    pub(super) phase: Phase,
    pub(super) applied: u8,
    /// `serving_until`, as the time since the request was sent whose answer proved it. `None` if it is over.
    pub(super) proof: Option<u8>,
    /// Mutant: the flag that a task sets for the lease.
    pub(super) flag: bool,
    pub(super) entry: Option<Entry>,
    last_seq: u8,
    /// The heartbeat on its way: the time since its time was noted.
    pub(super) beat: Option<u8>,
    /// `state` on its way: the time since it was sent, and the sequence number after its execution.
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
    /// Version 1 is in every tier, and the node serves.
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

    /// Time passes by one tick.
    pub(super) fn grow_older(&mut self, mutant: Mutant) {
        // A higher age makes no difference.
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

    /// The version that a lookup owes if it starts now.
    pub(super) fn owed(&self) -> u8 {
        1 + self.promised.iter().filter(|age| **age == OLD).count() as u8
    }

    /// `Partition::serving_at`, with the coarse clock.
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

    /// The node notices that it is not connected.
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

    /// A lookup begins.
    pub(super) fn get(&mut self) {
        self.probe = Some(Probe { owes: self.owed(), step: 0, generation: None, entry: None });
    }

    /// One step of a lookup: `L1::check`, then the entry.
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

    /// A lookup ends without an answer of L1.
    fn missed(&mut self) -> Option<()> {
        self.probe = None;
        // No lookup has read that generation any more.
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

    /// The value of the flight is read, under a lease that was just granted, or alone.
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

    /// All lookups that may join the flight join it now: `joinable`, `may_join_unheard`.
    pub(super) fn join(&mut self, mutant: Mutant) {
        let (owed, serving) = (self.owed(), self.serving(mutant));
        if let Some(load) = &mut self.load
            && load.joinable
            && (serving || load.started <= BOUND || mutant == Mutant::JoinAtAnyAge)
        {
            load.owes = load.owes.max(owed);
        }
        // The age of a flight without joined lookups does not matter.
        if let Some(load) = &mut self.load
            && !load.joinable
        {
            load.started = OLD;
        }
    }
}

/// Whether a lease that was proven this long ago is live by the coarse clock: `lease_end`.
fn is_live(sent: u8, mutant: Mutant) -> bool {
    let allowed = if mutant == Mutant::LagIgnored { BOUND } else { BOUND - LAG };
    sent <= allowed + LAG
}
