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
use super::session::{Channels, Connected, Session};
use super::socket::Socket;
use crate::connection::attempts::Attempts;
use crate::connection::opener::Opener;
use crate::connection::refusals::{Address, Refusal};
use crate::connection::rights::{self, Lack, PROBE};
use crate::limits::Pauses;
use crate::reply::{redirected, server_error_text};

/// Between attempts to connect.
const PAUSES: Pauses = Pauses { first: Duration::from_millis(20), longest: Duration::from_millis(500) };

pub(crate) struct Subscriber {
    pub(crate) opener: Opener,
    pub(crate) channels: Channels,
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
                    let mut session =
                        Session::new(Arc::clone(&self.bus), self.channels, self.command_timeout, connected);
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
        let socket = &mut connected.socket;
        let tried = async {
            let probe = [PROBE.as_bytes()];
            match self.channels {
                Channels::Plain => [
                    ("subscribe", socket.subscribe(&probe).await.map(drop)),
                    ("unsubscribe", socket.unsubscribe(&probe).await),
                ],
                Channels::BySlot => {
                    let subscribed = socket.subscribe_by_slot(&probe).await;
                    let first = subscribed.and_then(|mut each| each.pop().unwrap_or(Ok(Value::Nil)));
                    [
                        ("ssubscribe", first.map(drop)),
                        ("sunsubscribe", socket.unsubscribe_by_slot(&probe).await),
                    ]
                }
            }
        };
        let tried = timeout(self.command_timeout, tried).await.map_err(|_| Refusal::Timeout)?;
        for (right, tried) in tried {
            match tried {
                // The user may lack the probe's channel, and have those of its namespaces.
                Err(error) if Lack::of(&server_error_text(&error)) == Some(Lack::Channel) => {}
                // Another node has the slot of the probe's channel. Rights are checked before that.
                Err(error) if redirected(&error) => {}
                Err(error) => return Err(Refusal::of_command(right, error)),
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
        let socket = match self.opener.pushes(config).await {
            Ok(connection) => Socket::Pushes(connection),
            // Some servers and proxies do not know HELLO, and some users may not run it.
            Err(Refusal::Error(error)) if rights::lacks_resp3(&error) && self.channels == Channels::Plain => {
                Socket::messages(self.opener.messages().await?, Arc::clone(&self.bus), number)
            }
            Err(refusal) => return Err(refusal),
        };
        self.bus.vitals.heard();
        Ok(Connected { number, socket })
    }
}
