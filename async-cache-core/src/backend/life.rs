//! The life of an entry: when L1 must ask L2, when the entry stops being fresh, and when it cannot answer any more.

use std::time::Duration;

/// A time on a cache's monotonic clock, in nanoseconds. Its zero is some decades before the cache was built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Tick(pub u64);

impl Tick {
    /// Later than any other.
    pub const MAX: Self = Self(u64::MAX);

    /// The point `span` later, or [`Tick::MAX`].
    #[must_use]
    pub fn after(self, span: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// The time from `earlier` to here; zero if `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// The times at which an entry passes from one phase to the next.
///
/// ```text
///  loaded         ripens     expires              ends
///    ├─── fresh ────┼─── ripe ────┼───── stale ───────┤  over
/// ```
///
/// `ask` is independent of them. From then on L1 does not answer by itself, although the entry is still fresh. It first
/// asks L2 whether L2 still has the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expiry {
    /// From this time on L2 must be asked before the entry answers. [`Tick::MAX`] if it may answer until it expires.
    pub ask: Tick,
    /// From this time on it may be refreshed. It is `expires` if there is no refresh before the expiry.
    pub ripens: Tick,
    /// The end of its freshness.
    pub expires: Tick,
    /// The end of its use as a fallback.
    pub ends: Tick,
    /// After a failed refresh, the time before which the next must not begin.
    pub retry: Tick,
    /// The number of refreshes that have failed since it was loaded.
    pub failures: u32,
    /// A change has expired it before its time. So it does not reflect every change.
    pub by_change: bool,
    /// The time from the end of its load to `expires`, in nanoseconds. The end of the load itself may be before the
    /// first tick of the clock.
    pub span: u64,
}

/// The time at which a value was stored. It may lie before the zero of the clock that counts ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Born(i64);

impl Born {
    /// The time that has passed since.
    pub(crate) fn age(self, now: Tick) -> Duration {
        let age = i128::from(now.0).saturating_sub(i128::from(self.0));
        Duration::from_nanos(u64::try_from(age.max(0)).unwrap_or(u64::MAX))
    }
}

/// The phase of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// It answers.
    Fresh,
    /// It answers, and may be refreshed already.
    Ripe,
    /// It has expired, and is a fallback.
    Stale,
    /// It cannot answer any more.
    Expired,
}

/// The maximum of −ln(U) for a U of 53 random bits, rounded up.
const MAX_DRAW: f64 = 37.0;

impl Expiry {
    /// A life with these ends. `span` is the time from the load to the expiry. `ahead` is Δ·β, the cost of the load
    /// times the eagerness of refreshing. It is zero if there is no refresh before the expiry.
    #[must_use]
    #[inline]
    pub fn new(expires: Tick, ends: Tick, span: Duration, ahead: Duration) -> Self {
        let window = match ahead.is_zero() {
            true => 0,
            false => u64::try_from(ahead.mul_f64(MAX_DRAW).as_nanos()).unwrap_or(u64::MAX),
        };
        Self {
            ask: Tick::MAX,
            ripens: Tick(expires.0.saturating_sub(window)),
            expires,
            ends: ends.max(expires),
            retry: Tick(0),
            failures: 0,
            by_change: false,
            span: u64::try_from(span.as_nanos()).unwrap_or(u64::MAX),
        }
    }

    /// The time until which it answers without any further check of its life.
    #[inline]
    #[must_use]
    pub fn due(&self) -> Tick {
        self.ask.min(self.ripens)
    }

    /// Whether L2 must be asked before it answers.
    #[must_use]
    pub fn must_ask(&self, now: Tick) -> bool {
        now >= self.ask
    }

    /// The phase at `now`.
    #[must_use]
    pub fn phase(&self, now: Tick) -> Phase {
        if now < self.ripens {
            Phase::Fresh
        } else if now < self.expires {
            Phase::Ripe
        } else if now < self.ends {
            Phase::Stale
        } else {
            Phase::Expired
        }
    }

    /// Time since it was loaded.
    #[must_use]
    pub fn age(&self, now: Tick) -> Duration {
        (Duration::from_nanos(self.span) + now.since(self.expires)).saturating_sub(self.expires.since(now))
    }

    /// The time at which it was loaded.
    pub(crate) fn born(&self) -> Born {
        Born(self.expires.0.wrapping_sub(self.span) as i64)
    }

    /// Whether a refresh may begin. It may not shortly after a failed one.
    #[must_use]
    pub fn may_retry(&self, now: Tick) -> bool {
        now >= self.retry
    }

    /// XFetch: whether this lookup, having drawn `u` from (0, 1], is the one to refresh ahead:
    /// now − Δ·β·ln(u) ≥ expiry. Δ·β is in the distance between `ripens` and `expires`.
    #[must_use]
    pub fn is_drawn(&self, now: Tick, u: f64) -> bool {
        let ahead = self.expires.0.saturating_sub(self.ripens.0) as f64 / MAX_DRAW;
        -ahead * u.ln() >= self.expires.0.saturating_sub(now.0) as f64
    }

    /// This life in L1, which must ask L2 from `cap` on.
    #[must_use]
    pub fn asking_from(self, cap: Tick) -> Self {
        let ask = if cap < self.expires { cap } else { Tick::MAX };
        Self { ask, ..self }
    }

    /// This life, but expired at `cap` at the latest: for an L1 without an L2. If the entry is no fallback after
    /// `expires`, it is none after `cap`, either.
    #[must_use]
    pub fn cut_at(self, cap: Tick) -> Self {
        if cap >= self.expires {
            return self;
        }
        let ends = if self.ends == self.expires { cap } else { self.ends };
        let span = self.span.saturating_sub(self.expires.0 - cap.0);
        Self { ripens: self.ripens.min(cap), expires: cap, ends, span, ..self }
    }

    /// This life after a change that expires it. `ends` stays. An entry that is no fallback has ended.
    #[must_use]
    pub fn expired(self, now: Tick) -> Self {
        Self { by_change: true, ..self.cut_at(now) }
    }

    /// This life after L2 has confirmed it, with the ends that L2 keeps. The life does not get longer, because the ends
    /// of a value are set once, when it is stored.
    #[must_use]
    pub fn confirmed(self, expires: Tick, ends: Tick) -> Self {
        let life = self.cut_at(expires);
        Self { ask: Tick::MAX, ends: life.ends.min(ends).max(life.expires), ..life }
    }

    /// This life with the failed refreshes that were noted for another copy of the value.
    #[must_use]
    pub fn with_failures(self, of: Option<Self>) -> Self {
        of.map_or(self, |of| Self { retry: of.retry, failures: of.failures, ..self })
    }

    /// This life after a failed refresh.
    #[must_use]
    pub fn failed(self, retry: Tick) -> Self {
        Self { retry, failures: self.failures.saturating_add(1), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Tick {
        Tick(seconds * 1_000_000_000)
    }

    fn life(ahead: u64) -> Expiry {
        Expiry::new(s(100), s(150), Duration::from_secs(60), Duration::from_secs(ahead))
    }

    #[test]
    fn each_phase_ends_where_the_next_begins() {
        let life = life(1);
        assert_eq!((life.ripens, life.due()), (s(63), s(63)));
        for (now, phase) in [
            (s(62), Phase::Fresh),
            (s(63), Phase::Ripe),
            (s(99), Phase::Ripe),
            (s(100), Phase::Stale),
            (s(149), Phase::Stale),
            (s(150), Phase::Expired),
        ] {
            assert_eq!(life.phase(now), phase, "{now:?}");
        }
    }

    #[test]
    fn age_counts_from_the_load_even_if_that_was_before_the_clock() {
        let life = life(0);
        assert_eq!(life.age(s(50)), Duration::from_secs(10));
        assert_eq!(life.age(s(120)), Duration::from_secs(80));
        let old = Expiry::new(s(1), s(1), Duration::from_secs(3600), Duration::ZERO);
        assert_eq!(old.age(s(2)), Duration::from_secs(3601));
    }

    #[test]
    fn a_cap_means_ask_and_nothing_else() {
        let capped = life(1).asking_from(s(62));
        assert_eq!((capped.due(), capped.must_ask(s(61)), capped.must_ask(s(62))), (s(62), false, true));
        for now in [s(61), s(62), s(63), s(99), s(100), s(150)] {
            assert_eq!(capped.phase(now), life(1).phase(now), "{now:?}");
        }
        assert_eq!(life(0).asking_from(s(100)), life(0));
        assert_eq!(capped.asking_from(Tick::MAX), life(1), "confirmed, it may answer again");
    }

    #[test]
    fn a_cut_moves_the_expiry_and_keeps_the_age() {
        let cut = life(0).cut_at(s(70));
        assert_eq!((cut.due(), cut.expires, cut.ends), (s(70), s(70), s(150)));
        assert_eq!(cut.age(s(65)), life(0).age(s(65)));
        assert_eq!(life(0).cut_at(s(100)), life(0));
        let no_fallback = Expiry::new(s(100), s(100), Duration::ZERO, Duration::ZERO).cut_at(s(70));
        assert_eq!(no_fallback.phase(s(70)), Phase::Expired);
    }

    #[test]
    fn what_a_change_expires_keeps_its_age_and_its_end() {
        let expired = life(1).expired(s(70));
        assert_eq!((expired.phase(s(70)), expired.ends, expired.by_change), (Phase::Stale, s(150), true));
        assert_eq!(expired.age(s(80)), life(1).age(s(80)));
        assert_eq!(expired.expired(s(90)), expired, "once more changes nothing");
        let no_fallback = Expiry::new(s(100), s(100), Duration::ZERO, Duration::ZERO).expired(s(70));
        assert_eq!(no_fallback.phase(s(70)), Phase::Expired);
    }

    #[test]
    fn what_is_confirmed_ends_as_it_is_kept_and_never_later() {
        let capped = life(0).asking_from(s(70));
        assert_eq!(capped.confirmed(s(100), s(150)), life(0));
        assert_eq!(capped.confirmed(s(200), s(300)), life(0));
        let shorter = capped.confirmed(s(90), s(120));
        assert_eq!((shorter.ask, shorter.expires, shorter.ends), (Tick::MAX, s(90), s(120)));
        assert_eq!(capped.confirmed(s(0), s(0)).phase(s(1)), Phase::Expired);
    }

    #[test]
    fn the_draw_is_the_one_of_the_formula() {
        let life = life(2);
        // −2 s · ln(1/e²) = 4 s ahead.
        let u = (-2.0_f64).exp();
        assert!(!life.is_drawn(s(95), u));
        assert!(life.is_drawn(s(97), u));
        assert!(!life.is_drawn(s(99), 1.0));
    }
}
