//! One connection of the subscriber: its subscriptions, and whether it still lives.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use redis::RedisResult;
use tokio::time::{Instant, sleep, timeout};

use super::bus::Bus;
use super::member::Member;
use super::socket::{Acknowledged, Socket};
use crate::connection::channels::Channels;
use crate::connection::failure::is_forbidden;
use crate::connection::rights;
use crate::limits::{Pauses, backoff};
use crate::reply::{out_of_time, redirected};

/// The interval at which the connection's signs of life are checked.
const CHECK: Duration = Duration::from_millis(200);
/// If nothing has arrived on a connection for this time, it is sent a PING. If an echo is missing for this
/// time, the connection is given up.
const PATIENCE: Duration = Duration::from_secs(1);
/// Channels in one SUBSCRIBE.
const CHANNELS: usize = 512;
/// Between attempts after a refusal, which nothing but a change of settings ends.
const REFUSED: Pauses = Pauses { first: Duration::from_millis(500), longest: Duration::from_secs(30) };

/// A new connection.
pub(crate) struct Connected {
    pub(super) number: u64,
    pub(super) socket: Socket,
    pub(super) channels: Channels,
}

/// The outcome of subscriptions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Subscribed {
    All,
    /// The server does not have the slots of some.
    SomeElsewhere,
    SomeRefused,
}

/// One physical connection and its subscriptions.
pub(super) struct Session {
    bus: Arc<Bus>,
    kind: Channels,
    command_timeout: Duration,
    socket: Socket,
    /// The number of the connection.
    number: u64,
    members: HashMap<u64, Arc<Member>>,
    channels: HashSet<Bytes>,
    /// How often in a row a subscription was refused, and when it is asked for again.
    refusals: u32,
    refused_until: Option<Instant>,
}

impl Session {
    pub(super) fn new(bus: Arc<Bus>, command_timeout: Duration, connected: Connected) -> Self {
        let Connected { number, socket, channels: kind } = connected;
        Self {
            bus,
            kind,
            command_timeout,
            socket,
            number,
            members: HashMap::new(),
            channels: HashSet::new(),
            refusals: 0,
            refused_until: None,
        }
    }

    /// Returns when the connection is lost.
    pub(super) async fn serve(&mut self) {
        let bus = Arc::clone(&self.bus);
        while !bus.has_ended(self.number) {
            let alive = tokio::select! {
                () = bus.changed.notified() => self.reconcile().await,
                () = sleep(CHECK) => self.check().await,
            };
            if alive.is_err() {
                return;
            }
        }
    }

    /// Subscribes for regions that came and unsubscribes for those that went.
    pub(super) async fn reconcile(&mut self) -> RedisResult<()> {
        let bus = Arc::clone(&self.bus);
        let members = bus.members();
        let gone: Vec<Bytes> = self
            .members
            .iter()
            .filter(|(id, _)| !members.contains_key(id))
            .flat_map(|(_, member)| member.names())
            // A region of the same name may have come since.
            .filter(|name| !bus.wanted(name) && self.channels.contains(*name))
            .cloned()
            .collect();
        for names in gone.chunks(CHANNELS) {
            let names: Vec<&[u8]> = names.iter().map(AsRef::as_ref).collect();
            match self.kind {
                Channels::Plain => within(self.command_timeout, self.socket.unsubscribe(&names)).await?,
                kind => {
                    within(self.command_timeout, self.socket.unsubscribe_each(kind, &names)).await?;
                }
            }
        }
        for name in &gone {
            self.channels.remove(name);
        }
        let strays = bus.take_strays();
        self.members.retain(|id, _| members.contains_key(id) && !strays.contains(id));
        let new: Vec<Arc<Member>> =
            members.into_values().filter(|member| !self.members.contains_key(&member.id)).collect();
        let subscribed = match self.kind {
            Channels::Plain => self.subscribe_all(new).await?,
            _ => self.subscribe_each(new).await?,
        };
        self.refused_until = match subscribed {
            Subscribed::All => None,
            Subscribed::SomeElsewhere => Some(Instant::now() + backoff(0, REFUSED)),
            Subscribed::SomeRefused => Some(Instant::now() + backoff(self.refusals, REFUSED)),
        };
        let refused = subscribed == Subscribed::SomeRefused;
        self.refusals = if refused { self.refusals.saturating_add(1) } else { 0 };
        Ok(())
    }

    async fn subscribe_all(&mut self, new: Vec<Arc<Member>>) -> RedisResult<Subscribed> {
        let mut outcome = Subscribed::All;
        for member in new {
            match self.subscribe(&member).await {
                // The other regions are served meanwhile, and this subscription is repeated later.
                Err(error) if is_forbidden(&error) => {
                    outcome = Subscribed::SomeRefused;
                    member.refused(&rights::no_subscription("subscribe", &error));
                }
                subscribed => {
                    subscribed?;
                    self.members.insert(member.id, member);
                }
            }
        }
        Ok(outcome)
    }

    /// Subscribes for partitions of a cluster, many with one round trip.
    async fn subscribe_each(&mut self, new: Vec<Arc<Member>>) -> RedisResult<Subscribed> {
        let mut outcome = Subscribed::All;
        for members in new.chunks(CHANNELS) {
            let mut names: Vec<&[u8]> = Vec::new();
            for member in members {
                member.subscribing(self.number);
                names.extend(member.names().map(AsRef::<[u8]>::as_ref));
            }
            let subscribed = self.socket.subscribe_each(self.kind, &names);
            let mut answers = within(self.command_timeout, subscribed).await?.into_iter();
            for member in members {
                let own = answers.by_ref().take(member.names().count());
                // All of them are taken, so that the next member finds its own.
                let Some(error) = own.filter_map(Result::err).reduce(|first, _| first) else {
                    self.channels.extend(member.names().cloned());
                    self.members.insert(member.id, Arc::clone(member));
                    continue;
                };
                if is_forbidden(&error) {
                    outcome = Subscribed::SomeRefused;
                    let [_, subscribe, _] = self.kind.commands();
                    member.refused(&rights::no_subscription(&subscribe.to_ascii_lowercase(), &error));
                } else if redirected(&error) {
                    outcome = if outcome == Subscribed::All { Subscribed::SomeElsewhere } else { outcome };
                    self.bus.strayed.notify_one();
                } else {
                    return Err(error);
                }
            }
        }
        Ok(outcome)
    }

    async fn subscribe(&mut self, member: &Member) -> RedisResult<()> {
        member.subscribing(self.number);
        let names: Vec<&[u8]> = member.names().map(AsRef::as_ref).collect();
        for names in names.chunks(CHANNELS) {
            let subscribed = within(self.command_timeout, self.socket.subscribe(names)).await?;
            if subscribed == Acknowledged::Here {
                names.iter().for_each(|name| member.acknowledged(self.number, name));
            }
        }
        self.channels.extend(member.names().cloned());
        Ok(())
    }

    /// Fails if the connection is half open. Repeats a refused subscription when it is due.
    async fn check(&mut self) -> RedisResult<()> {
        if self.refused_until.is_some_and(|until| until <= Instant::now()) {
            self.reconcile().await?;
        }
        let overdue: Vec<u64> = self
            .members
            .values()
            .filter(|member| member.is_overdue(self.command_timeout + PATIENCE))
            .map(|member| member.id)
            .collect();
        if !overdue.is_empty() {
            overdue.iter().for_each(|id| drop(self.members.remove(id)));
            self.reconcile().await?;
        }
        let vitals = &self.bus.vitals;
        let overdue = vitals.overdue();
        if overdue >= PATIENCE {
            return Err(out_of_time());
        }
        // While an echo is due, no PING is needed: the echo proves the connection, too.
        if overdue.is_zero() && vitals.silence() >= PATIENCE {
            within(self.command_timeout, self.socket.ping()).await?;
            vitals.answered();
        }
        Ok(())
    }
}

async fn within<T>(limit: Duration, answer: impl Future<Output = RedisResult<T>>) -> RedisResult<T> {
    timeout(limit, answer).await.map_err(|_| out_of_time())?
}
