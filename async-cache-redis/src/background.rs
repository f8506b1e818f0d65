//! The background tasks of a backend. They end with the runtime that they run on, although the backend may live
//! on; they are then started again on the runtime of the next caller.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Runs tasks, and notices when their runtime has ended. Dropping it ends them.
pub(crate) struct Background {
    state: Arc<State>,
    stop: CancellationToken,
    _stop_on_drop: DropGuard,
}

/// The runtime that tasks run on, and the token that ends them.
#[derive(Clone)]
pub(crate) struct Scope {
    runtime: Handle,
    end: CancellationToken,
}

struct State {
    current: Mutex<Scope>,
    /// The runtime has dropped a task of the current scope.
    ended: AtomicBool,
}

impl Background {
    /// Must be called inside a Tokio runtime. The tasks will run there.
    pub(crate) fn new() -> Self {
        let stop = CancellationToken::new();
        let current = Mutex::new(Scope { runtime: Handle::current(), end: stop.child_token() });
        let state = Arc::new(State { current, ended: AtomicBool::new(false) });
        Self { state, _stop_on_drop: stop.clone().drop_guard(), stop }
    }

    /// The current scope.
    pub(crate) fn scope(&self) -> Scope {
        self.state.current.lock().clone()
    }

    /// Runs a task until it ends, or the current scope does.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.spawn_in(self.scope(), task);
    }

    /// Runs a task until it ends, or the scope does.
    pub(crate) fn spawn_in(&self, scope: Scope, task: impl Future<Output = ()> + Send + 'static) {
        let Scope { runtime, end } = scope;
        let witness = Witness { state: Arc::clone(&self.state), end: end.clone(), done: false };
        runtime.spawn(async move {
            let mut witness = witness;
            end.run_until_cancelled_owned(task).await;
            witness.done = true;
        });
    }

    /// Whether the tasks have to be started again.
    pub(crate) fn has_ended(&self) -> bool {
        self.state.ended.load(Ordering::Acquire)
    }

    /// Begins a scope on another runtime, if the current one has ended. Calls `take_down` before
    /// [`has_ended`](Self::has_ended) returns false again.
    pub(crate) fn begin_again(&self, runtime: Handle, take_down: impl FnOnce()) -> Option<Scope> {
        let mut current = self.state.current.lock();
        if !self.has_ended() {
            return None;
        }
        // The old runtime may have several workers. Some of them may still run tasks.
        let scope = Scope { runtime, end: self.stop.child_token() };
        std::mem::replace(&mut *current, scope.clone()).end.cancel();
        take_down();
        self.state.ended.store(false, Ordering::Release);
        Some(scope)
    }
}

/// A task holds this. If it is dropped before the task is done, the runtime has ended, or the task has panicked: in
/// either case the tasks are started again.
struct Witness {
    state: Arc<State>,
    end: CancellationToken,
    done: bool,
}

impl Drop for Witness {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        let current = self.state.current.lock();
        if !self.end.is_cancelled() {
            self.state.ended.store(true, Ordering::Release);
        }
        drop(current);
    }
}
