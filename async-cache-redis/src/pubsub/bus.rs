//! Where a message goes: from the subscriber's socket to the listener of one region.
//!
//! The functions here are called by the task that reads the socket, once per message and with no
//! task in between: the delay of an invalidation is one hop beyond the read.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use async_cache_core::backend::{BusEvent, Listener};
use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use redis::{PushInfo, PushKind, Value};
use tokio::sync::Notify;

use crate::pubsub::message::{self, Channel};

/// The regions that listen, and what the subscriber is to do for them.
pub(crate) struct Bus {
    routes: RwLock<HashMap<Bytes, Route>>,
    members: Mutex<HashMap<u64, Arc<Member>>>,
    /// Wakes the subscriber: the members changed, or the connection ended.
    pub(crate) changed: Notify,
    pub(crate) vitals: Vitals,
    /// The last connection that is known to have ended.
    ended: AtomicU64,
}

#[derive(Clone)]
struct Route {
    member: Arc<Member>,
    partition: u16,
    channel: Channel,
}

/// A region, as the bus sees it.
pub(crate) struct Member {
    pub(crate) id: u64,
    /// The channels of each partition: bus, node.
    pub(crate) channels: Vec<(Bytes, Bytes)>,
    listener: Weak<dyn Listener>,
    hearing: Mutex<Hearing>,
}

/// How far a member's subscription has come. The lock is held while its listener is told, so
/// that nothing of an old connection is delivered after `Lost`.
struct Hearing {
    /// The connection subscribed on.
    epoch: u64,
    /// Channels not acknowledged yet.
    awaited: usize,
    /// `Subscribed` was told and `Lost` was not.
    live: bool,
}

impl Bus {
    pub(crate) fn new() -> Self {
        Self {
            routes: RwLock::default(),
            members: Mutex::default(),
            changed: Notify::new(),
            vitals: Vitals::new(),
            ended: AtomicU64::new(0),
        }
    }

    /// Adds a region: its subscription starts as soon as the subscriber gets to it.
    pub(crate) fn join(
        &self,
        id: u64,
        channels: Vec<(Bytes, Bytes)>,
        listener: Weak<dyn Listener>,
    ) -> Arc<Member> {
        let hearing = Mutex::new(Hearing { epoch: 0, awaited: 0, live: false });
        let member = Arc::new(Member { id, channels, listener, hearing });
        let mut routes = self.routes.write();
        for (partition, (bus, node)) in (0..).zip(&member.channels) {
            for (name, channel) in [(bus, Channel::Bus), (node, Channel::Node)] {
                routes.insert(name.clone(), Route { member: Arc::clone(&member), partition, channel });
            }
        }
        drop(routes);
        self.members.lock().insert(id, Arc::clone(&member));
        self.changed.notify_one();
        member
    }

    /// Removes a region.
    pub(crate) fn leave(&self, member: &Member) {
        self.members.lock().remove(&member.id);
        let mut routes = self.routes.write();
        for name in member.names() {
            if routes.get(name).is_some_and(|route| route.member.id == member.id) {
                routes.remove(name);
            }
        }
        drop(routes);
        self.changed.notify_one();
    }

    /// The regions there are now.
    pub(crate) fn members(&self) -> HashMap<u64, Arc<Member>> {
        self.members.lock().clone()
    }

    /// Whether anyone listens to a channel.
    pub(crate) fn wanted(&self, name: &Bytes) -> bool {
        self.routes.read().contains_key(name)
    }

    /// Takes what the subscriber's connection number `epoch` received.
    pub(crate) fn take(&self, epoch: u64, push: PushInfo) {
        self.vitals.heard();
        let mut data = push.data.into_iter();
        let (Some(Value::BulkString(name)), second) = (data.next(), data.next()) else { return };
        // Not held while the listener is told: it may drop a region.
        let Some(route) = self.routes.read().get(&name[..]).cloned() else { return };
        match (push.kind, second) {
            (PushKind::Message, Some(Value::BulkString(payload))) => {
                let payload = Bytes::from(payload);
                let event = message::parse(route.channel, route.partition, &payload);
                route.member.tell(epoch, event.unwrap_or(BusEvent::Foreign));
            }
            (PushKind::Subscribe, _) => route.member.acknowledged(epoch),
            _ => {}
        }
    }

    /// Notes that connection number `epoch` has ended.
    pub(crate) fn ended(&self, epoch: u64) {
        self.ended.fetch_max(epoch, Ordering::Relaxed);
        self.changed.notify_one();
    }

    /// Whether connection number `epoch` has ended.
    pub(crate) fn has_ended(&self, epoch: u64) -> bool {
        self.ended.load(Ordering::Relaxed) >= epoch
    }

    /// Tells every region that it may not subscribe.
    pub(crate) fn refused(&self, why: &Arc<str>) {
        for member in self.members().into_values() {
            member.refused(why);
        }
    }

    /// Tells every region that the connection is gone.
    pub(crate) fn lost(&self) {
        for member in self.members().into_values() {
            member.lost();
        }
    }
}

impl Member {
    /// All its channels.
    pub(crate) fn names(&self) -> impl Iterator<Item = &Bytes> {
        self.channels.iter().flat_map(|(bus, node)| [bus, node])
    }

    /// Whether every message is being delivered.
    pub(crate) fn live(&self) -> bool {
        self.hearing.lock().live
    }

    /// Starts counting the acknowledgements of a connection. Called right before SUBSCRIBE is
    /// sent, and never while another is under way: whatever is acknowledged from here on is ours.
    pub(crate) fn subscribing(&self, epoch: u64) {
        *self.hearing.lock() = Hearing { epoch, awaited: 2 * self.channels.len(), live: false };
    }

    fn acknowledged(&self, epoch: u64) {
        let mut hearing = self.hearing.lock();
        if hearing.epoch != epoch || hearing.awaited == 0 {
            return;
        }
        hearing.awaited -= 1;
        if hearing.awaited == 0 {
            hearing.live = true;
            self.notify(BusEvent::Subscribed);
        }
    }

    fn tell(&self, epoch: u64, event: BusEvent) {
        let hearing = self.hearing.lock();
        if hearing.live && hearing.epoch == epoch {
            self.notify(event);
        }
    }

    /// Tells that the server does not let it subscribe.
    pub(crate) fn refused(&self, why: &Arc<str>) {
        self.notify(BusEvent::Refused { why: Arc::clone(why) });
    }

    fn lost(&self) {
        let mut hearing = self.hearing.lock();
        if std::mem::take(&mut hearing.live) {
            self.notify(BusEvent::Lost);
        }
        hearing.awaited = 0;
    }

    /// One listener's panic must not end the task that serves them all.
    fn notify(&self, event: BusEvent) {
        if let Some(listener) = self.listener.upgrade() {
            let _ = catch_unwind(AssertUnwindSafe(|| listener.notify(event)));
        }
    }
}

/// Signs of life of the subscriber's connection.
///
/// A socket that is half open looks like one on which nothing happens. But every heartbeat that
/// succeeded on the command route has an echo here.
pub(crate) struct Vitals {
    base: Instant,
    /// When something was heard last, in µs since `base`.
    heard: AtomicU64,
    /// When the first heartbeat was sent that nothing has been heard after; 0 if there is none.
    unanswered: AtomicU64,
}

impl Vitals {
    fn new() -> Self {
        Self { base: Instant::now(), heard: AtomicU64::new(0), unanswered: AtomicU64::new(0) }
    }

    /// The time in µs, never 0.
    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.base.elapsed().as_micros()).unwrap_or(u64::MAX).max(1)
    }

    /// Notes that something arrived.
    pub(crate) fn heard(&self) {
        self.heard.store(self.now(), Ordering::Relaxed);
        self.unanswered.store(0, Ordering::Relaxed);
    }

    /// Notes that the connection was asked and answered. Owed echoes stay owed.
    pub(crate) fn answered(&self) {
        self.heard.store(self.now(), Ordering::Relaxed);
    }

    /// Notes that a heartbeat sent at `sent` has been executed.
    ///
    /// The echo may be here before the answer is; then nothing is owed.
    pub(crate) fn pulse(&self, sent: u64) {
        if self.heard.load(Ordering::Relaxed) < sent {
            let _ = self.unanswered.compare_exchange(0, sent, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// How long nothing has been heard.
    pub(crate) fn silence(&self) -> Duration {
        Duration::from_micros(self.now().saturating_sub(self.heard.load(Ordering::Relaxed)))
    }

    /// How long a heartbeat has been waiting for its echo.
    pub(crate) fn overdue(&self) -> Duration {
        match self.unanswered.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            since => Duration::from_micros(self.now().saturating_sub(since)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_echo_that_overtakes_the_answer_is_not_owed() {
        let vitals = Vitals::new();
        let sent = vitals.now();
        while vitals.now() == sent {}
        vitals.heard();
        vitals.pulse(sent);
        assert_eq!(vitals.overdue(), Duration::ZERO);

        while vitals.silence() == Duration::ZERO {}
        vitals.pulse(vitals.now());
        while vitals.overdue() == Duration::ZERO {}
        vitals.answered();
        assert_ne!(vitals.overdue(), Duration::ZERO, "an answered PING is no echo");
        vitals.heard();
        assert_eq!(vitals.overdue(), Duration::ZERO);
    }
}
