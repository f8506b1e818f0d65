//! The stages of lookups and changes that take time. Each has a span and a histogram.

/// A stage: one operation on L2, or a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// A read of stored values.
    Read,
    /// The question for a lease. It returns a stored value, too.
    Lease,
    /// Storing a loaded value.
    Fill,
    /// Storing a value as a change.
    Put,
    /// Invalidating keys.
    Invalidate,
    /// Invalidating tags.
    InvalidateTags,
    /// Invalidating everything.
    Clear,
    /// Waiting for a load or read of another caller on this node.
    WaitForFlight,
    /// Waiting for a load of another node. Its histogram covers all pauses of one wait together.
    WaitForLease,
}

#[cfg(feature = "metrics")]
impl Stage {
    pub(crate) const ALL: [Self; 9] = [
        Self::Read,
        Self::Lease,
        Self::Fill,
        Self::Put,
        Self::Invalidate,
        Self::InvalidateTags,
        Self::Clear,
        Self::WaitForFlight,
        Self::WaitForLease,
    ];
}

/// The time since the start of a wait. Without the feature `metrics` it has no size, and reads no clock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timer {
    #[cfg(feature = "metrics")]
    begun: tokio::time::Instant,
}

impl Timer {
    pub(crate) fn start() -> Self {
        Self {
            #[cfg(feature = "metrics")]
            begun: tokio::time::Instant::now(),
        }
    }

    #[cfg(feature = "metrics")]
    pub(crate) fn took(self) -> std::time::Duration {
        self.begun.elapsed()
    }
}
