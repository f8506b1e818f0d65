//! The subscriber: one connection of its own, for all regions of a backend.
//!
//! RESP3 pushes are handed to [`Bus::take`] by the task that reads the socket, in the order of
//! the socket, acknowledgements of subscriptions included.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, PushInfo, PushKind, RedisResult};
use tokio::time::{Instant, sleep, timeout};

use crate::connection::connect::Refusal;
use crate::connection::failure::{Secrets, is_forbidden};
use crate::connection::rights::{self, Lack, PROBE};
use crate::connection::slots::{backoff, out_of_time};
use crate::pubsub::bus::{Bus, Member};

/// Longest first pause before reconnecting, and longest of all.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));
/// The same after a refusal, which nothing but a change of settings ends.
const REFUSED: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// How often the connection's signs of life are looked at.
const CHECK: Duration = Duration::from_millis(200);
/// A connection on which nothing is heard for so long is asked, and one that owes an echo for so
/// long is given up.
const PATIENCE: Duration = Duration::from_secs(1);
/// Channels in one SUBSCRIBE.
const CHANNELS: usize = 512;

pub(crate) struct Subscriber {
    pub(crate) client: Client,
    pub(crate) bus: Arc<Bus>,
    pub(crate) connect_timeout: Duration,
    pub(crate) command_timeout: Duration,
    pub(crate) secrets: Secrets,
    /// Only one `run` at a time: a new one waits until the old one is dropped.
    pub(crate) running: tokio::sync::Mutex<()>,
    /// Whether there ever was a connection.
    pub(crate) ever_up: AtomicBool,
    /// The number of the last connection.
    pub(crate) epochs: AtomicU64,
    /// The first connection, if it has been made and not been used.
    pub(crate) proven: Mutex<Option<(u64, MultiplexedConnection)>>,
}

/// One physical connection and what is subscribed on it.
struct Session<'a> {
    subscriber: &'a Subscriber,
    connection: MultiplexedConnection,
    epoch: u64,
    members: HashMap<u64, Arc<Member>>,
    channels: HashSet<Bytes>,
    /// How often in a row a subscription was refused, and when it is asked for again.
    refusals: u32,
    refused_until: Option<Instant>,
}

impl Subscriber {
    /// Connects, subscribes, and starts again whenever the connection is lost.
    pub(crate) async fn run(self: Arc<Self>) {
        let _alone = self.running.lock().await;
        let (mut failures, mut refusals) = (0, 0);
        loop {
            let proven = self.proven.lock().take();
            let connection = match proven {
                Some(proven) => Ok(proven),
                None => self.connect().await,
            };
            match connection {
                Ok((epoch, connection)) => {
                    refusals = 0;
                    self.ever_up.store(true, Ordering::Relaxed);
                    let mut session = Session::new(&self, connection, epoch);
                    if session.reconcile().await.is_ok() {
                        failures = 0;
                        session.serve().await;
                    }
                    // The old connection may still be read from: after this, nothing of it is taken.
                    self.bus.lost();
                }
                Err(error) => {
                    if let Some(why) = rights::no_subscriber(&error) {
                        self.bus.refused(&self.unusable(&why));
                        sleep(backoff(refusals, REFUSED)).await;
                        refusals = refusals.saturating_add(1);
                        continue;
                    }
                    // Later, what was fine once may be again.
                    let outage = Refusal::Error(error).outage(&self.secrets);
                    if outage.lasting && !self.ever_up.load(Ordering::Relaxed) {
                        self.bus.refused(&self.unusable(&outage.cause));
                    }
                }
            }
            sleep(backoff(failures, BACKOFF)).await;
            failures = failures.saturating_add(1);
        }
    }

    fn unusable(&self, why: &dyn fmt::Display) -> Arc<str> {
        let server = self.client.get_connection_info().addr();
        format!("subscribing to changes: Redis at {server} cannot be used with these settings ({why})").into()
    }

    /// Makes the connection, and sees whether this user may subscribe; to the channels of which namespaces,
    /// they will find out.
    pub(crate) async fn prove(&self) -> Result<(), Refusal> {
        let (epoch, mut connection) = match self.connect().await {
            Ok(connection) => connection,
            Err(error) => {
                return Err(rights::no_subscriber(&error)
                    .map_or(Refusal::Error(error), |why| Refusal::Server(why.to_string())));
            }
        };
        let tried = async {
            [
                ("subscribe", connection.subscribe(PROBE).await),
                ("unsubscribe", connection.unsubscribe(PROBE).await),
            ]
        };
        let tried = timeout(self.command_timeout, tried).await.map_err(|_| Refusal::Timeout)?;
        for (right, tried) in tried {
            match tried {
                // The channels of namespaces may be permitted all the same.
                Err(error) if Lack::of(&rights::text_of(&error)) == Some(Lack::Channel) => {}
                Err(error) => {
                    return Err(
                        rights::no_command(right, &error).map_or(Refusal::Error(error), Refusal::Server)
                    );
                }
                Ok(()) => {}
            }
        }
        *self.proven.lock() = Some((epoch, connection));
        Ok(())
    }

    /// A new connection, and its number. What arrives on it goes to the bus.
    async fn connect(&self) -> RedisResult<(u64, MultiplexedConnection)> {
        let epoch = self.epochs.fetch_add(1, Ordering::Relaxed) + 1;
        let bus = Arc::clone(&self.bus);
        let push = move |push: PushInfo| -> Result<(), ()> {
            if push.kind == PushKind::Disconnection {
                bus.ended(epoch);
            } else {
                bus.take(epoch, push);
            }
            Ok(())
        };
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.connect_timeout))
            .set_response_timeout(None)
            .set_push_sender(push);
        let connecting = self.client.get_multiplexed_async_connection_with_config(&config);
        let connection = timeout(self.connect_timeout, connecting).await.map_err(|_| out_of_time())??;
        self.bus.vitals.heard();
        Ok((epoch, connection))
    }
}

impl<'a> Session<'a> {
    fn new(subscriber: &'a Subscriber, connection: MultiplexedConnection, epoch: u64) -> Self {
        Self {
            subscriber,
            connection,
            epoch,
            members: HashMap::new(),
            channels: HashSet::new(),
            refusals: 0,
            refused_until: None,
        }
    }

    /// Returns when the connection is lost.
    async fn serve(&mut self) {
        let bus = Arc::clone(&self.subscriber.bus);
        while !bus.has_ended(self.epoch) {
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
    async fn reconcile(&mut self) -> RedisResult<()> {
        let bus = Arc::clone(&self.subscriber.bus);
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
            self.within(self.connection.clone().unsubscribe(names)).await?;
        }
        for name in &gone {
            self.channels.remove(name);
        }
        self.members.retain(|id, _| members.contains_key(id));
        let mut refused = false;
        for member in members.into_values() {
            if self.members.contains_key(&member.id) {
                continue;
            }
            match self.subscribe(&member).await {
                // The others are served meanwhile, and this one is asked for again.
                Err(error) if is_forbidden(&error) => {
                    refused = true;
                    member.refused(&rights::no_subscription(&error));
                }
                subscribed => {
                    subscribed?;
                    self.members.insert(member.id, member);
                }
            }
        }
        self.refused_until = refused.then(|| Instant::now() + backoff(self.refusals, REFUSED));
        self.refusals = if refused { self.refusals.saturating_add(1) } else { 0 };
        Ok(())
    }

    async fn subscribe(&mut self, member: &Member) -> RedisResult<()> {
        member.subscribing(self.epoch);
        let names: Vec<&[u8]> = member.names().map(AsRef::as_ref).collect();
        for names in names.chunks(CHANNELS) {
            self.within(self.connection.clone().subscribe(names)).await?;
        }
        self.channels.extend(member.names().cloned());
        Ok(())
    }

    /// Fails if the connection is half open. Asks again for what was refused.
    async fn check(&mut self) -> RedisResult<()> {
        if self.refused_until.is_some_and(|until| until <= Instant::now()) {
            self.reconcile().await?;
        }
        let vitals = &self.subscriber.bus.vitals;
        let overdue = vitals.overdue();
        if overdue >= PATIENCE {
            return Err(out_of_time());
        }
        // An echo that is due will tell as well, and does not take the deadline of a command.
        if overdue.is_zero() && vitals.silence() >= PATIENCE {
            let ping = redis::cmd("PING");
            let mut connection = self.connection.clone();
            self.within(ping.exec_async(&mut connection)).await?;
            vitals.answered();
        }
        Ok(())
    }

    async fn within<T>(&self, answer: impl Future<Output = RedisResult<T>>) -> RedisResult<T> {
        timeout(self.subscriber.command_timeout, answer).await.map_err(|_| out_of_time())?
    }
}
