//! The types with which the threads of one cache share memory. In normal builds they are the types of
//! parking_lot, std and Tokio. In the build for [the schedules](crate::schedules) they yield to a scheduler
//! that tries many interleavings.

#[cfg(all(test, shuttle))]
mod scheduled;

#[cfg(not(all(test, shuttle)))]
pub(crate) use {
    parking_lot::Mutex,
    std::sync::OnceLock,
    std::sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    tokio::sync::Notify,
};

#[cfg(all(test, shuttle))]
pub(crate) use {
    scheduled::{Mutex, Notify, OnceLock},
    shuttle::sync::atomic::{AtomicU64, AtomicUsize, Ordering},
};
