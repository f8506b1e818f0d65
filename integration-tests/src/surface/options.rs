//! The options of an entry.

use std::time::Duration;

use async_cache::TieredCacheBuilder;
use fastrand::Rng;

use super::value::Written;
use super::verb::{Kind, Verb};

/// The options that are drawn, by the names of their methods.
pub const DRAWN: &[&str] = &[
    "ttl",
    "l1_ttl",
    "ttl_jitter",
    "stale_for",
    "negative_ttl",
    "load_timeout",
    "lease_ttl",
    "wait_timeout",
    "refresh_ahead",
    "error_backoff",
    "error_ttl",
    "stale_while_revalidate",
    "stale_on_error",
    "soft_timeout",
    "tag",
    "tags",
];

/// The tags that are drawn: of a cache, of a call (two of them), and by a loader.
pub const TAGS: &[&str] = &["all", "some", "call", "chosen"];

/// Options that were set. An option that is `None` was not set.
#[expect(missing_docs, reason = "each is named for its option")]
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Options {
    pub ttl: Option<Duration>,
    pub l1_ttl: Option<Duration>,
    pub ttl_jitter: Option<f64>,
    pub stale_for: Option<Duration>,
    pub negative_ttl: Option<Duration>,
    pub load_timeout: Option<Duration>,
    pub lease_ttl: Option<Duration>,
    pub wait_timeout: Option<Duration>,
    pub refresh_ahead: Option<f64>,
    pub error_backoff: Option<Duration>,
    pub error_ttl: Option<Duration>,
    pub stale_while_revalidate: Option<bool>,
    pub stale_on_error: Option<bool>,
    pub soft_timeout: Option<Duration>,
    /// The tags. One tag is set by `tag`, more than one by `tags`.
    pub tags: Vec<String>,
}

/// The tiers of a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tiers {
    /// The tier in its process.
    L1,
    /// The shared tier.
    L2,
    /// Both tiers.
    Both,
}

/// Calls the setters of the options that are set.
macro_rules! set {
    ($request:expr, $options:expr; $($name:ident)*) => {{
        let mut request = $request;
        $(if let Some(value) = $options.$name {
            request = request.$name(value);
        })*
        request
    }};
}

/// Sets the tags.
macro_rules! set_tags {
    ($request:expr, $options:expr) => {{
        let (request, options) = ($request, $options);
        match &options.tags[..] {
            [] => request,
            [tag] => request.tag(tag),
            tags => request.tags(tags),
        }
    }};
}

/// The options for storing.
macro_rules! set_store {
    ($request:expr, $options:expr) => {{
        let options = $options;
        let request = set!($request, options; ttl l1_ttl ttl_jitter stale_for);
        set_tags!(request, options)
    }};
}

/// The options for storing and loading.
macro_rules! set_load {
    ($request:expr, $options:expr) => {{
        let options = $options;
        let request = set_store!($request, options);
        set!(request, options; negative_ttl load_timeout lease_ttl wait_timeout refresh_ahead error_backoff error_ttl)
    }};
}

/// The options for loading only.
macro_rules! set_load_only {
    ($request:expr, $options:expr) => {{
        let options = $options;
        set!($request, options; load_timeout lease_ttl wait_timeout refresh_ahead error_backoff error_ttl
            stale_while_revalidate stale_on_error soft_timeout)
    }};
}

/// All options, including those for stale values.
macro_rules! set_all {
    ($request:expr, $options:expr) => {{
        let options = $options;
        let request = set_load!($request, options);
        set!(request, options; stale_while_revalidate stale_on_error soft_timeout)
    }};
}

/// The options that a loader may choose.
macro_rules! set_choice {
    ($request:expr, $options:expr) => {{
        let options = $options;
        let request = set!($request, options; ttl l1_ttl ttl_jitter stale_for refresh_ahead);
        set_tags!(request, options)
    }};
}

pub(super) use {set, set_all, set_choice, set_load, set_load_only, set_store, set_tags};

/// Sets the defaults of a cache.
pub fn configure(
    builder: TieredCacheBuilder<u64, Written>,
    options: &Options,
) -> TieredCacheBuilder<u64, Written> {
    set_all!(builder, options)
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn one_of<T: Copy>(rng: &mut Rng, choices: &[T]) -> T {
    choices[rng.usize(..choices.len())]
}

impl Options {
    /// Draws an `error_ttl`, in some caches. The numbers that are drawn afterwards stay as they were, so that a seed
    /// still means the same faults.
    fn draw_error_ttl(rng: &Rng) -> Option<Duration> {
        let mut rng = Rng::with_seed(!rng.get_seed());
        (rng.u8(..4) == 0).then(|| ms(one_of(&mut rng, &[30, 300, 1_000])))
    }

    /// Draws the defaults of a cache. Every option is set, with short times, so that many entries expire.
    #[must_use]
    pub fn draw(tiers: Tiers, rng: &mut Rng) -> Self {
        let stale_for = one_of(rng, &[0, 0, 200, 2_000, 60_000]);
        let keeps = stale_for > 0;
        Self {
            ttl: Some(ms(one_of(rng, &[50, 300, 1_000, 2_000, 60_000]))),
            l1_ttl: (tiers != Tiers::L2 && rng.bool()).then(|| ms(one_of(rng, &[20, 100, 400]))),
            ttl_jitter: (rng.u8(..4) == 0).then(|| one_of(rng, &[0.1, 0.5])),
            stale_for: Some(ms(stale_for)),
            negative_ttl: Some(ms(one_of(rng, &[30, 300, 30_000]))),
            load_timeout: Some(ms(one_of(rng, &[300, 2_000]))),
            lease_ttl: Some(ms(one_of(rng, &[100, 300, 1_000]))),
            wait_timeout: Some(ms(one_of(rng, &[500, 3_000]))),
            refresh_ahead: (tiers != Tiers::L2 && rng.u8(..5) == 0).then(|| one_of(rng, &[1.0, 5.0])),
            error_backoff: Some(ms(one_of(rng, &[1, 100, 1_000]))),
            error_ttl: Self::draw_error_ttl(rng),
            stale_while_revalidate: (keeps && rng.bool()).then_some(true),
            stale_on_error: Some(rng.u8(..3) > 0),
            soft_timeout: (keeps && rng.u8(..3) == 0).then(|| ms(one_of(rng, &[2, 50]))),
            tags: if rng.u8(..4) == 0 { vec!["all".to_owned()] } else { Vec::new() },
        }
    }

    /// Draws some options of one call. It takes only options that the method has and that have an effect.
    #[must_use]
    pub fn draw_for(verb: Verb, defaults: &Self, tiers: Tiers, rng: &mut Rng) -> Self {
        let all = Self::draw(tiers, rng);
        let mut given = Self::default();
        if matches!(verb.kind(), Kind::Looks | Kind::Forgets | Kind::Expires) {
            return given;
        }
        if verb.is_loaders() {
            // The options of a `DataLoader` replace those of the cache, whether they are set or not.
            return all;
        }
        let mut some = || rng.u8(..3) == 0;
        given.ttl = all.ttl.filter(|_| some());
        given.l1_ttl = all.l1_ttl.filter(|_| some());
        given.ttl_jitter = all.ttl_jitter.filter(|_| some());
        // It is never zero, because then the default options for stale values would have no effect.
        given.stale_for = all.stale_for.filter(|span| !span.is_zero() && some());
        given.tags = if some() { vec!["some".to_owned(), "call".to_owned()] } else { Vec::new() };
        if verb.kind() == Kind::Stores {
            return given;
        }
        given.negative_ttl = all.negative_ttl.filter(|_| some());
        given.load_timeout = all.load_timeout.filter(|_| some());
        given.lease_ttl = all.lease_ttl.filter(|_| some());
        given.wait_timeout = all.wait_timeout.filter(|_| some());
        given.refresh_ahead = all.refresh_ahead.filter(|_| some());
        given.error_backoff = all.error_backoff.filter(|_| some());
        given.error_ttl = all.error_ttl;
        let keeps = !given.over(defaults).stale_for.unwrap_or_default().is_zero();
        if verb.may_answer_stale() && keeps {
            given.stale_while_revalidate = some().then(|| all.stale_for > Some(ms(200)));
            given.stale_on_error = all.stale_on_error.filter(|_| some());
            given.soft_timeout = some().then(|| ms(20));
        }
        given
    }

    /// The options that take effect for a call of this method. They are set over those of the cache, or replace
    /// them.
    #[must_use]
    pub fn for_call(&self, verb: Verb, defaults: &Self) -> Self {
        match verb.is_loaders() && *self != Self::default() {
            true => self.clone(),
            false => self.over(defaults),
        }
    }

    /// These options over the defaults. The tags are joined.
    #[must_use]
    pub fn over(&self, defaults: &Self) -> Self {
        let mut tags = defaults.tags.clone();
        tags.extend(self.tags.iter().filter(|tag| !defaults.tags.contains(tag)).cloned());
        Self {
            ttl: self.ttl.or(defaults.ttl),
            l1_ttl: self.l1_ttl.or(defaults.l1_ttl),
            ttl_jitter: self.ttl_jitter.or(defaults.ttl_jitter),
            stale_for: self.stale_for.or(defaults.stale_for),
            negative_ttl: self.negative_ttl.or(defaults.negative_ttl),
            load_timeout: self.load_timeout.or(defaults.load_timeout),
            lease_ttl: self.lease_ttl.or(defaults.lease_ttl),
            wait_timeout: self.wait_timeout.or(defaults.wait_timeout),
            refresh_ahead: self.refresh_ahead.or(defaults.refresh_ahead),
            error_backoff: self.error_backoff.or(defaults.error_backoff),
            error_ttl: self.error_ttl.or(defaults.error_ttl),
            stale_while_revalidate: self.stale_while_revalidate.or(defaults.stale_while_revalidate),
            stale_on_error: self.stale_on_error.or(defaults.stale_on_error),
            soft_timeout: self.soft_timeout.or(defaults.soft_timeout),
            tags,
        }
    }

    /// The longest time in which a value may answer, and in which it may answer as a fallback, in milliseconds.
    #[must_use]
    pub fn life_ms(&self) -> (u64, u64) {
        let fresh = self.ttl.unwrap_or(Duration::from_secs(300));
        let kept = fresh + self.stale_for.unwrap_or_default();
        (fresh.as_millis() as u64, kept.as_millis() as u64)
    }

    /// The minimum time in which a value is fresh, with jitter, in milliseconds.
    #[must_use]
    pub fn least_fresh_ms(&self) -> u64 {
        (self.life_ms().0 as f64 * (1.0 - self.ttl_jitter.unwrap_or(0.0))) as u64
    }
}

impl Verb {
    /// Whether its options are those of a `DataLoader`.
    #[must_use]
    pub fn is_loaders(self) -> bool {
        self.method().0 == "DataLoader" || matches!(self, Self::Load | Self::LoadEach)
    }

    /// Whether a stale value may answer it.
    #[must_use]
    pub fn may_answer_stale(self) -> bool {
        matches!(self, Self::GetOrLoad | Self::GetOrLoadWith | Self::GetOrLoadOptional | Self::GetManyOrLoad)
    }
}
