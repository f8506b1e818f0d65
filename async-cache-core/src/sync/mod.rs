//! What the threads of one cache share memory by. In every build but one these are the types of
//! parking_lot, std and Tokio, by their own names; in that one, they yield to a scheduler that tries
//! [the schedules](crate::schedules).

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
