//! The options for storing a value.

use std::time::Duration;

use serde::{Deserialize, Deserializer, de};

use crate::error::{Error, ErrorKind, Result};
use crate::format::tags::Collected;
use crate::options::choice::Choice;
use crate::options::{in_range, wrong};

/// The options for storing a value. They can be set for a cache, an insert, a load and a loaded value.
///
/// They can be deserialized. A duration is text, such as `"5m"` or `"250ms"`. An unknown field is an error.
///
/// ```
/// # use async_cache_core::StoreOptions; use std::time::Duration;
/// let options: StoreOptions = serde_json::from_str(r#"{ "ttl": "5m", "stale_for": "1h 30m", "tags": ["eu"] }"#)?;
/// assert_eq!(options, StoreOptions::new().ttl(Duration::from_secs(300)).stale_for(Duration::from_secs(5400)).tag("eu"));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[must_use = "options do nothing until they are given to a cache"]
#[non_exhaustive]
pub struct StoreOptions {
    /// The lifetime of a value: at least 1 ms. The default is 5 minutes.
    #[serde(deserialize_with = "crate::options::duration::required")]
    pub ttl: Duration,
    /// How long L1 answers by itself: at least 1 ms. After that it asks L2 whether L2 still has the value. This
    /// question transfers no payload and loads nothing. The value expires with `ttl` alone. In a cache without
    /// an L2 it expires with the shorter of the two. The default is `ttl`.
    #[serde(deserialize_with = "crate::options::duration::optional")]
    pub l1_ttl: Option<Duration>,
    /// The maximum fraction of the lifetime, from 0 to below 1, by which it is shortened at random. It is drawn
    /// once for each fill, so that values that are written together do not expire together. The default is 0.
    pub ttl_jitter: f64,
    /// The lifetime of a cached absence: at least 1 ms. The default is 30 s.
    #[serde(deserialize_with = "crate::options::duration::required")]
    pub negative_ttl: Duration,
    /// How long a value is kept as a fallback after it expires: see
    /// [`LoadOptions::stale_while_revalidate`](super::LoadOptions::stale_while_revalidate), `stale_on_error`
    /// and `soft_timeout`. A cached absence is kept as long. The default is 0.
    ///
    /// The fallback is always a value that has *expired*. A value that was invalidated or replaced is removed.
    #[serde(deserialize_with = "crate::options::duration::required")]
    pub stale_for: Duration,
    #[serde(deserialize_with = "tags")]
    pub(crate) tags: Collected,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(300),
            l1_ttl: None,
            ttl_jitter: 0.0,
            negative_ttl: Duration::from_secs(30),
            stale_for: Duration::ZERO,
            tags: Collected::default(),
        }
    }
}

impl StoreOptions {
    /// Returns the default options.
    pub fn new() -> Self {
        Self::default()
    }

    super::store_setters!(|this| this);
    super::negative_setters!(|this| this);

    pub(crate) fn validate(&self) -> Result<()> {
        for (name, span) in [
            ("ttl", self.ttl),
            ("l1_ttl", self.l1_ttl.unwrap_or(self.ttl)),
            ("negative_ttl", self.negative_ttl),
        ] {
            if span < Duration::from_millis(1) {
                return wrong(
                    name,
                    "at least 1 ms; zero would cache nothing: let the loader return `Loaded::uncached()` instead",
                );
            }
            in_range(name, span)?;
        }
        in_range("stale_for", self.stale_for)?;
        if !(0.0..1.0).contains(&self.ttl_jitter) {
            return wrong("ttl_jitter", "a fraction from 0 to below 1");
        }
        self.tags.get().map(drop)
    }

    /// Checks that every option has an effect in these tiers.
    pub(crate) fn check_tiers(&self, has_l1: bool) -> Result<()> {
        if self.l1_ttl.is_some() && !has_l1 {
            let message = "option `l1_ttl` has no effect without an L1: call `l1` on the builder, or leave `l1_ttl` out";
            return Err(Error::new(ErrorKind::Config, message));
        }
        Ok(())
    }

    /// Applies the options that a loader chose, and adds its tags.
    pub(crate) fn choose(&mut self, choice: &Choice) {
        self.tags.add_all(&choice.tags);
        self.ttl = choice.ttl.unwrap_or(self.ttl);
        self.l1_ttl = choice.l1_ttl.or(self.l1_ttl);
        self.ttl_jitter = choice.ttl_jitter.unwrap_or(self.ttl_jitter);
        self.stale_for = choice.stale_for.unwrap_or(self.stale_for);
    }

    /// How long a value or an absence is kept, with random jitter.
    pub(crate) fn draw_term(&self, absent: bool) -> Term {
        let full = if absent { self.negative_ttl } else { self.ttl }.min(super::MAX_LIFE);
        let shortened =
            if self.ttl_jitter > 0.0 { full.mul_f64(1.0 - self.ttl_jitter * fastrand::f64()) } else { full };
        Term { ttl: shortened.max(Duration::from_millis(1)), stale_for: self.stale_for.min(super::MAX_LIFE) }
    }
}

/// Deserializes a list of tags. An invalid tag is an error.
fn tags<'de, D: Deserializer<'de>>(from: D) -> Result<Collected, D::Error> {
    let mut collected = Collected::default();
    Vec::<String>::deserialize(from)?.iter().for_each(|tag| collected.add(tag));
    collected.get().map_err(de::Error::custom)?;
    Ok(collected)
}

/// How long an entry is kept. It is decided once for each fill and holds in all tiers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Term {
    /// The time until the entry expires.
    pub(crate) ttl: Duration,
    /// The time after that, in which the entry is a fallback.
    pub(crate) stale_for: Duration,
}

impl Term {
    /// How long the entry is stored.
    pub(crate) fn kept(self) -> Duration {
        self.ttl + self.stale_for
    }
}
