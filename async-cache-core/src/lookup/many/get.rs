//! Many keys without a loader: L1 is asked for each key, L2 once for the rest.

use crate::backend::Entry;
use crate::error::{Error, ErrorKind, Result};
use crate::format::key::Key;
use crate::inner::Inner;
use crate::liveness::stamp::Stamp;
use crate::local::flight::Ticket;
use crate::local::l1::Probe;
use crate::local::request::{Answer, FirstTier};
use crate::lookup::stale::{OutageDecision, decide_in_outage};
use crate::observe::StaleCause;
use crate::remote::l2::L2;
use crate::remote::read::Fetched;

/// The maximum number of keys in one call.
pub(crate) const MAX_KEYS: usize = 100_000;

/// The keys for which L1 had no answer.
struct Missed {
    keys: Vec<Key>,
    /// The place of each answer, and the ticket under which it is read.
    led: Vec<(usize, Ticket)>,
}

impl Missed {
    /// Keeps the keys at the places in `led`.
    fn of(mut keys: Vec<Key>, led: Vec<(usize, Ticket)>) -> Self {
        let (mut at, mut places) = (0.., led.iter().map(|(place, _)| *place).peekable());
        keys.retain(|_| at.next().is_some_and(|at| places.next_if_eq(&at).is_some()));
        Self { keys, led }
    }

    fn iter(&self) -> impl Iterator<Item = (&Key, &(usize, Ticket))> {
        self.keys.iter().zip(&self.led)
    }
}

/// The tiers that are asked, and what for.
struct Tiers<'a, V> {
    l2: &'a L2<V>,
    min_stamp: Option<&'a Stamp>,
    first_tier: FirstTier,
}

/// Looks up many keys. The answers are in the order of the keys.
pub(crate) async fn get_many<V: Send + Sync + 'static>(
    inner: &Inner<V>,
    keys: Vec<Key>,
    min_stamp: Option<&Stamp>,
    first_tier: FirstTier,
) -> Result<Vec<Answer<V>>> {
    inner.lifecycle.check_open()?;
    inner.local.liveness.check_stamp(min_stamp)?;
    inner.local.check_first_tier(first_tier)?;
    check_count(inner, keys.len())?;
    let count = keys.len();
    let mut answers: Vec<Answer<V>> = Vec::with_capacity(count);
    let mut led = Vec::new();
    for (at, key) in keys.iter().enumerate() {
        let probed = match first_tier {
            FirstTier::L1 => {
                if let Some(answer) = inner.local.hit_of_many(key.as_bytes(), min_stamp) {
                    answers.push(answer);
                    continue;
                }
                inner.local.probe(key.as_bytes(), min_stamp)
            }
            FirstTier::L2 => Probe::Miss,
        };
        match probed {
            Probe::Hit(entry) | Probe::Ripe(entry) => {
                inner.local.hits.increment();
                answers.push(entry.value);
            }
            Probe::Stale(_) | Probe::Capped(_) | Probe::Unverified(_) | Probe::Miss => {
                answers.push(None);
                if led.is_empty() {
                    led.reserve(count - at);
                }
                led.push((at, inner.local.ticket_to_read(key)));
            }
        }
    }
    if led.is_empty() {
        return Ok(answers);
    }
    let Some(l2) = &inner.remote else {
        inner.observer.counters.misses.add(led.len());
        return Ok(answers);
    };
    let tiers = Tiers { l2, min_stamp, first_tier };
    fetch_many(inner, &tiers, &Missed::of(keys, led), &mut answers).await?;
    Ok(answers)
}

pub(crate) fn check_count<V: Send + Sync + 'static>(inner: &Inner<V>, keys: usize) -> Result<()> {
    if keys > MAX_KEYS {
        let message = format!("{keys} keys in one call is over the limit of {MAX_KEYS}: ask in parts");
        return Err(inner.observer.error(ErrorKind::Key, message));
    }
    Ok(())
}

async fn fetch_many<V: Send + Sync + 'static>(
    inner: &Inner<V>,
    tiers: &Tiers<'_, V>,
    missed: &Missed,
    answers: &mut [Answer<V>],
) -> Result<()> {
    let l2 = tiers.l2;
    // This is checked before the command is sent. After it, the retry could have succeeded in between.
    let pending: Vec<bool> =
        missed.keys.iter().map(|key| inner.local.liveness.is_unsent(key.as_bytes())).collect();
    let read = l2.read_many(&missed.keys, tiers.min_stamp).await;
    let mut found = Found::default();
    for (((key, (at, ticket)), stored), pending) in missed.iter().zip(read).zip(pending) {
        let stored = match stored {
            Ok(stored) => stored.filter(|_| !pending),
            Err(error) => {
                if let Some(entry) = without_l2(inner, tiers, key, error, &mut found) {
                    answers[*at] = entry.value;
                }
                continue;
            }
        };
        let fetched = l2.stored(key, stored.as_deref(), *ticket, &inner.policy.defaults);
        if let Fetched::Found(entry, ticket) = fetched {
            found.hits += 1;
            answers[*at].clone_from(&entry.value);
            inner.local.admit(key, ticket, entry, inner.policy.defaults.store.l1_ttl);
        }
    }
    inner.observer.counters.l2_hits.add(found.hits);
    let misses = missed.keys.len() - found.hits;
    if let Some(error) = found.failure {
        // If one key has no answer, the whole call fails.
        inner.observer.counters.misses.add(misses);
        return Err(error);
    }
    inner.observer.counters.misses.add(misses - found.unverified.len());
    found.unverified.iter().for_each(|key| inner.observer.stale_served(key.as_bytes(), StaleCause::Outage));
    Ok(())
}

/// The outcome of a read of many keys.
#[derive(Default)]
struct Found<'a> {
    hits: usize,
    /// L2 could not be asked for these keys. L1 answers.
    unverified: Vec<&'a Key>,
    failure: Option<Error>,
}

/// The entry of L1 that answers in place of L2, if the outage policy allows it.
fn without_l2<'a, V: Send + Sync + 'static>(
    inner: &Inner<V>,
    tiers: &Tiers<'_, V>,
    key: &'a Key,
    error: Error,
    found: &mut Found<'a>,
) -> Option<Entry<V>> {
    if found.failure.is_some() {
        return None;
    }
    let held = match tiers.first_tier {
        FirstTier::L1 => inner.local.held(key.as_bytes(), tiers.min_stamp),
        FirstTier::L2 => None,
    };
    match decide_in_outage(inner, key.as_bytes(), held, error) {
        OutageDecision::Serve(entry) => {
            found.unverified.push(key);
            Some(entry)
        }
        OutageDecision::Load(error) | OutageDecision::Fail(error) => {
            found.failure = Some(error);
            None
        }
    }
}
