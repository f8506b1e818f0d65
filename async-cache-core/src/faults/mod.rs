//! Faults for tests, in one place: safeguards that can be switched off, and steps whose order can be
//! reversed.

pub(crate) mod mutant;
#[cfg(all(test, shuttle))]
pub(crate) mod schedule;

/// Whether the fault is active at this step. Only schedules activate faults. In other builds the compiler
/// removes the check.
#[cfg(all(test, shuttle))]
macro_rules! planted {
    ($fault:ident) => {
        crate::faults::schedule::Fault::$fault.is_planted()
    };
}
#[cfg(not(all(test, shuttle)))]
macro_rules! planted {
    ($fault:ident) => {
        false
    };
}
pub(crate) use planted;
