//! How a value is stored.

use std::time::Duration;

use serde::{Deserialize, Deserializer, de};

use crate::error::{Error, ErrorKind, Result};
use crate::format::tags::Collected;
use crate::options::choice::Choice;
use crate::options::{in_range, wrong};

/// How a value is stored: options of a cache, an insert, a load, a loaded value.
///
/// Can be deserialized; times are text, such as `"5m"` or `"250ms"`, and an unknown field is an error.
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
    /// Lifetime of a value. Default 5 minutes.
    #[serde(with = "humantime_serde")]
    pub ttl: Duration,
    /// How long L1 answers by itself: then L2 is asked whether it still has the value, which takes no payload and
    /// loads nothing. The value is as fresh as before; that ends with `ttl` alone. In a cache without an L2 it ends
    /// with whichever of the two is shorter. Default: as long as `ttl`.
    #[serde(with = "humantime_serde")]
    pub l1_ttl: Option<Duration>,
    /// Fraction of the lifetime, from 0 to below 1, by which it is shortened at random, once per
    /// fill, so that values written together do not expire together. Default 0.
    pub ttl_jitter: f64,
    /// Lifetime of a cached absence. Default 30 s.
    #[serde(with = "humantime_serde")]
    pub negative_ttl: Duration,
    /// How long past its expiry a value is kept as a fallback: see
    /// [`LoadOptions::stale_while_revalidate`](super::LoadOptions::stale_while_revalidate), `stale_on_error` and
    /// `soft_timeout`. A cached absence is kept as long. Default 0.
    ///
    /// Only ever a value that has *expired*: one that was invalidated or replaced is gone.
    #[serde(with = "humantime_serde")]
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
    /// The defaults.
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

    /// Whether the tiers give every option an effect.
    pub(crate) fn check_tiers(&self, has_l1: bool) -> Result<()> {
        if self.l1_ttl.is_some() && !has_l1 {
            let message = "option `l1_ttl` has no effect without an L1: call `l1` on the builder, or leave `l1_ttl` out";
            return Err(Error::new(ErrorKind::Config, message));
        }
        Ok(())
    }

    /// What a loader chose, where it did. Its tags are added.
    pub(crate) fn choose(&mut self, choice: &Choice) {
        self.tags.add_all(&choice.tags);
        self.ttl = choice.ttl.unwrap_or(self.ttl);
        self.l1_ttl = choice.l1_ttl.or(self.l1_ttl);
        self.ttl_jitter = choice.ttl_jitter.unwrap_or(self.ttl_jitter);
        self.stale_for = choice.stale_for.unwrap_or(self.stale_for);
    }

    /// How long a value or an absence is kept, jitter drawn.
    pub(crate) fn draw_term(&self, absent: bool) -> Term {
        let full = if absent { self.negative_ttl } else { self.ttl }.min(super::MAX_LIFE);
        let shortened =
            if self.ttl_jitter > 0.0 { full.mul_f64(1.0 - self.ttl_jitter * fastrand::f64()) } else { full };
        Term { ttl: shortened.max(Duration::from_millis(1)), stale_for: self.stale_for.min(super::MAX_LIFE) }
    }
}

/// A list of tags; a wrong one is an error of the text it stands in.
fn tags<'de, D: Deserializer<'de>>(from: D) -> Result<Collected, D::Error> {
    let mut collected = Collected::default();
    Vec::<String>::deserialize(from)?.iter().for_each(|tag| collected.add(tag));
    collected.get().map_err(de::Error::custom)?;
    Ok(collected)
}

/// How long something is kept, decided once per fill and the same in all tiers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Term {
    /// Until it expires.
    pub(crate) ttl: Duration,
    /// From then on, as a fallback.
    pub(crate) stale_for: Duration,
}

impl Term {
    /// How long it is stored.
    pub(crate) fn kept(self) -> Duration {
        self.ttl + self.stale_for
    }
}
