//! The subscriber: one connection of its own, for all regions of a backend.
//!
//! Messages are handed to [`Bus::take`] in the order of the socket. A server without RESP3 sends them as messages of
//! RESP2: see [`Socket`].

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use redis::{AsyncConnectionConfig, PushInfo, PushKind, Value};
use tokio::time::{sleep, timeout};

use super::bus::Bus;
use super::session::{Connected, Session};
use super::socket::Socket;
use crate::connection::attempts::Attempts;
use crate::connection::channels::Channels;
use crate::connection::host::Opened;
use crate::connection::opener::Opener;
use crate::connection::refusals::{Address, Refusal};
use crate::connection::rights::{self, Lack, PROBE};
use crate::connection::server::Deployment;
use crate::limits::Pauses;
use crate::reply::{redirected, server_error_text};

/// Between attempts to connect.
const PAUSES: Pauses = Pauses { first: Duration::from_millis(20), longest: Duration::from_millis(500) };

pub(crate) struct Subscriber {
    pub(crate) opener: Opener,
    pub(crate) deployment: Deployment,
    pub(crate) bus: Arc<Bus>,
    pub(crate) command_timeout: Duration,
    pub(crate) progress: Progress,
}

/// The state of a subscriber.
#[derive(Default)]
pub(crate) struct Progress {
    /// Only one `run` at a time: a new one waits until the old one is dropped.
    running: tokio::sync::Mutex<()>,
    /// Whether there ever was a connection.
    ever_up: AtomicBool,
    /// The number of the last connection.
    last_number: AtomicU64,
    /// The first connection, if it has been made and not been used.
    proven: Mutex<Option<Connected>>,
}

impl Progress {
    /// Notes that the address is known to be right.
    pub(crate) fn address_is_right(&self) {
        self.ever_up.store(true, Ordering::Relaxed);
    }
}

impl Subscriber {
    /// Connects, subscribes, and starts again whenever the connection is lost.
    pub(crate) async fn run(self: Arc<Self>) {
        let _alone = self.progress.running.lock().await;
        let mut attempts = Attempts::new(PAUSES);
        loop {
            let proven = self.progress.proven.lock().take();
            let connection = match proven {
                Some(proven) => Ok(proven),
                None => self.connect().await,
            };
            match connection {
                Ok(connected) => {
                    self.progress.ever_up.store(true, Ordering::Relaxed);
                    let mut session = Session::new(Arc::clone(&self.bus), self.command_timeout, connected);
                    if session.reconcile().await.is_ok() {
                        attempts.succeeded();
                        session.serve().await;
                    } else {
                        attempts.lost();
                    }
                    // Tokio may still read from the old connection: after this, its messages are ignored.
                    self.bus.lost();
                }
                Err(refusal) => {
                    let outage = refusal.outage(&self.opener.host.secrets, self.address());
                    attempts.failed(&outage);
                    if outage.lasting {
                        self.bus.refused(&self.unusable(&outage.cause));
                    }
                }
            }
            sleep(attempts.pause()).await;
        }
    }

    /// What is known of the server's address.
    fn address(&self) -> Address {
        if self.progress.ever_up.load(Ordering::Relaxed) { Address::Proven } else { Address::Unproven }
    }

    fn unusable(&self, why: &dyn fmt::Display) -> Arc<str> {
        let server = self.opener.place();
        format!("subscribing to changes: Redis at {server} cannot be used with these settings ({why})").into()
    }

    /// Makes the connection, and proves that this user may subscribe. Whether it may subscribe to the channels of
    /// a namespace is found out when that namespace is opened.
    pub(crate) async fn prove(&self) -> Result<(), Refusal> {
        let mut connected = self.connect().await?;
        let Connected { socket, channels, .. } = &mut connected;
        let tried = async {
            let probe = [PROBE.as_bytes()];
            match *channels {
                Channels::Plain => {
                    [socket.subscribe(&probe).await.map(drop), socket.unsubscribe(&probe).await]
                }
                channels => {
                    let subscribed = socket.subscribe_each(channels, &probe).await;
                    let first = subscribed.and_then(|mut each| each.pop().unwrap_or(Ok(Value::Nil)));
                    [first.map(drop), socket.unsubscribe_each(channels, &probe).await]
                }
            }
        };
        let tried = timeout(self.command_timeout, tried).await.map_err(|_| Refusal::Timeout)?;
        let [_, rights @ ..] = channels.commands();
        for (right, tried) in rights.into_iter().zip(tried) {
            match tried {
                // The user may lack the probe's channel, and have those of its namespaces.
                Err(error) if Lack::of(&server_error_text(&error)) == Some(Lack::Channel) => {}
                // Another node has the slot of the probe's channel. Rights are checked before that.
                Err(error) if redirected(&error) => {}
                Err(error) => return Err(Refusal::of_command(&right.to_ascii_lowercase(), error)),
                Ok(()) => {}
            }
        }
        *self.progress.proven.lock() = Some(connected);
        Ok(())
    }

    /// Makes a connection whose messages go to the bus.
    async fn connect(&self) -> Result<Connected, Refusal> {
        let number = self.progress.last_number.fetch_add(1, Ordering::Relaxed) + 1;
        let bus = Arc::clone(&self.bus);
        let push = move |push: PushInfo| -> Result<(), ()> {
            if push.kind == PushKind::Disconnection {
                bus.ended(number);
            } else {
                bus.take(number, push);
            }
            Ok(())
        };
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(None)
            .set_response_timeout(None)
            .set_push_sender(push);
        let (socket, channels) = match self.opener.pushes(config).await {
            Ok(mut opened) => {
                let channels = self.channels(&mut opened).await?;
                (Socket::Pushes(opened), channels)
            }
            // Some servers and proxies do not know HELLO, and some users may not run it.
            Err(Refusal::Error(error)) if rights::lacks_resp3(&error) && !self.deployment.is_cluster() => {
                let messages = self.opener.messages().await?;
                (Socket::messages(messages, Arc::clone(&self.bus), number), Channels::Plain)
            }
            Err(refusal) => return Err(refusal),
        };
        self.bus.vitals.heard();
        Ok(Connected { number, socket, channels })
    }

    /// How messages travel at the server of this connection. It may be another version than at the last one.
    async fn channels(&self, opened: &mut Opened) -> Result<Channels, Refusal> {
        if !self.deployment.is_cluster() {
            return Ok(Channels::Plain);
        }
        let mut info = redis::cmd("INFO");
        let asked = info.arg("server").query_async::<String>(&mut opened.connection);
        let told = timeout(self.command_timeout, asked).await.map_err(|_| Refusal::Timeout)?;
        let told = told.map_err(|error| Refusal::of_command("info", error))?;
        Ok(Channels::of(self.deployment, &told))
    }
}
