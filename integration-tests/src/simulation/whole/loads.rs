//! Judges whether a load was needed.
//!
//! It was not needed if the fleet has a value that the call could have returned, or if another load of the key
//! is under way for which it could have waited. Every exception in the documentation is an excuse.

use super::book::{At, Book, Change, Fate, Load, Pages, Scope};
use super::breach::Promise;
use super::plan::Trouble;
use crate::surface::{Ask, Call, Kind, Options, Tiers};

/// A waiter loads by itself after this many loads without a result.
const PATIENCE: usize = 2;

/// The effects of a failure on other nodes are over after this time.
pub(super) const AFTERMATH_MS: u64 = 700;

impl Book {
    /// Notes that loads begin, and judges each. Returns their numbers.
    pub(super) fn load_begins(&self, node: usize, ask: &Ask) -> Vec<usize> {
        let mut pages = self.pages();
        pages.nodes[node].loads += 1;
        ask.keys.iter().map(|key| pages.load_begins(node, &ask.call, *key)).collect()
    }
}

impl Pages {
    fn load_begins(&mut self, node: usize, call: &Call, key: u64) -> usize {
        let begun = self.now();
        let call_begun = self.calls[&call.id];
        let mut load = Load {
            key,
            node,
            verb: call.verb,
            call_begun,
            begun,
            ended: At::NEVER,
            fate: Fate::Running,
            value: self.loads.len(),
            life: (0, 0),
            sure_ms: 0,
            least_ms: 0,
            impatient: false,
            tags: Vec::new(),
            from: begun,
            wait_timeout_ms: call.effective.wait_timeout.unwrap_or_default().as_millis() as u64,
        };
        self.note(node, Some(key), format!("load {} begins for call {}", self.loads.len(), call.id));
        load.impatient = self.is_impatient(&load);
        if self.plan.trouble != Trouble::Everything {
            self.judge_need(&load);
        }
        self.of_key[key as usize].push(self.loads.len());
        self.loads.push(load);
        self.loads.len() - 1
    }

    pub(super) fn insert_begins(&mut self, node: usize, call: &Call, key: u64) -> usize {
        let at = self.now();
        self.loads.push(Load {
            key,
            node,
            verb: call.verb,
            call_begun: at,
            begun: at,
            ended: At::NEVER,
            fate: Fate::Running,
            value: self.loads.len(),
            life: call.effective.life_ms(),
            sure_ms: 0,
            least_ms: 0,
            impatient: false,
            tags: call.effective.tags.clone(),
            from: At::NEVER,
            wait_timeout_ms: u64::MAX,
        });
        self.of_key[key as usize].push(self.loads.len() - 1);
        self.note(node, Some(key), format!("value {} is inserted", self.loads.len() - 1));
        self.loads.len() - 1
    }

    /// Notes that the inserts of a call have returned without an error.
    pub(super) fn inserts_ended(&mut self, call_begun: At, node: usize, options: &Options) {
        let at = self.now();
        let least = self.least_ms(options, false);
        let sure = if options.refresh_ahead.is_some() { 0 } else { least };
        for load in self.loads.iter_mut().filter(|load| {
            load.verb.kind() == Kind::Stores
                && load.node == node
                && load.fate == Fate::Running
                && load.begun > call_begun
        }) {
            load.sure_ms = sure.saturating_sub(at.ms - load.begun.ms);
            load.least_ms = least.saturating_sub(at.ms - load.begun.ms);
            (load.fate, load.ended, load.begun, load.from) = (Fate::Value, at, at, at);
        }
    }

    /// The minimum time in which the stored value does not count as expired. Without an L2, `l1_ttl` limits it,
    /// too.
    fn least_ms(&self, kept: &Options, absent: bool) -> u64 {
        let cap = kept.l1_ttl.filter(|_| self.plan.tiers[0] == Tiers::L1);
        let least = match absent {
            true => kept
                .negative_ttl
                .unwrap_or_default()
                .mul_f64(1.0 - kept.ttl_jitter.unwrap_or(0.0))
                .as_millis(),
            false => u128::from(kept.least_fresh_ms()),
        };
        cap.map_or(least, |cap| cap.as_millis().min(least)) as u64
    }

    pub(super) fn load_ends(&mut self, id: usize, fate: Fate, kept: &Options, previous: Option<usize>) {
        let ended = self.now();
        let least_ms = self.least_ms(kept, fate == Fate::Absent);
        let sure_ms = if kept.refresh_ahead.is_some() { 0 } else { least_ms };
        // A key that a batch leaves out is not stored, so it has no tags.
        let mut tags = if fate == Fate::LeftOut { Vec::new() } else { kept.tags.clone() };
        let mut value = id;
        if let (Fate::Unchanged, Some(previous)) = (fate, previous) {
            tags.extend(self.loads[previous].tags.iter().cloned());
            value = previous;
        }
        let negative = kept.negative_ttl.unwrap_or_default().as_millis() as u64;
        let stale = kept.stale_for.unwrap_or_default().as_millis() as u64;
        let load = &mut self.loads[id];
        (load.ended, load.fate, load.tags, load.value) = (ended, fate, tags, value);
        (load.sure_ms, load.least_ms) = (sure_ms, least_ms);
        load.life = kept.life_ms();
        if fate == Fate::Absent {
            load.life = (negative, negative + stale);
        }
        let (node, key, life) = (load.node, load.key, load.life);
        self.note(node, Some(key), format!("load {id} ends: {fate:?} of {value}, life {life:?}"));
    }

    fn judge_need(&mut self, load: &Load) {
        let of_key = &self.of_key[load.key as usize];
        let running = of_key.iter().find(|id| {
            let other = &self.loads[**id];
            other.ended == At::NEVER && self.could_wait(load, other)
        });
        let there = of_key.iter().find(|id| self.could_have(load, &self.loads[**id]));
        let what = match (running, there) {
            (Some(id), _) => format!("loaded while load {id} was under way, which it could have waited for"),
            (None, Some(id)) => format!("loaded although what load or insert {id} brought is there"),
            (None, None) => return,
        };
        self.breach(Promise::Loads, Some(load.key), what);
    }

    /// Whether a change between these moments voids the value of the load.
    fn changed(&self, load: &Load, (since, until): (At, At)) -> bool {
        self.changes
            .iter()
            .any(|change| change.begun < until && change.returned > since && self.voids(change, load))
    }

    fn voids(&self, change: &Change, load: &Load) -> bool {
        // The tags of a load under way are unknown. In a cache without an L2, a change also affects
        // neighbouring keys.
        let running = load.ended == At::NEVER && matches!(change.scope, Scope::Tags(_));
        !self.plan.is_fleet() || running || change.covers(load)
    }

    /// Whether there was a load of the key in this time that was not stored, or that failed.
    fn disturbed(&self, key: u64, (since_ms, until): (u64, At)) -> bool {
        let disturbs = |load: &Load| {
            matches!(load.fate, Fate::Failed | Fate::LeftOut | Fate::Uncached)
                && load.ended.ms.saturating_add(AFTERMATH_MS) > since_ms
                && load.begun < until
        };
        self.of_key[key as usize].iter().any(|id| disturbs(&self.loads[*id]))
    }

    /// Whether a call may have waited long enough to load by itself and store nothing: for its `wait_timeout`,
    /// or for two loads without a result.
    fn is_impatient(&self, load: &Load) -> bool {
        if load.begun.ms - load.call_begun.ms + 5 >= load.wait_timeout_ms {
            return true;
        }
        let changes = self.changes.iter().filter(|change| {
            let spans = change.begun < load.begun && change.returned > load.call_begun;
            spans && !matches!(&change.scope, Scope::Keys(keys) if !keys.contains(&load.key))
        });
        let in_vain = self.of_key[load.key as usize].iter().map(|id| &self.loads[*id]).filter(|other| {
            let nothing = matches!(other.fate, Fate::Failed | Fate::LeftOut | Fate::Uncached);
            let during =
                load.call_begun.ms < other.ended.ms + self.plan.margin_ms() && other.ended < load.begun;
            during && (nothing || self.is_refused(other))
        });
        changes.count() + in_vain.count() >= PATIENCE
    }

    /// Whether the fill of a load may have been refused: a change or a refresh met it, or it had no lease.
    pub(super) fn is_refused(&self, load: &Load) -> bool {
        let margin = self.plan.margin_ms();
        let met = |id: &usize| {
            let other = &self.loads[*id];
            other.verb.kind() == Kind::Reloads
                && other.begun != load.begun
                && other.ended.ms.saturating_add(margin) > load.begun.ms
                && other.ended.ms < load.ended.ms.saturating_add(margin)
        };
        // The value is stored or refused a moment after its load.
        let until_ms = load.ended.ms.saturating_add(margin);
        let changed = self.changes.iter().any(|change| {
            change.begun.ms <= until_ms && change.returned > load.call_begun && self.voids(change, load)
        });
        load.impatient || changed || self.of_key[load.key as usize].iter().any(met)
    }

    /// Whether a refused refresh ended between these moments. It removes the entry that it was to replace, as a
    /// change does.
    fn removed_by_reload(&self, key: u64, (since, until): (At, At)) -> bool {
        let margin = self.plan.margin_ms();
        self.of_key[key as usize].iter().map(|id| &self.loads[*id]).any(|load| {
            load.verb.kind() == Kind::Reloads
                && load.ended < until
                && load.ended.ms + margin > since.ms
                && self.is_refused(load)
        })
    }

    /// Whether the call waited for a load that found nothing. After that it joins no load on its node that may
    /// also find nothing.
    fn found_nothing(&self, load: &Load) -> bool {
        self.of_key[load.key as usize].iter().map(|id| &self.loads[*id]).any(|other| {
            matches!(other.fate, Fate::Absent | Fate::LeftOut | Fate::Failed)
                && other.ended > load.call_begun
                && other.ended < load.begun
        })
    }

    /// Whether a change may have broken the lease of a load while the answer with the lease was under way.
    fn has_lost_its_lease(&self, load: &Load) -> bool {
        let granted = self.plan.grant_ms(load.key);
        self.plan.is_fleet()
            && self.changes.iter().any(|change| {
                change.begun < load.begun
                    && change.returned.ms.saturating_add(granted) >= load.begun.ms
                    && self.voids(change, load)
            })
    }

    /// Whether the call of a load joins no flight like that of the other load, and needs no lease to load at
    /// the same time.
    fn passed_by(&self, load: &Load, other: &Load) -> bool {
        self.needs_no_lease(load) && other.verb.takes_absence() && self.found_nothing(load)
    }

    /// Whether a load needs no lease, so that only a flight of its node could keep it from running beside
    /// another load.
    fn needs_no_lease(&self, load: &Load) -> bool {
        !self.plan.is_fleet() || load.impatient
    }

    /// Whether there was a refresh between these moments. Without an L2 it takes the place of a load under way.
    fn is_reloaded(&self, key: u64, (since, until): (At, At)) -> bool {
        self.of_key[key as usize]
            .iter()
            .map(|id| &self.loads[*id])
            .any(|load| load.verb.kind() == Kind::Reloads && load.call_begun < until && load.ended > since)
    }

    /// Whether there was a load whose value must not be stored, so that some nodes may still have to remove the
    /// old value.
    fn is_removing(&self, key: u64, (since, until): (At, At)) -> bool {
        self.of_key[key as usize].iter().map(|id| &self.loads[*id]).any(|load| {
            load.fate == Fate::Uncached && load.begun < until && load.ended.ms + AFTERMATH_MS > since.ms
        })
    }

    /// Whether the call of a load could have waited for the other load, which is under way.
    fn could_wait(&self, load: &Load, other: &Load) -> bool {
        let same_node = load.node == other.node;
        if other.verb.kind() == Kind::Stores || !(same_node || self.plan.is_fleet()) {
            return false;
        }
        let reloads = load.verb.kind() == Kind::Reloads || other.verb.kind() == Kind::Reloads;
        let node = &self.nodes[load.node];
        let unheard = load.begun.ms < node.born_ms + 1_000
            && other.begun.ms + self.plan.max_staleness.as_millis() as u64 <= load.begun.ms + 5;
        let excused = unheard
            || self.passed_by(load, other)
            // The excuse also holds in the other direction: the flight of this load was there first, and the
            // other one did not join it.
            || (load.call_begun < other.begun && self.passed_by(other, load))
            || self.removed_by_reload(load.key, (other.call_begun, load.begun))
            || self.changed(other, (other.call_begun, load.begun))
            || (!self.plan.is_fleet() && reloads)
            || (!self.plan.is_fleet() && self.is_reloaded(load.key, (other.call_begun, load.begun)))
            || self.is_removing(load.key, (other.call_begun, load.begun))
            || self.has_lost_its_lease(load)
            // No lease prevents both loads.
            || (self.plan.is_fleet() && (load.impatient || other.impatient));
        !excused
    }

    /// Whether the call of a load could have returned the value of the other load.
    fn could_have(&self, load: &Load, other: &Load) -> bool {
        let margin = self.plan.margin_ms() + 2 * self.plan.grant_ms(load.key);
        let answers = match other.fate {
            Fate::Value | Fate::Unchanged => true,
            Fate::Absent => load.verb.takes_absence(),
            _ => false,
        };
        // The last read of L2, which grants the lease, comes just before the load. Without a lease there may be
        // no such read.
        let looked = if load.impatient { load.call_begun } else { load.begun };
        let in_time = other.ended.ms.saturating_add(margin) < looked.ms
            && other.ended.ms.saturating_add(other.sure_ms) > load.begun.ms + margin;
        let in_reach = self.plan.is_fleet() || load.node == other.node;
        if !(answers && in_time && in_reach) || load.verb.kind() == Kind::Reloads {
            return false;
        }
        let ended = self.nodes[other.node].ended_ms.is_some_and(|at| at < other.ended.ms + margin);
        // The lease was granted a moment before the load began.
        let granted = self.plan.grant_ms(load.key);
        let changed = self.changes.iter().any(|change| {
            change.begun < load.begun
                && change.returned.ms.saturating_add(granted) > other.begun.ms
                && self.voids(change, other)
        });
        let ahead = self.ahead.get(&(load.node, load.key)).is_some_and(|at| *at > other.call_begun);
        !(ahead
            || other.impatient
            || ended
            || changed
            || self.is_replaced(other, load, margin)
            || self.disturbed(load.key, (other.call_begun.ms, load.begun)))
    }

    /// Whether another entry may have replaced the value of a load: one of a refresh, or one of a later load
    /// that has expired since.
    fn is_replaced(&self, other: &Load, load: &Load, margin: u64) -> bool {
        self.of_key[load.key as usize].iter().map(|id| &self.loads[*id]).any(|later| {
            let reloads = later.verb.kind() == Kind::Reloads
                && later.begun != other.begun
                && later.call_begun < load.begun
                && later.ended.ms.saturating_add(margin) > other.begun.ms;
            let is_gone = (later.fate == Fate::Absent && !load.verb.takes_absence())
                || later.ended.ms.saturating_add(later.sure_ms) <= load.begun.ms + margin;
            let is_stored = matches!(later.fate, Fate::Value | Fate::Unchanged | Fate::Absent);
            reloads || (later.ended > other.ended && later.ended < load.begun && is_stored && is_gone)
        })
    }
}
