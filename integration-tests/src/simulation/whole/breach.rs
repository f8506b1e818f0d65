//! A promise that was broken, told so that it can be looked into.

use std::fmt;

/// What is promised, in the words of the documentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Promise {
    /// Nothing answers as fresh past its `ttl`, nor as a fallback past `stale_for` more.
    Age,
    /// One load for each key, change and expiry in the fleet, and one more for each that fails.
    Loads,
    /// After a change has returned nothing from before it answers: at once on its node and with its
    /// stamp, after `max_staleness` elsewhere.
    Staleness,
    /// Every call ends within its own limits, and so does shutdown.
    Liveness,
    /// What is read is what was stored, byte for byte.
    Values,
    /// Nothing is left behind.
    Growth,
    /// `stats()` says what happened.
    Stats,
    /// What is pending is sent before shutdown returns, or told.
    Shutdown,
    /// With everything in order, and sources that answer, nothing fails.
    Calm,
}

impl Promise {
    fn words(self) -> &'static str {
        match self {
            Self::Age => "nothing answers as fresh past its ttl, nor as a fallback past stale_for more",
            Self::Loads => "one load for each key, change and expiry in the fleet",
            Self::Staleness => "after a change has returned, nothing from before it answers",
            Self::Liveness => "every call ends within its own limits",
            Self::Values => "what is read is what was stored",
            Self::Growth => "nothing is left behind",
            Self::Stats => "stats() says what happened",
            Self::Shutdown => "shutdown sends what is pending, or tells that it could not",
            Self::Calm => "with everything in order nothing fails",
        }
    }
}

/// The first promise that a run broke.
#[derive(Debug, Clone)]
pub struct Breach {
    /// Which.
    pub promise: Promise,
    /// Of which run.
    pub seed: u64,
    /// About which key, if about one.
    pub key: Option<u64>,
    /// What was seen.
    pub what: String,
    /// What happened to the key before.
    pub trail: Vec<String>,
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { promise, seed, key, what, trail } = self;
        writeln!(f, "broken: {}", promise.words())?;
        match key {
            Some(key) => writeln!(f, "  key {key}: {what}")?,
            None => writeln!(f, "  {what}")?,
        }
        writeln!(f, "  what led to it, in milliseconds:")?;
        trail.iter().try_for_each(|line| writeln!(f, "  {line}"))?;
        write!(
            f,
            "  again: SEED={seed} cargo test --release -p integration-tests --test simulation whole -- --nocapture"
        )
    }
}
