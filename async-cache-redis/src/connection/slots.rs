//! A place for one connection: up with a [`Link`], or down and being restored.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::RwLock;
use redis::{RedisError, RedisResult};
use tokio::sync::{Mutex, Notify};
use tokio::time::{sleep, timeout};

use crate::connection::connect::Connector;
use crate::connection::failure::{Cause, Fault, Outage, Secrets};
use crate::connection::link::Link;
use crate::keys::ValueName;

/// Timeouts in a row that take a slot down.
const STRIKES: u32 = 3;
/// How often an idle connection is asked whether it lives.
const CHECK: Duration = Duration::from_secs(1);
/// Longest first pause before reconnecting, and longest of all.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// How long operations may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadlines {
    pub(crate) read: Duration,
    pub(crate) write: Duration,
}

impl Deadlines {
    pub(crate) fn of(&self, purpose: Purpose) -> Duration {
        match purpose {
            Purpose::Read => self.read,
            Purpose::Write => self.write,
        }
    }

    /// For what nobody waits for.
    pub(crate) fn longest(&self) -> Duration {
        self.read.max(self.write)
    }
}

/// What an operation is for, which decides about its deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To find a value, or whose turn it is to load it: a get waits for it.
    Read,
    /// To change what is stored.
    Write,
}

/// The slots of one backend, used in turn.
pub(crate) struct Slots {
    slots: Vec<Arc<Slot>>,
    next: AtomicUsize,
    /// Where reads of one key meet.
    meeting: AtomicUsize,
    pub(crate) deadlines: Deadlines,
    secrets: Secrets,
    /// Held by whoever tries to reach the server.
    probing: Mutex<()>,
    /// Whether there ever was a connection.
    ever_up: AtomicBool,
    /// Connections are being made on another runtime, and the first attempt has not ended.
    reconnecting: AtomicBool,
    attempted: Notify,
}

struct Slot {
    state: RwLock<State>,
    went_down: Notify,
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
    fn attempt_ended(&self) {
        if self.reconnecting.swap(false, Ordering::AcqRel) {
            self.attempted.notify_waiters();
        }
    }

    /// Whether any slot is up.
    pub(crate) fn available(&self) -> bool {
        self.slots.iter().any(|slot| slot.link().is_ok())
    }

    /// A connection to run commands on, or at once the reason why there is none.
    pub(crate) fn pick(&self, purpose: Purpose) -> Result<Line<'_>, Fault> {
        self.up_from(self.next.fetch_add(1, Ordering::Relaxed), purpose)
    }

    /// The connection to read a single key on: the same for all while it can take them, for there they
    /// share commands.
    pub(crate) fn meet(&self) -> Result<Line<'_>, Fault> {
        let line = self.up_from(self.meeting.load(Ordering::Relaxed), Purpose::Read)?;
        if line.link.gather.is_crowded() {
            self.meeting.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line)
    }

    /// The first connection that is up, from `start` on.
    fn up_from(&self, start: usize, purpose: Purpose) -> Result<Line<'_>, Fault> {
        let mut outage: Option<Outage> = None;
        for turn in 0..self.slots.len() {
            let slot = &self.slots[start.wrapping_add(turn) % self.slots.len()];
            match slot.link() {
                Ok(link) => {
                    let limit = self.deadlines.of(purpose);
                    return Ok(Line { slots: self, slot, link, limit });
                }
                Err(other) => outage = Some(outage.map_or(other.clone(), |known| known.and(other))),
            }
        }
        let Some(outage) = outage else { unreachable!("there is at least one slot") };
        Err(Fault::Down(outage))
    }

    /// Puts a new connection in its place.
    ///
    /// A connection to another run is taken down: the server was replaced, and half of the
    /// commands going to the old one would have its memory and the new one's fenced in turns.
    fn install(&self, slot: &Slot, link: Link) {
        let run = link.run;
        self.ever_up.store(true, Ordering::Relaxed);
        *slot.state.write() = State::Up(Arc::new(link));
        self.attempt_ended();
        for other in &self.slots {
            if let Ok(old) = other.link()
                && old.run != run
            {
                other.take_down(&old, || Cause::ours("another server has taken its place"));
            }
        }
    }
}

impl Slot {
    fn new(state: State) -> Self {
        Self { state: RwLock::new(state), went_down: Notify::new() }
    }

    fn link(&self) -> Result<Arc<Link>, Outage> {
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

    fn still_down(&self, newest: Outage) {
        if let State::Down(outage) = &mut *self.state.write() {
            *outage = Outage { since: outage.since, ..newest };
        }
    }
}

/// A connection picked for one operation: all its commands meet the same run.
pub(crate) struct Line<'a> {
    slots: &'a Slots,
    slot: &'a Slot,
    pub(crate) link: Arc<Link>,
    limit: Duration,
}

impl Line<'_> {
    /// Reads a value.
    pub(crate) async fn read(&self, name: &ValueName<'_>) -> Result<Option<Bytes>, Fault> {
        self.answer(self.link.get(name, self.limit)).await
    }

    /// Waits for an answer within the deadline, and draws the conclusions for the slot.
    pub(crate) async fn answer<T>(&self, answer: impl Future<Output = RedisResult<T>>) -> Result<T, Fault> {
        let (limit, secrets) = (self.limit, &self.slots.secrets);
        let fault = match timeout(limit, answer).await {
            Ok(Ok(value)) => {
                self.link.answered();
                return Ok(value);
            }
            Ok(Err(error)) => Fault::of(&error, secrets, limit),
            Err(_) => Fault::Timeout(limit),
        };
        match &fault {
            Fault::Timeout(_) if self.link.timed_out() >= STRIKES => {
                let cause = || Cause::ours(format!("{STRIKES} commands in a row got no answer in {limit:?}"));
                self.slot.take_down(&self.link, cause);
            }
            Fault::Broken(cause) => self.slot.take_down(&self.link, || cause.clone()),
            Fault::Forbidden(_) | Fault::Refused { .. } => self.link.answered(),
            Fault::Timeout(_) | Fault::Down(_) => {}
        }
        Err(fault)
    }
}

/// Keeps one slot up: asks whether the connection lives, and restores it when it does not.
pub(crate) async fn tend(slots: Arc<Slots>, index: usize, connector: Arc<Connector>) {
    let slot = &slots.slots[index];
    loop {
        if let Ok(link) = slot.link() {
            watch(&slots, slot, link).await;
        } else {
            restore(&slots, slot, &connector).await;
        }
    }
}

/// Returns when the link has gone down. A dead connection says nothing by itself.
async fn watch(slots: &Slots, slot: &Slot, link: Arc<Link>) {
    let line = Line { slots, slot, link, limit: slots.deadlines.longest() };
    while slot.link().is_ok_and(|current| Arc::ptr_eq(&current, &line.link)) {
        tokio::select! {
            () = slot.went_down.notified() => {}
            () = sleep(CHECK) => {
                // What follows from a failure is noted by `answer`.
                let _ = line.answer(line.link.query::<()>(&redis::cmd("PING"))).await;
            }
        }
    }
}

/// Returns when a connection has been put in place.
///
/// One slot at a time: as many probes as there are connections would find out no more. Once it has
/// succeeded the others follow, one soon after the other.
async fn restore(slots: &Slots, slot: &Slot, connector: &Connector) {
    let _probing = slots.probing.lock().await;
    for attempt in 0.. {
        sleep(backoff(attempt, BACKOFF)).await;
        match connector.link().await {
            Ok(link) => return slots.install(slot, link),
            Err(refusal) => {
                let mut outage = refusal.outage(&slots.secrets);
                // Later, what was fine once may be again: a password that was changed, a server replaced.
                outage.lasting &= !slots.ever_up.load(Ordering::Relaxed);
                slot.still_down(outage);
                slots.attempt_ended();
            }
        }
    }
}

/// A random pause up to a limit that doubles with every attempt: nodes that lost the same server
/// must not come back in step.
pub(crate) fn backoff(attempt: u32, (first, longest): (Duration, Duration)) -> Duration {
    let limit = longest.min(first.saturating_mul(1 << attempt.min(16)));
    limit.mul_f64(0.2 + 0.8 * fastrand::f64())
}

/// An error that says no more than that time ran out.
pub(crate) fn out_of_time() -> RedisError {
    std::io::Error::from(std::io::ErrorKind::TimedOut).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_limit_and_never_vanish() {
        for attempt in 0..100 {
            let pause = backoff(attempt, BACKOFF);
            assert!(pause >= Duration::from_millis(10) && pause <= BACKOFF.1, "{attempt}: {pause:?}");
        }
        assert!(backoff(0, BACKOFF) <= BACKOFF.0);
        assert!((0..50).any(|_| backoff(20, BACKOFF) > Duration::from_millis(500)));
    }
}
