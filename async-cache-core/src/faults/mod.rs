//! Faults for tests, in one place: fences that can be switched off, and steps that can be turned round.

pub(crate) mod mutant;
#[cfg(all(test, shuttle))]
pub(crate) mod schedule;

/// Whether this step is to be done the wrong way round. Only schedules plant faults: elsewhere the compiler removes it.
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
