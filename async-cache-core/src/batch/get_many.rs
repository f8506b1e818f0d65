//! Many keys without a loader: L1 for each, one question to L2 for the rest.

use crate::coherence::{Stamp, Ticket};
use crate::error::{Error, ErrorKind, Result};
use crate::key::Key;
use crate::observe::StaleCause;
use crate::path::{Answer, Fetched, Judged, Probe};
use crate::resilience::{Recourse, recourse};
use crate::shared::{L2, Shared};

/// Most keys in one call.
pub(super) const MAX_KEYS: usize = 100_000;

impl<V: Send + Sync + 'static> Shared<V> {
    /// Looks up every key; answers stand in the order of the keys.
    pub(crate) async fn get_many(&self, keys: Vec<Key>, need: Option<&Stamp>) -> Result<Vec<Answer<V>>> {
        self.check(need)?;
        self.check_count(keys.len())?;
        let mut answers: Vec<Answer<V>> = Vec::with_capacity(keys.len());
        let mut missed: Vec<(usize, Key, Ticket)> = Vec::new();
        for (at, key) in keys.into_iter().enumerate() {
            match self.probe(key.as_bytes(), need) {
                Probe::Hit(entry) | Probe::Ripe(entry) => {
                    self.counters.l1_hits.increment();
                    answers.push(entry.value);
                }
                Probe::Stale(_) | Probe::Unverified(_) | Probe::Miss => {
                    answers.push(None);
                    let ticket = self.ticket(&key);
                    missed.push((at, key, ticket));
                }
            }
        }
        if let Some(l2) = &self.l2
            && !missed.is_empty()
        {
            self.fetch_many(l2, &missed, need, &mut answers).await?;
        } else {
            self.counters.misses.add(missed.len());
        }
        Ok(answers)
    }

    pub(super) fn check_count(&self, keys: usize) -> Result<()> {
        if keys > MAX_KEYS {
            let message = format!("{keys} keys in one call is over the limit of {MAX_KEYS}: ask in parts");
            return Err(self.error(ErrorKind::Key, message));
        }
        Ok(())
    }

    async fn fetch_many(
        &self,
        l2: &L2<V>,
        missed: &[(usize, Key, Ticket)],
        need: Option<&Stamp>,
        answers: &mut [Answer<V>],
    ) -> Result<()> {
        let keys: Vec<Key> = missed.iter().map(|(_, key, _)| key.clone()).collect();
        // Before the question: afterwards, the retry may have landed in between.
        let pending: Vec<bool> = keys.iter().map(|key| self.is_pending(key)).collect();
        let read = self.read_many(l2, &keys, need).await;
        let Judged { read, by } = match read {
            Ok(read) => read,
            Err(error) => return self.without_l2(missed, need, &error, answers),
        };
        for (((at, key, ticket), stored), pending) in missed.iter().zip(read.values).zip(pending) {
            let stored = stored.as_deref().filter(|_| !pending);
            let fetched = self.judged(l2, key, stored, by, (*ticket, &self.defaults));
            if let Fetched::Found(entry, ticket) = fetched {
                self.counters.l2_hits.add(1);
                self.admit(key, ticket, entry.clone(), self.defaults.l1_ttl);
                answers[*at] = entry.value;
            } else {
                self.counters.misses.add(1);
            }
        }
        Ok(())
    }

    fn without_l2(
        &self,
        missed: &[(usize, Key, Ticket)],
        need: Option<&Stamp>,
        error: &Error,
        answers: &mut [Answer<V>],
    ) -> Result<()> {
        for (at, key, _) in missed {
            match recourse(self, key.as_bytes(), self.held(key.as_bytes(), need), error.clone()) {
                Recourse::Serve(entry) => {
                    self.serve_stale(key.as_bytes(), StaleCause::Outage);
                    answers[*at] = entry.value;
                }
                Recourse::Load(error) | Recourse::Fail(error) => return Err(error),
            }
        }
        Ok(())
    }
}
