//! Many keys without a loader: L1 for each, one question to L2 for the rest.

use crate::error::{Error, ErrorKind, Result};
use crate::format::key::Key;
use crate::inner::{L2, Shared};
use crate::liveness::stamp::Stamp;
use crate::local::approach::{Answer, Want};
use crate::local::probe::Probe;
use crate::local::stripes::Ticket;
use crate::lookup::outage::{Recourse, recourse};
use crate::observe::StaleCause;
use crate::remote::read::Fetched;

/// Most keys in one call.
pub(crate) const MAX_KEYS: usize = 100_000;

/// Keys that L1 had no answer for.
struct Missed {
    keys: Vec<Key>,
    /// Where the answer to each belongs, and under which ticket it is read.
    seats: Vec<(usize, Ticket)>,
}

impl Missed {
    fn of(count: usize) -> Self {
        Self { keys: Vec::with_capacity(count), seats: Vec::with_capacity(count) }
    }

    fn iter(&self) -> impl Iterator<Item = (&Key, &(usize, Ticket))> {
        self.keys.iter().zip(&self.seats)
    }
}

impl<V: Send + Sync + 'static> Shared<V> {
    /// Looks up every key; answers stand in the order of the keys.
    pub(crate) async fn get_many(&self, keys: Vec<Key>, need: Option<&Stamp>) -> Result<Vec<Answer<V>>> {
        self.check(need)?;
        self.check_count(keys.len())?;
        let count = keys.len();
        let mut answers: Vec<Answer<V>> = Vec::with_capacity(count);
        let mut missed = Missed::of(0);
        for (at, key) in keys.into_iter().enumerate() {
            if let Some(answer) = self.hit_at_once(key.as_bytes(), need, Want::ValueOrAbsence) {
                answers.push(answer);
                continue;
            }
            match self.probe(key.as_bytes(), need) {
                Probe::Hit(entry) | Probe::Ripe(entry) => {
                    self.counters.l1_hits.increment();
                    answers.push(entry.value);
                }
                Probe::Stale(_) | Probe::Capped(_) | Probe::Unverified(_) | Probe::Miss => {
                    answers.push(None);
                    if missed.keys.is_empty() {
                        missed = Missed::of(count - at);
                    }
                    missed.seats.push((at, self.ticket_to_read(&key)));
                    missed.keys.push(key);
                }
            }
        }
        if let Some(l2) = &self.l2
            && !missed.keys.is_empty()
        {
            self.fetch_many(l2, &missed, need, &mut answers).await?;
        } else {
            self.counters.misses.add(missed.keys.len());
        }
        Ok(answers)
    }

    pub(crate) fn check_count(&self, keys: usize) -> Result<()> {
        if keys > MAX_KEYS {
            let message = format!("{keys} keys in one call is over the limit of {MAX_KEYS}: ask in parts");
            return Err(self.error(ErrorKind::Key, message));
        }
        Ok(())
    }

    async fn fetch_many(
        &self,
        l2: &L2<V>,
        missed: &Missed,
        need: Option<&Stamp>,
        answers: &mut [Answer<V>],
    ) -> Result<()> {
        // Before the question: afterwards, the retry may have landed in between.
        let pending: Vec<bool> = missed.keys.iter().map(|key| self.is_pending(key)).collect();
        let read = self.read_many(l2, &missed.keys, need).await;
        let read = match read {
            Ok(read) => read,
            Err(error) => return self.without_l2(missed, need, &error, answers),
        };
        let mut hits = 0;
        for (((key, (at, ticket)), stored), pending) in missed.iter().zip(read.values).zip(pending) {
            let stored = stored.as_deref().filter(|_| !pending);
            let fetched = self.stored(l2, key, stored, (*ticket, &self.defaults));
            if let Fetched::Found(entry, ticket) = fetched {
                hits += 1;
                answers[*at].clone_from(&entry.value);
                self.admit(key, ticket, entry, self.defaults.store.l1_ttl);
            }
        }
        self.counters.l2_hits.add(hits);
        self.counters.misses.add(missed.keys.len() - hits);
        Ok(())
    }

    fn without_l2(
        &self,
        missed: &Missed,
        need: Option<&Stamp>,
        error: &Error,
        answers: &mut [Answer<V>],
    ) -> Result<()> {
        for (key, (at, _)) in missed.iter() {
            match recourse(self, key.as_bytes(), self.held(key.as_bytes(), need), error.clone()) {
                Recourse::Serve(entry) => answers[*at] = entry.value,
                // One that nobody can answer is everyone's error.
                Recourse::Load(error) | Recourse::Fail(error) => {
                    self.counters.misses.add(missed.keys.len());
                    return Err(error);
                }
            }
        }
        missed.keys.iter().for_each(|key| self.serve_stale(key.as_bytes(), StaleCause::Outage));
        Ok(())
    }
}
