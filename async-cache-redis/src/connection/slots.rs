//! The slots of a backend: each holds one connection, or says why there is none.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::RwLock;
use redis::RedisResult;
use tokio::sync::{Mutex, Notify};
use tokio::time::timeout;

use super::cause::{Cause, Secrets};
use super::failure::{Failure, Outage};
use super::link::Link;
use super::refusals::Address;
use super::repeat::forgotten;
use crate::limits::{Deadlines, Purpose};

/// The number of timeouts in a row that takes a slot down.
const STRIKES: u32 = 3;

/// The slots of one backend, used in turn.
pub(crate) struct Slots {
    slots: Vec<Arc<Slot>>,
    next: AtomicUsize,
    /// The slot that reads of single keys use.
    meeting: AtomicUsize,
    pub(crate) deadlines: Deadlines,
    pub(super) secrets: Secrets,
    /// Held by the task that tries to reach the server.
    pub(super) probing: Mutex<()>,
    /// Whether there ever was a connection.
    ever_up: AtomicBool,
    /// Connections are being made on another runtime, and the first attempt has not ended.
    reconnecting: AtomicBool,
    attempted: Notify,
}

pub(super) struct Slot {
    state: RwLock<State>,
    pub(super) went_down: Notify,
}

enum State {
    Up(Arc<Link>),
    Down(Outage),
}

impl Slots {
    /// Slots of which the first is up, or down as `first` says.
    pub(crate) fn new(
        first: Result<Link, Outage>,
        count: usize,
        deadlines: Deadlines,
        secrets: Secrets,
    ) -> Self {
        let waiting = Outage::lost(Cause::ours("not connected yet"));
        let ever_up = AtomicBool::new(first.is_ok());
        let mut slots = vec![Slot::new(first.map_or_else(State::Down, |link| State::Up(Arc::new(link))))];
        slots.resize_with(count.max(1), || Slot::new(State::Down(waiting.clone())));
        let slots = slots.into_iter().map(Arc::new).collect();
        Self {
            slots,
            next: AtomicUsize::new(0),
            meeting: AtomicUsize::new(0),
            deadlines,
            secrets,
            probing: Mutex::default(),
            ever_up,
            reconnecting: AtomicBool::new(false),
            attempted: Notify::new(),
        }
    }

    /// Notes that the address is known to be right.
    pub(crate) fn address_is_right(&self) {
        self.ever_up.store(true, Ordering::Relaxed);
    }

    /// What is known of the server's address.
    pub(super) fn address(&self) -> Address {
        if self.ever_up.load(Ordering::Relaxed) { Address::Proven } else { Address::Unproven }
    }

    pub(crate) fn count(&self) -> usize {
        self.slots.len()
    }

    /// Takes all slots down: the runtime that read their connections has ended.
    pub(crate) fn take_down_all(&self) {
        let ended = Outage::lost(Cause::ours(
            "the Tokio runtime has ended on which the connection was made; it is made again on another one",
        ));
        self.reconnecting.store(true, Ordering::Release);
        for slot in &self.slots {
            *slot.state.write() = State::Down(ended.clone());
        }
    }

    /// Waits for the first attempt to connect on another runtime, if one is being made.
    pub(crate) async fn first_attempt(&self, purpose: Purpose) {
        if self.reconnecting.load(Ordering::Acquire) {
            let mut attempted = pin!(self.attempted.notified());
            attempted.as_mut().enable();
            if self.reconnecting.load(Ordering::Acquire) {
                let _ = timeout(self.deadlines.of(purpose), attempted).await;
            }
        }
    }

    /// An attempt to connect has ended.
    pub(super) fn attempt_ended(&self) {
        if self.reconnecting.swap(false, Ordering::AcqRel) {
            self.attempted.notify_waiters();
        }
    }

    /// Whether any slot is up.
    pub(crate) fn available(&self) -> bool {
        self.slots.iter().any(|slot| slot.link().is_ok())
    }

    /// Whether commands run on this connection.
    pub(crate) fn holds(&self, link: &Arc<Link>) -> bool {
        self.slots.iter().any(|slot| slot.link().is_ok_and(|held| Arc::ptr_eq(&held, link)))
    }

    /// A connection to run commands on, or at once the reason why there is none.
    pub(crate) fn pick(&self, purpose: Purpose) -> Result<Checkout<'_>, Failure> {
        self.up_from(self.next.fetch_add(1, Ordering::Relaxed), purpose)
    }

    /// The connection to read a single key on: one for all such reads until it is crowded, so that they
    /// share commands.
    pub(crate) fn meet(&self) -> Result<Checkout<'_>, Failure> {
        let checkout = self.up_from(self.meeting.load(Ordering::Relaxed), Purpose::Read)?;
        if checkout.link.reads.is_crowded() {
            self.meeting.fetch_add(1, Ordering::Relaxed);
        }
        Ok(checkout)
    }

    /// The first connection that is up, from `start` on.
    fn up_from(&self, start: usize, purpose: Purpose) -> Result<Checkout<'_>, Failure> {
        let mut outage: Option<Outage> = None;
        for turn in 0..self.slots.len() {
            let slot = &self.slots[start.wrapping_add(turn) % self.slots.len()];
            match slot.link() {
                Ok(link) => return Ok(self.checkout(slot, link, self.deadlines.of(purpose))),
                Err(other) => outage = Some(outage.map_or(other.clone(), |known| known.and(other))),
            }
        }
        let Some(outage) = outage else { unreachable!("there is at least one slot") };
        Err(Failure::Down(outage))
    }

    pub(super) fn checkout<'a>(&'a self, slot: &'a Slot, link: Arc<Link>, limit: Duration) -> Checkout<'a> {
        Checkout { slots: self, slot, link, limit }
    }

    pub(super) fn slot(&self, index: usize) -> &Slot {
        &self.slots[index]
    }

    /// Puts a new connection in its place.
    ///
    /// Connections to another run are taken down, because the server was replaced. If half of the commands
    /// still went to the old server, the two memories would begin new epochs in turns.
    pub(super) fn install(&self, slot: &Slot, link: Link) {
        let run = link.run;
        self.ever_up.store(true, Ordering::Relaxed);
        *slot.state.write() = State::Up(Arc::new(link));
        self.attempt_ended();
        self.take_down_if(|old| old.run != run);
    }

    /// Takes down connections with another run token: `link` has just agreed on one with the other nodes.
    pub(crate) fn agreed(&self, link: &Link, meta: &[u8]) {
        let run = link.token_run(meta);
        self.take_down_if(|old| old.token_run(meta).is_some_and(|old| Some(old) != run));
    }

    fn take_down_if(&self, replaced: impl Fn(&Link) -> bool) {
        for slot in &self.slots {
            if let Ok(old) = slot.link()
                && replaced(&old)
            {
                slot.take_down(&old, || Cause::ours("another server has taken its place"));
            }
        }
    }
}

impl Slot {
    fn new(state: State) -> Self {
        Self { state: RwLock::new(state), went_down: Notify::new() }
    }

    pub(super) fn link(&self) -> Result<Arc<Link>, Outage> {
        match &*self.state.read() {
            State::Up(link) => Ok(Arc::clone(link)),
            State::Down(outage) => Err(outage.clone()),
        }
    }

    /// Takes the slot down, unless `link` has been replaced already.
    fn take_down(&self, link: &Arc<Link>, cause: impl FnOnce() -> Cause) {
        let mut state = self.state.write();
        if matches!(&*state, State::Up(current) if Arc::ptr_eq(current, link)) {
            *state = State::Down(Outage::lost(cause()));
            self.went_down.notify_one();
        }
    }

    pub(super) fn still_down(&self, newest: Outage) {
        if let State::Down(outage) = &mut *self.state.write() {
            *outage = Outage { since: outage.since, ..newest };
        }
    }
}

/// A connection picked for one operation: all commands of the operation go to the same run.
pub(crate) struct Checkout<'a> {
    slots: &'a Slots,
    slot: &'a Slot,
    pub(crate) link: Arc<Link>,
    pub(crate) limit: Duration,
}

impl Checkout<'_> {
    /// Waits for an answer within the deadline, and takes the slot down if the connection is of no more use.
    pub(crate) async fn answer<T>(&self, answer: impl Future<Output = RedisResult<T>>) -> Result<T, Failure> {
        let (limit, secrets) = (self.limit, &self.slots.secrets);
        let failure = match timeout(limit, answer).await {
            Ok(Ok(value)) => {
                self.link.answered();
                return Ok(value);
            }
            Ok(Err(error)) if self.link.has_tokens() && forgotten(&error) => Failure::Broken(Cause::ours(
                "another server process answers, or it has forgotten its scripts",
            )),
            Ok(Err(error)) => Failure::of(&error, secrets, limit),
            Err(_) => Failure::Timeout(limit),
        };
        match &failure {
            Failure::Timeout(_) if self.link.timed_out() >= STRIKES => {
                let cause = || Cause::ours(format!("{STRIKES} commands in a row got no answer in {limit:?}"));
                self.slot.take_down(&self.link, cause);
            }
            Failure::Broken(cause) => self.slot.take_down(&self.link, || cause.clone()),
            Failure::Forbidden(_) | Failure::Refused { .. } => self.link.answered(),
            Failure::Timeout(_) | Failure::Down(_) => {}
        }
        Err(failure)
    }
}
