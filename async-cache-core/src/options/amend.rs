//! Corrects invalid options that a loader chose.
//!
//! The value is already loaded and the callers must get it, so an invalid option is not an error.

use std::time::Duration;

use crate::format::tags::Collected;
use crate::observe::Amended;
use crate::options::MAX_LIFE;
use crate::options::choice::Choice;

const LEAST: Duration = Duration::from_millis(1);

impl Choice {
    /// Whether the loader chose nothing. This is the common case.
    fn is_none(&self) -> bool {
        let Self { ttl, l1_ttl, ttl_jitter, stale_for, refresh_ahead, tags } = self;
        (ttl, l1_ttl, stale_for) == (&None, &None, &None)
            && (ttl_jitter, refresh_ahead) == (&None, &None)
            && tags.is_empty()
    }

    /// Clamps invalid durations, and drops an invalid jitter or eagerness. Checks the tags together with those
    /// of the call. Returns what was done.
    ///
    /// With a lifetime of zero or an invalid tag nothing is cached. Without the tag in its entry, an
    /// invalidation of the tag would miss the value.
    pub(crate) fn amend(&mut self, tags: &Collected) -> Option<Amended> {
        if self.is_none() && tags.get().is_ok() {
            return None;
        }
        let mut together = tags.clone();
        together.add_all(&self.tags);
        if self.ttl == Some(Duration::ZERO) || together.get().is_err() {
            *self = Self::default();
            return Some(Amended::Uncached);
        }
        let before = self.clone();
        self.ttl = self.ttl.map(|ttl| ttl.clamp(LEAST, MAX_LIFE));
        self.l1_ttl = self.l1_ttl.map(|ttl| ttl.clamp(LEAST, MAX_LIFE));
        self.stale_for = self.stale_for.map(|span| span.min(MAX_LIFE));
        self.ttl_jitter = self.ttl_jitter.filter(|fraction| (0.0..1.0).contains(fraction));
        self.refresh_ahead = self.refresh_ahead.filter(|eagerness| (0.0..=100.0).contains(eagerness));
        (*self != before).then_some(Amended::Clamped)
    }
}
