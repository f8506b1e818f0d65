//! The route of a message: from the subscriber's socket to the listener of one region.
//!
//! The functions here are called by the task that reads the socket, once per message and with no
//! task in between: the delay of an invalidation is one hop beyond the read.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use async_cache_core::backend::{BusEvent, Listener};
use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use redis::{PushInfo, PushKind, Value};
use tokio::sync::Notify;

use super::member::Member;
use super::message::{self, Channel};
use super::vitals::Vitals;
use crate::keys::Channels;

/// The regions that listen, and the signals to the subscriber.
pub(crate) struct Bus {
    routes: RwLock<HashMap<Bytes, Route>>,
    members: Mutex<HashMap<u64, Arc<Member>>>,
    /// Wakes the subscriber: the members changed, or the connection ended.
    pub(crate) changed: Notify,
    pub(crate) vitals: Vitals,
    /// The last connection that is known to have ended.
    ended: AtomicU64,
    /// Regions whose subscriptions the server has ended.
    strays: Mutex<HashSet<u64>>,
    /// Tells the topology that this server no longer has a partition.
    pub(crate) strayed: Arc<Notify>,
}

#[derive(Clone)]
struct Route {
    member: Arc<Member>,
    partition: u16,
    channel: Channel,
}

impl Bus {
    pub(crate) fn new(strayed: Arc<Notify>) -> Self {
        Self {
            routes: RwLock::default(),
            members: Mutex::default(),
            changed: Notify::new(),
            vitals: Vitals::new(),
            ended: AtomicU64::new(0),
            strays: Mutex::default(),
            strayed,
        }
    }

    /// Adds a region: its subscription starts as soon as the subscriber gets to it. The channels are those of its
    /// partitions from `first` on.
    pub(crate) fn join(
        &self,
        first: u16,
        channels: Vec<Channels>,
        listener: Weak<dyn Listener>,
    ) -> Arc<Member> {
        static NEXT: AtomicU64 = AtomicU64::new(1);

        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let member = Arc::new(Member::new(id, channels, listener));
        let mut routes = self.routes.write();
        for (partition, channels) in (first..).zip(&member.channels) {
            for (name, channel) in [(&channels.bus, Channel::Bus), (&channels.node, Channel::Node)] {
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

    /// The regions whose subscriptions the server has ended since the last call.
    pub(super) fn take_strays(&self) -> HashSet<u64> {
        std::mem::take(&mut self.strays.lock())
    }

    /// The regions there are now.
    pub(crate) fn members(&self) -> HashMap<u64, Arc<Member>> {
        self.members.lock().clone()
    }

    /// Whether a region listens to a channel.
    pub(crate) fn wanted(&self, name: &Bytes) -> bool {
        self.routes.read().contains_key(name)
    }

    /// Takes a push that the subscriber's connection of this number has received.
    pub(crate) fn take(&self, connection: u64, push: PushInfo) {
        self.vitals.heard();
        let mut data = push.data.into_iter();
        let (Some(Value::BulkString(name)), second) = (data.next(), data.next()) else { return };
        // The lock is not held while the listener is told, because the listener may drop a region.
        let Some(route) = self.routes.read().get(&name[..]).cloned() else { return };
        match (push.kind, second) {
            (PushKind::Message | PushKind::SMessage, Some(Value::BulkString(payload))) => {
                let payload = Bytes::from(payload);
                let event = message::parse(route.channel, route.partition, &payload);
                route.member.tell(connection, event.unwrap_or(BusEvent::Foreign));
            }
            (PushKind::Subscribe | PushKind::SSubscribe, _) => route.member.acknowledged(connection, &name),
            // This connection ends subscriptions of channels without a route only. So the server has ended this one,
            // because the slot has left it.
            (PushKind::SUnsubscribe, _) if route.member.dropped(connection) => {
                self.strays.lock().insert(route.member.id);
                self.changed.notify_one();
                self.strayed.notify_one();
            }
            _ => {}
        }
    }

    /// Notes that the connection of this number has ended.
    pub(crate) fn ended(&self, connection: u64) {
        self.ended.fetch_max(connection, Ordering::Relaxed);
        self.changed.notify_one();
    }

    /// Whether the connection of this number has ended.
    pub(crate) fn has_ended(&self, connection: u64) -> bool {
        self.ended.load(Ordering::Relaxed) >= connection
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
