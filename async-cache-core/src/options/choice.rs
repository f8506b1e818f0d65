//! What a loader returns: a value, and the options that it chose for it.

use std::fmt::Debug;
use std::time::Duration;

use crate::error::Error;
use crate::format::tags::Collected;
use crate::observe::Amended;
use crate::options::{MAX_LIFE, setters};

/// What a loader returns: a value, and options for caching it.
///
/// A loader may return the plain value instead.
#[derive(Debug, Clone)]
pub struct Loaded<V> {
    /// `None` means that the previous value is still right.
    pub(crate) value: Option<V>,
    pub(crate) choice: Choice,
    pub(crate) keep: Keep,
}

/// The success of a loader: the value, or [`Loaded`]. Every type that becomes a [`Loaded`] implements it.
#[diagnostic::on_unimplemented(
    message = "the loader returns `{Self}`, but the cache holds `{V}`",
    label = "the loader's `Ok` must be `{V}` or `Loaded<{V}>`",
    note = "a loader that may find nothing returns `Result<Option<{V}>, _>`: call `get_or_load_optional` or \
            `refresh_optional` with it"
)]
pub trait IntoLoaded<V>: Into<Loaded<V>> {}

#[diagnostic::do_not_recommend]
impl<V, R: Into<Loaded<V>>> IntoLoaded<V> for R {}

/// Whether a loaded value is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keep {
    Cached,
    Uncached,
}

impl<V> Loaded<V> {
    /// A value to be cached with the options of the call.
    pub fn new(value: V) -> Self {
        Self { value: Some(value), choice: Choice::default(), keep: Keep::Cached }
    }

    /// The previous value is still right. It begins a new life, keeps its tags, and is the answer for all
    /// waiting callers. It is for loaders that receive it: see
    /// [`LoadContext::previous`](crate::lookup::loader::LoadContext::previous). Without a previous value it is an
    /// error of kind [`Loader`](crate::error::ErrorKind::Loader).
    #[must_use]
    pub fn unchanged() -> Self {
        Self { value: None, choice: Choice::default(), keep: Keep::Cached }
    }

    setters! { |this| this.choice;
        /// Sets the lifetime of this value.
        #[must_use]
        ttl(ttl: Duration) = Some(ttl);
        /// Caps the lifetime of this value in L1.
        #[must_use]
        l1_ttl(l1_ttl: Duration) = Some(l1_ttl);
        /// Shortens the lifetime of this value at random by up to this fraction (0 to below 1).
        #[must_use]
        ttl_jitter(fraction: f64) = Some(fraction);
        /// Sets how long past its expiry this value is kept as a fallback.
        #[must_use]
        stale_for(stale_for: Duration) = Some(stale_for);
        /// Refreshes this value ahead of its expiry, with this eagerness.
        #[must_use]
        refresh_ahead(eagerness: f64) = Some(eagerness);
    }

    /// Adds a tag to those of the call; see [`StoreOptions::tag`](crate::options::StoreOptions::tag).
    ///
    /// An invalidation of the tag during the load is not lost, although the tag is unknown until the load
    /// ends. Callers that asked before the invalidation get the value, and it is stored nowhere.
    #[must_use]
    pub fn tag(mut self, tag: impl AsRef<str>) -> Self {
        self.choice.tags.add(tag.as_ref());
        self
    }

    /// Adds tags; see [`tag`](Self::tag).
    #[must_use]
    pub fn tags<T: AsRef<str>>(mut self, tags: impl IntoIterator<Item = T>) -> Self {
        tags.into_iter().for_each(|tag| self.choice.tags.add(tag.as_ref()));
        self
    }

    /// Returns the value to all waiting callers, and stores it nowhere. If the value was to replace an older
    /// one (a fallback, or a value refreshed before its expiry), the older one is removed, because it is
    /// known to be old.
    #[must_use]
    pub fn uncached(mut self) -> Self {
        self.keep = Keep::Uncached;
        self
    }
}

impl<V> From<V> for Loaded<V> {
    fn from(value: V) -> Self {
        Self::new(value)
    }
}

/// The options that a loader chose. Each replaces the option of the call.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Choice {
    pub(crate) ttl: Option<Duration>,
    pub(crate) l1_ttl: Option<Duration>,
    pub(crate) ttl_jitter: Option<f64>,
    pub(crate) stale_for: Option<Duration>,
    pub(crate) refresh_ahead: Option<f64>,
    /// These tags are added to the tags of the call.
    pub(crate) tags: Collected,
}

const LEAST: Duration = Duration::from_millis(1);

/// What was done about invalid options of a loader.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Amendment {
    pub(crate) to: Amended,
    /// The options and their values, for the log.
    pub(crate) why: String,
}

impl Amendment {
    /// The value is not cached: its lifetime is `zero`, its tags are wrong, or both.
    #[cold]
    pub(crate) fn uncached(zero: bool, tags: Option<Error>) -> Self {
        let zero = zero.then(|| "`ttl` is 0: return `Loaded::uncached()` to cache nothing".to_owned());
        let tags = tags.map(|error| format!("`tags`: {error}"));
        Self { to: Amended::Uncached, why: zero.into_iter().chain(tags).collect::<Vec<_>>().join("; ") }
    }
}

impl Choice {
    /// Whether the loader chose nothing. This is the common case.
    fn is_none(&self) -> bool {
        let Self { ttl, l1_ttl, ttl_jitter, stale_for, refresh_ahead, tags } = self;
        (ttl, l1_ttl, stale_for) == (&None, &None, &None)
            && (ttl_jitter, refresh_ahead) == (&None, &None)
            && tags.is_empty()
    }

    /// Corrects invalid options. The value is already loaded and the callers must get it, so they are no error.
    ///
    /// Clamps invalid durations, and drops an invalid jitter or eagerness. Checks the tags together with those
    /// of the call. Returns what was done.
    ///
    /// With a lifetime of zero or an invalid tag nothing is cached. Without the tag in its entry, an
    /// invalidation of the tag would miss the value.
    pub(crate) fn amend(&mut self, tags: &Collected) -> Option<Amendment> {
        if self.is_none() && tags.get().is_ok() {
            return None;
        }
        let mut together = tags.clone();
        together.add_all(&self.tags);
        if self.ttl == Some(Duration::ZERO) || together.get().is_err() {
            let zero = self.ttl == Some(Duration::ZERO);
            *self = Self::default();
            return Some(Amendment::uncached(zero, together.get().err()));
        }
        let before = self.clone();
        self.ttl = self.ttl.map(|ttl| ttl.clamp(LEAST, MAX_LIFE));
        self.l1_ttl = self.l1_ttl.map(|ttl| ttl.clamp(LEAST, MAX_LIFE));
        self.stale_for = self.stale_for.map(|span| span.min(MAX_LIFE));
        self.ttl_jitter = self.ttl_jitter.filter(|fraction| (0.0..1.0).contains(fraction));
        self.refresh_ahead = self.refresh_ahead.filter(|eagerness| (0.0..=100.0).contains(eagerness));
        (*self != before).then(|| Amendment { to: Amended::Clamped, why: before.differences(self) })
    }

    /// Names each option that is not used as it was chosen.
    #[cold]
    fn differences(&self, used: &Self) -> String {
        let named = [
            difference("ttl", self.ttl, used.ttl),
            difference("l1_ttl", self.l1_ttl, used.l1_ttl),
            difference("stale_for", self.stale_for, used.stale_for),
            difference("ttl_jitter", self.ttl_jitter, used.ttl_jitter),
            difference("refresh_ahead", self.refresh_ahead, used.refresh_ahead),
        ];
        named.into_iter().flatten().collect::<Vec<_>>().join("; ")
    }
}

fn difference<T: Debug + PartialEq>(name: &str, chosen: Option<T>, used: Option<T>) -> Option<String> {
    let chosen = chosen?;
    match used {
        Some(used) if used == chosen => None,
        Some(used) => Some(format!("`{name}` is {chosen:?}, and {used:?} is used")),
        None => Some(format!("`{name}` is {chosen:?}, and that of the call is used")),
    }
}
