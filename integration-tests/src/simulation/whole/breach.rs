//! A report of a broken promise, with everything for its analysis.

use std::fmt;

/// The promises, in the words of the documentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Promise {
    /// No value answers as fresh after its `ttl`, nor as a fallback after `stale_for` more.
    Age,
    /// One load for each key, change and expiry in the fleet, and one more for each load that fails.
    Loads,
    /// After a change has returned, no older value answers: at once on its node and with its stamp, and after
    /// `max_staleness` on other nodes.
    Staleness,
    /// Every call ends within its own limits. So does a shutdown.
    Liveness,
    /// A read returns the stored value, byte for byte.
    Values,
    /// Nothing is left behind.
    Growth,
    /// `stats()` agrees with what happened.
    Stats,
    /// Pending changes are sent before the shutdown returns, or are counted in its result.
    Shutdown,
    /// Without faults, and with loaders that succeed, no call fails.
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
    /// The broken promise.
    pub promise: Promise,
    /// The seed of the run.
    pub seed: u64,
    /// The key, if the breach concerns one.
    pub key: Option<u64>,
    /// The observation.
    pub what: String,
    /// The earlier events of the key.
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
