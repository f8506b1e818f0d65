//! Judges whether an answer was allowed.

use std::time::Duration;

use async_cache::{Error, ErrorKind, Source};

use super::book::{At, Change, Fate, Landed, Load, Pages, Scope};
use super::breach::Promise;
use super::plan::Trouble;
use crate::surface::{Call, Kind, Written};

/// A call that has ended, with the facts by which its answers are judged.
pub(super) struct Asked<'a> {
    pub(super) call: &'a Call,
    pub(super) node: usize,
    pub(super) begun: At,
    /// The change whose stamp the call required.
    pub(super) stamp: Option<usize>,
    /// The keys that were judged already. A key that is given twice is one lookup.
    pub(super) told: Vec<u64>,
    /// Whether the node reports that it returned an unverified value, as its policy allows.
    pub(super) unverified: bool,
    /// Where the answer was found and how old it is, if the call has asked that.
    pub(super) traced: Option<(Source, Duration)>,
}

/// A load without a result counts as a failure for this time: its `error_backoff`, and the time in which other
/// nodes may still see the failure.
const FAILURE_MS: u64 = 1_000 + super::loads::AFTERMATH_MS;

/// The shortest `wait_timeout` that is drawn.
const SHORTEST_WAIT_MS: u64 = 200;

impl Pages {
    pub(super) fn judge(&mut self, asked: &mut Asked<'_>, key: u64, answer: Option<&Written>) {
        self.answers += 1;
        self.nodes[asked.node].lookups += 1;
        let said = answer.map_or("none".to_owned(), |value| format!("value {}", value.origin));
        self.note(asked.node, Some(key), format!("call {} is answered: {said}", asked.call.id));
        let stale = self.nodes[asked.node].stale;
        match answer {
            Some(value) => self.judge_value(asked, key, value),
            None if asked.call.verb.takes_absence() => self.judge_absence(asked, key),
            // A verb without a loader may find no value, or an absence.
            None => self.nodes[asked.node].stale.1 += 1,
        }
        if asked.told.contains(&key) {
            self.nodes[asked.node].stale = stale;
        }
        asked.told.push(key);
    }

    fn judge_value(&mut self, asked: &Asked<'_>, key: u64, value: &Written) {
        let origin = value.origin as usize;
        let known = self.loads.get(origin).is_some_and(|load| load.key == key);
        if !known || value.key != key || !value.is_intact() || value.version > self.versions[key as usize] {
            let what = format!(
                "read value {origin} of key {}, version {}, not as written",
                value.key, value.version
            );
            return self.breach(Promise::Values, Some(key), what);
        }
        let lives: Vec<Load> = self.of_key[key as usize]
            .iter()
            .map(|id| &self.loads[*id])
            .filter(|load| load.value == origin && load.fate != Fate::Failed)
            .cloned()
            .collect();
        self.judge_staleness(asked, key, &lives);
        self.judge_age(asked, key, &lives);
        if let Some((source, age)) = asked.traced {
            self.judge_trace(asked, key, &lives, (source, age.as_millis() as u64));
        }
    }

    /// Judges what a call was told of its answer: the age is that of one of the value's lives, and L1 has not answered a
    /// call that skips it.
    fn judge_trace(&mut self, asked: &Asked<'_>, key: u64, lives: &[Load], (source, told): (Source, u64)) {
        let (now, slack) = (self.now().ms, self.slack_ms(key));
        let is_age = |load: &Load| {
            let ended = load.ended.ms.min(now);
            // An insert is stored while its call runs.
            let begun = if load.verb.kind() == Kind::Stores { load.call_begun.ms } else { ended };
            told <= now - begun.min(now) + slack && told + slack >= asked.begun.ms.saturating_sub(ended)
        };
        if source == Source::L1 && asked.call.skips_l1
            || source == Source::Nowhere
            || !lives.iter().any(is_age)
        {
            let ages: Vec<u64> = lives.iter().map(|load| now.saturating_sub(load.ended.ms)).collect();
            let what = format!(
                "call {} was told that its value is from {source:?} and {told} ms old, and its ages are {ages:?} ms",
                asked.call.id
            );
            self.breach(Promise::Values, Some(key), what);
        }
    }

    /// Promises 2, 3 and 4 of `docs/staleness.md`.
    ///
    /// A value that a change has expired is a fallback until its `stale_for` is over. It is none for a call with the
    /// stamp of that change.
    fn judge_staleness(&mut self, asked: &Asked<'_>, key: u64, lives: &[Load]) {
        let is_fallback = (self.takes_stale(asked, key) || asked.unverified)
            && lives.iter().any(|load| load.life.1 > load.life.0);
        let bound = self.plan.max_staleness.as_millis() as u64;
        let owed = |change: &Change| {
            let here = change.node == asked.node && change.returned < asked.begun;
            let anywhere = change.landed == Landed::Surely
                && !asked.unverified
                && change.returned.ms.saturating_add(bound) < asked.begun.ms;
            !(change.expires && is_fallback) && ((here && change.returned != At::NEVER) || anywhere)
        };
        let is_from_before =
            |change: &Change| lives.iter().all(|load| load.from < change.begun && change.covers(load));
        let stamped = asked.stamp.map(|id| &self.changes[id]).filter(|change| is_from_before(change));
        let broken =
            stamped.or_else(|| self.changes.iter().find(|change| owed(change) && is_from_before(change)));
        if let Some(change) = broken {
            let by = if stamped.is_some() { "insisted on with its stamp" } else { "owed" };
            let with = match lives.iter().any(|load| matches!(load.fate, Fate::Absent | Fate::LeftOut)) {
                true => "that there is none, by loads",
                false => "what is",
            };
            let what = format!(
                "call {} ({:?}) was answered with {with} from before {:?} of node {}, called at {} ms and returned at {} ms, which is {by}",
                asked.call.id,
                asked.call.verb,
                change.scope,
                change.node,
                change.begun.ms,
                change.returned.ms,
            );
            self.breach(Promise::Staleness, Some(key), what);
        }
    }

    /// The time by which a life may seem longer. Values that are stored together are stored later.
    fn slack_ms(&self, key: u64) -> u64 {
        self.plan.slack_ms() + self.plan.many_ms(key)
    }

    fn judge_age(&mut self, asked: &Asked<'_>, key: u64, lives: &[Load]) {
        let slack = self.slack_ms(key);
        let now = self.now().ms;
        // A load that has not ended has age 0.
        let age = |load: &Load, at: u64| at.saturating_sub(load.ended.ms);
        let is_within = |limit: &dyn Fn(&Load) -> u64| {
            lives.iter().any(|load| age(load, asked.begun.ms) <= limit(load) + slack)
        };
        let may_be_stale = self.takes_stale(asked, key) || asked.unverified;
        let fresh = is_within(&|load| load.life.0);
        let kept = is_within(&|load| load.life.1);
        let is_expired = |load: &Load| {
            self.changes
                .iter()
                .any(|change| change.expires && change.covers(load) && load.from < change.begun)
        };
        let ripe = lives.iter().all(|load| is_expired(load) || age(load, now) + slack >= load.least_ms);
        let node = &mut self.nodes[asked.node];
        node.stale.0 += u64::from(!fresh);
        node.stale.1 += u64::from(ripe);
        let wrong = match (fresh, kept) {
            (true, _) => return,
            (false, true) if may_be_stale => return,
            (false, true) => "as if it were fresh",
            (false, false) => "past its end as a fallback",
        };
        let what = match lives.last() {
            Some(load) => format!(
                "call {} was answered {wrong}: {} ms after the value was made, whose life is {:?} ms",
                asked.call.id,
                age(load, asked.begun.ms),
                load.life
            ),
            None => format!("call {} was answered with what no load brought", asked.call.id),
        };
        self.breach(Promise::Age, Some(key), what);
    }

    /// Judges an absence. It has a life, and a change voids it, like a value.
    fn judge_absence(&mut self, asked: &Asked<'_>, key: u64) {
        let slack = self.slack_ms(key);
        let stale = self.takes_stale(asked, key) || asked.unverified;
        let allows = |load: &&Load| match load.fate {
            Fate::LeftOut => load.ended > asked.begun,
            Fate::Absent => {
                let limit = if stale { load.life.1 } else { load.life.0 };
                asked.begun.ms <= load.ended.ms + limit + slack
            }
            _ => false,
        };
        let of_key = self.of_key[key as usize].iter().map(|id| &self.loads[*id]);
        let absences: Vec<Load> = of_key.filter(allows).cloned().collect();
        self.nodes[asked.node].stale.1 += 1;
        if absences.is_empty() {
            let what = format!("call {} found nothing, and no load found so lately", asked.call.id);
            return self.breach(Promise::Age, Some(key), what);
        }
        self.judge_staleness(asked, key, &absences);
    }

    /// Judges the answer that there is a value. It needs a value that could answer.
    pub(super) fn judge_presence(&mut self, asked: &Asked<'_>, key: u64) {
        self.answers += 1;
        let slack = self.slack_ms(key);
        let limit = |load: &Load| if asked.unverified { load.life.1 } else { load.life.0 };
        let lives = |load: &&Load| {
            let stored = matches!(load.fate, Fate::Value | Fate::Unchanged);
            let inserts = load.fate == Fate::Running && load.verb.kind() == Kind::Stores;
            (stored || inserts) && asked.begun.ms <= load.ended.ms + limit(load) + slack
        };
        let of_key = self.of_key[key as usize].iter().map(|id| &self.loads[*id]);
        let values: Vec<Load> = of_key.filter(lives).cloned().collect();
        if values.is_empty() {
            let what = format!("call {} says that there is a value, and none lives", asked.call.id);
            return self.breach(Promise::Age, Some(key), what);
        }
        self.judge_staleness(asked, key, &values);
    }

    /// Whether a stale value may answer: at once, or because a load has failed.
    fn takes_stale(&mut self, asked: &Asked<'_>, key: u64) -> bool {
        let options = &asked.call.effective;
        let fresh = asked.traced.is_some_and(|(source, _)| source != Source::Stale);
        if asked.call.verb.kind() != Kind::Loads || fresh {
            return false;
        }
        let at_once = options.stale_while_revalidate == Some(true) || options.soft_timeout.is_some();
        at_once || (options.stale_on_error != Some(false) && self.source_failed(asked, key))
    }

    /// Whether a load of the key ended without a value during the call or shortly before. It failed; or its
    /// fill was refused, which another node cannot distinguish from a failure; or it took so long that a caller
    /// gave up waiting, which is a failure on that node.
    fn source_failed(&mut self, asked: &Asked<'_>, key: u64) -> bool {
        let now = self.now().ms;
        let since_ms = asked.begun.ms.saturating_sub(FAILURE_MS + self.plan.slack_ms());
        let failed = |id: &usize| {
            let load = &self.loads[*id];
            let nothing = matches!(load.fate, Fate::Failed | Fate::LeftOut | Fate::Uncached);
            let refused = load.ended != At::NEVER && self.is_refused(load);
            let slow = load.ended.ms.min(now).saturating_sub(load.begun.ms) >= SHORTEST_WAIT_MS;
            load.ended.ms >= since_ms && (nothing || refused || slow)
        };
        self.plan.trouble == Trouble::Everything
            || self.of_key[key as usize].iter().any(failed)
            || self.waited_out(asked)
    }

    /// Whether the call has lasted for its own `load_timeout`, while a load of one of its keys was under way or
    /// had just ended. If one key of a batch fails, all its keys fail.
    fn waited_out(&mut self, asked: &Asked<'_>) -> bool {
        let (now, slack) = (self.now().ms, self.plan.slack_ms());
        let limit = asked.call.effective.load_timeout.unwrap_or_default().as_millis() as u64;
        let beside = |id: &usize| {
            let load = &self.loads[*id];
            load.begun.ms <= now && load.ended.ms.saturating_add(slack) >= now
        };
        let mut of_call = asked.call.keys.iter().flat_map(|key| &self.of_key[*key as usize]);
        now >= asked.begun.ms + limit && of_call.any(beside)
    }

    /// Whether the node remembers the error of a load that failed within the `error_ttl` of the call. It does not if it
    /// must know of a change since the load began.
    fn remembers(&self, asked: &Asked<'_>, key: u64) -> bool {
        let Some(error_ttl) = asked.call.effective.error_ttl else { return false };
        let bound = self.plan.max_staleness.as_millis() as u64;
        let is_known = |id: usize, change: &Change| {
            let here = change.node == asked.node && change.returned < asked.begun;
            let anywhere =
                change.landed == Landed::Surely && change.returned.ms.saturating_add(bound) < asked.begun.ms;
            here || anywhere || asked.stamp == Some(id)
        };
        let concerns = |change: &Change| !matches!(&change.scope, Scope::Keys(keys) if !keys.contains(&key));
        let of_key = self.of_key[key as usize].iter().map(|id| &self.loads[*id]);
        of_key.filter(|load| load.node == asked.node && load.fate == Fate::Failed).any(|load| {
            let until_ms = load.ended.ms + error_ttl.as_millis() as u64 + self.slack_ms(key);
            let voids = |(id, change): (usize, &Change)| {
                change.begun > load.begun && concerns(change) && is_known(id, change)
            };
            asked.begun.ms <= until_ms && !self.changes.iter().enumerate().any(voids)
        })
    }

    /// Without faults only a loader may fail a call.
    pub(super) fn judge_error(&mut self, asked: &Asked<'_>, key: u64, error: &Error) {
        let kind = error.kind();
        self.nodes[asked.node].stale.1 += 1;
        self.note(asked.node, Some(key), format!("call {} fails: {kind:?}", asked.call.id));
        let ending = self.nodes[asked.node].ended_ms.is_some();
        let by_loader = matches!(kind, ErrorKind::Loader | ErrorKind::LoaderPanicked | ErrorKind::Timeout);
        let waited_out = self.waited_out(asked);
        let failed = |id: &usize| {
            let load = &self.loads[*id];
            load.fate == Fate::Failed && load.ended > asked.begun
        };
        let of_call = asked.call.keys.iter().flat_map(|key| &self.of_key[*key as usize]);
        let explained = match kind {
            ErrorKind::Shutdown => ending,
            ErrorKind::Backend => self.plan.trouble == Trouble::Everything,
            ErrorKind::Overloaded => {
                asked.call.verb.is_loaders() && asked.call.gathering.max_pending.is_some()
            }
            // The call has waited up to its own limit for a load with a higher limit.
            ErrorKind::Timeout if waited_out => true,
            _ if by_loader => {
                let remembered = |key: &u64| self.remembers(asked, *key);
                self.plan.trouble == Trouble::Everything
                    || of_call.into_iter().any(failed)
                    || asked.call.keys.iter().any(remembered)
            }
            _ => false,
        };
        if !explained && !ending {
            let what = format!("call {} failed, and no loader had: {error}", asked.call.id);
            self.breach(Promise::Calm, Some(key), what);
        }
    }
}
