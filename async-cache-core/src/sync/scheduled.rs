//! The types for the schedules. At each operation the scheduler may let another thread go on.

use std::sync::PoisonError;

use shuttle::sync::atomic::{AtomicBool, Ordering};
use shuttle::sync::{self, MutexGuard};
use tokio::sync::futures::Notified;

/// A mutex without poisoning.
#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(sync::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn into_inner(self) -> T {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A point at which another thread may go on. The code from here to the next gate is one step.
#[derive(Debug)]
struct Gate(AtomicBool);

impl Gate {
    fn new() -> Self {
        Self(AtomicBool::new(false))
    }

    fn pass(&self) {
        self.0.load(Ordering::SeqCst);
    }
}

/// A cell that is set once.
#[derive(Debug)]
pub(crate) struct OnceLock<T> {
    cell: std::sync::OnceLock<T>,
    gate: Gate,
}

impl<T> OnceLock<T> {
    pub(crate) fn new() -> Self {
        Self { cell: std::sync::OnceLock::new(), gate: Gate::new() }
    }

    pub(crate) fn get(&self) -> Option<&T> {
        self.gate.pass();
        self.cell.get()
    }

    pub(crate) fn set(&self, value: T) -> Result<(), T> {
        self.gate.pass();
        self.cell.set(value)
    }
}

/// Tokio's own type. Each of its operations is one step: the scheduler does not interrupt a thread inside it.
#[derive(Debug)]
pub(crate) struct Notify {
    tokio: tokio::sync::Notify,
    gate: Gate,
}

impl Default for Notify {
    fn default() -> Self {
        Self::new()
    }
}

impl Notify {
    pub(crate) fn new() -> Self {
        Self { tokio: tokio::sync::Notify::new(), gate: Gate::new() }
    }

    pub(crate) fn notified(&self) -> Notified<'_> {
        self.gate.pass();
        self.tokio.notified()
    }

    pub(crate) fn notify_one(&self) {
        self.gate.pass();
        self.tokio.notify_one();
    }

    pub(crate) fn notify_waiters(&self) {
        self.gate.pass();
        self.tokio.notify_waiters();
    }
}
