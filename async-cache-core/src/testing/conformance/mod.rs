//! Tests an implementation of [`Backend`] against the contract at [`Region`](crate::backend::Region).
//!
//! Implement [`Subject`] for the backend under test, and call [`run`]. Each clause of the contract is a [`Case`]. It
//! runs in its own namespace, with two nodes on separate handles. It works in paused time and against a real server.
//!
//! ```no_run
//! # use std::sync::Arc; use async_cache_core::{Backend, testing::conformance::{self, Subject}};
//! # struct MyBackend; impl MyBackend { async fn connect(_: &str) -> Arc<dyn Backend> { todo!() } }
//! struct Server(String);
//!
//! #[async_trait::async_trait]
//! impl Subject for Server {
//!     async fn handle(&self) -> Arc<dyn Backend> {
//!         MyBackend::connect(&self.0).await
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! conformance::run(&Server("my://localhost".into())).await;
//! # }
//! ```
//!
//! # A whole backend
//!
//! This one keeps everything in a map of the process, with one partition, and passes every case. A backend for a
//! real server does the same work in the server, by scripts or transactions, and adds deadlines and a subscription
//! that can be lost.
//!
//! ```
#![doc = include_str!("../../../examples/backend.rs")]
//! ```

mod bus;
mod changes;
mod expiries;
mod leases;
mod replaced;
mod rig;
mod tags;
mod values;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::future::LocalBoxFuture;

use crate::backend::Backend;
use rig::Bench;

/// A backend under test.
#[async_trait]
pub trait Subject: Send + Sync {
    /// Returns a new handle on the one L2, as another process would have.
    async fn handle(&self) -> Arc<dyn Backend>;

    /// Replaces the memory of the L2 by an empty one, as a restart without persistence does.
    async fn lose_memory(&self) -> Hook {
        Hook::Missing
    }

    /// Makes the L2 unreachable, so that it does not answer.
    async fn stop(&self) -> Hook {
        Hook::Missing
    }

    /// Ends the effect of [`stop`](Self::stop).
    async fn go_on(&self) {}
}

/// Whether a subject can do what a case needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// It was done.
    Done,
    /// It cannot be done. Cases that need it are left out.
    Missing,
}

/// One clause of the contract.
#[derive(Clone, Copy)]
pub struct Case {
    /// Its name.
    pub name: &'static str,
    /// The clause of the contract that it tests.
    pub clause: &'static str,
    run: for<'a> fn(&'a Bench<'a>) -> LocalBoxFuture<'a, Checked>,
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.clause)
    }
}

/// A clause that does not hold.
#[derive(Debug, Clone)]
pub struct Violation {
    /// The case that found it.
    pub case: Case,
    /// The observation.
    pub seen: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n    clause: {}\n    seen: {}", self.case.name, self.case.clause, self.seen)
    }
}

/// Every case.
pub fn cases() -> impl Iterator<Item = Case> {
    [values::CASES, leases::CASES, changes::CASES, tags::CASES, expiries::CASES, bus::CASES, replaced::CASES]
        .into_iter()
        .flatten()
        .copied()
}

/// Runs one case.
///
/// # Errors
///
/// The observation that breaks the clause.
pub async fn check(subject: &dyn Subject, case: Case) -> Result<(), Violation> {
    let bench = Bench::new(subject, case.name);
    (case.run)(&bench).await.map_err(|Broken(seen)| Violation { case, seen })
}

/// Runs every case.
///
/// # Panics
///
/// If a clause does not hold. The message names all such clauses.
pub async fn run(subject: &dyn Subject) {
    let mut violations = Vec::new();
    for case in cases() {
        violations.extend(check(subject, case).await.err());
    }
    let list: Vec<String> = violations.iter().map(ToString::to_string).collect();
    assert!(list.is_empty(), "the backend breaks its contract:\n{}", list.join("\n"));
}

/// The observation that breaks a clause.
struct Broken(String);

type Checked<T = ()> = Result<T, Broken>;

impl From<crate::error::Error> for Broken {
    fn from(error: crate::error::Error) -> Self {
        Self(format!("an operation failed: {error:?}"))
    }
}

/// The cases of a file: functions of a [`Bench`], each with its clause.
macro_rules! clauses {
    ($($name:ident: $clause:literal,)*) => {
        pub(super) const CASES: &[super::Case] = &[$(super::Case {
            name: stringify!($name),
            clause: $clause,
            run: |bench| Box::pin($name(bench)),
        }),*];
    };
}
use clauses;
