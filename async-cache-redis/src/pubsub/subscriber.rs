//! The subscriber: one connection of its own, for all regions of a backend.
//!
//! RESP3 pushes are handed to [`Bus::take`] by the task that reads the socket, in the order of
//! the socket, acknowledgements of subscriptions included.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use redis::{AsyncConnectionConfig, Client, PushInfo, PushKind, RedisResult};
use tokio::time::{sleep, timeout};

use super::bus::Bus;
use super::session::{Connected, REFUSED, Session};
use crate::connection::failure::Secrets;
use crate::connection::refusals::Refusal;
use crate::connection::rights::{self, Lack, PROBE};
use crate::limits::{Pauses, backoff};
use crate::reply::{out_of_time, server_error_text};

/// Between attempts to connect.
const PAUSES: Pauses = Pauses { first: Duration::from_millis(20), longest: Duration::from_millis(500) };

pub(crate) struct Subscriber {
    pub(crate) client: Client,
    pub(crate) bus: Arc<Bus>,
    pub(crate) connect_timeout: Duration,
    pub(crate) command_timeout: Duration,
    pub(crate) secrets: Secrets,
    pub(crate) progress: Progress,
}

/// How far a subscriber has come.
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

impl Subscriber {
    /// Connects, subscribes, and starts again whenever the connection is lost.
    pub(crate) async fn run(self: Arc<Self>) {
        let _alone = self.progress.running.lock().await;
        let (mut failures, mut refusals) = (0, 0);
        loop {
            let proven = self.progress.proven.lock().take();
            let connection = match proven {
                Some(proven) => Ok(proven),
                None => self.connect().await,
            };
            match connection {
                Ok(connected) => {
                    refusals = 0;
                    self.progress.ever_up.store(true, Ordering::Relaxed);
                    let mut session = Session::new(Arc::clone(&self.bus), self.command_timeout, connected);
                    if session.reconcile().await.is_ok() {
                        failures = 0;
                        session.serve().await;
                    }
                    // Tokio may still read from the old connection: after this, its messages are ignored.
                    self.bus.lost();
                }
                Err(error) => {
                    if let Some(why) = rights::no_subscriber(&error) {
                        self.bus.refused(&self.unusable(&why));
                        sleep(backoff(refusals, REFUSED)).await;
                        refusals = refusals.saturating_add(1);
                        continue;
                    }
                    // Settings that once were right may become right again.
                    let outage = Refusal::Error(error).outage(&self.secrets);
                    if outage.lasting && !self.progress.ever_up.load(Ordering::Relaxed) {
                        self.bus.refused(&self.unusable(&outage.cause));
                    }
                }
            }
            sleep(backoff(failures, PAUSES)).await;
            failures = failures.saturating_add(1);
        }
    }

    fn unusable(&self, why: &dyn fmt::Display) -> Arc<str> {
        let server = self.client.get_connection_info().addr();
        format!("subscribing to changes: Redis at {server} cannot be used with these settings ({why})").into()
    }

    /// Makes the connection, and proves that this user may subscribe. Whether it may subscribe to the channels of
    /// a namespace is found out when that namespace is opened.
    pub(crate) async fn prove(&self) -> Result<(), Refusal> {
        let mut connected = match self.connect().await {
            Ok(connected) => connected,
            Err(error) => {
                return Err(rights::no_subscriber(&error)
                    .map_or(Refusal::Error(error), |why| Refusal::Server(why.to_string())));
            }
        };
        let connection = &mut connected.connection;
        let tried = async {
            [
                ("subscribe", connection.subscribe(PROBE).await),
                ("unsubscribe", connection.unsubscribe(PROBE).await),
            ]
        };
        let tried = timeout(self.command_timeout, tried).await.map_err(|_| Refusal::Timeout)?;
        for (right, tried) in tried {
            match tried {
                // The user may lack the probe's channel, and have those of its namespaces.
                Err(error) if Lack::of(&server_error_text(&error)) == Some(Lack::Channel) => {}
                Err(error) => return Err(Refusal::of_command(right, error)),
                Ok(()) => {}
            }
        }
        *self.progress.proven.lock() = Some(connected);
        Ok(())
    }

    /// Makes a connection whose messages go to the bus.
    async fn connect(&self) -> RedisResult<Connected> {
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
            .set_connection_timeout(Some(self.connect_timeout))
            .set_response_timeout(None)
            .set_push_sender(push);
        let connecting = self.client.get_multiplexed_async_connection_with_config(&config);
        let connection = timeout(self.connect_timeout, connecting).await.map_err(|_| out_of_time())??;
        self.bus.vitals.heard();
        Ok(Connected { number, connection })
    }
}
