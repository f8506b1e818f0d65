//! Examines a server and the rights of a user, one question after the other.

use std::collections::BTreeMap;
use std::fmt;
#[cfg(feature = "cluster")]
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_cache_core::{Error, ErrorKind, Result};
use futures_util::future::BoxFuture;
use redis::aio::PubSub;
use redis::{
    AsyncConnectionConfig, Cmd, FromRedisValue, Pipeline, RedisError, RedisResult, Value, cmd,
    from_redis_value,
};
use tokio::time::timeout;

use super::rights::Rights;
pub use super::rights::{Right, RightState};
use crate::builder::RedisBackendBuilder;
use crate::connection::cause::Secrets;
use crate::connection::channels::Channels;
use crate::connection::handshake::scripts_for;
use crate::connection::host::{Opened, Transport};
use crate::connection::opener::Opener;
use crate::connection::refusals::Refusal;
use crate::connection::rights::{PROBE, lacks_resp3, no_command};
use crate::keys::PartitionKeys;
use crate::lua;
use crate::parts::Parts;
use crate::reply::{out_of_time, server_error_code, server_error_text};
use crate::runtime;

/// A connection on which every question is asked, even if earlier ones have failed. It changes nothing in Redis.
pub struct Examiner {
    refused: Option<Error>,
    is_logged_in: bool,
    is_on_this_machine: bool,
    opened: Opened,
    pub(super) opener: Opener,
    channels: Channels,
    secrets: Secrets,
    pub(super) limit: Duration,
    #[cfg(feature = "cluster")]
    pub(super) cluster: Option<Arc<super::seed::Seed>>,
}

impl Examiner {
    /// Connects, and notes whether [`connect`](RedisBackendBuilder::connect) accepts these settings. In a cluster it
    /// examines the first node that is named.
    ///
    /// # Errors
    ///
    /// That of `connect`, if there is no connection on which questions could be asked.
    pub async fn connect(builder: RedisBackendBuilder) -> Result<Self> {
        runtime::check()?;
        #[cfg(feature = "cluster")]
        let builder = match builder.into_cluster() {
            Ok(settings) => return Self::of_first_node(settings).await,
            Err(builder) => *builder,
        };
        let (parts, limit) = builder.prepare()?;
        Self::of(parts, limit).await
    }

    /// A box, so that the type of the caller's future is not nested more deeply than the compiler allows.
    pub(super) fn of(parts: Parts, limit: Duration) -> BoxFuture<'static, Result<Self>> {
        Box::pin(async move {
            let proven = async {
                parts.connector.link().await?;
                parts.subscriber.prove().await
            };
            let refused = match proven.await {
                Ok(()) => None,
                Err(refusal) => Some(parts.connector.explain(refusal, &parts.secrets).await),
            };
            let opener = parts.subscriber.opener.clone();
            let opened = match (opener.commands(config()).await, refused.clone()) {
                (Ok(opened), _) => opened,
                (Err(_), Some(refused)) => return Err(refused),
                (Err(refusal), None) => return Err(parts.connector.explain(refusal, &parts.secrets).await),
            };
            let deployment = parts.connector.accepted.deployment;
            let is_on_this_machine = timeout(limit, opener.is_on_this_machine()).await.unwrap_or(false);
            let mut examiner = Self {
                refused,
                is_logged_in: true,
                is_on_this_machine,
                opened,
                opener,
                channels: Channels::Plain,
                secrets: parts.secrets,
                limit,
                #[cfg(feature = "cluster")]
                cluster: None,
            };
            // Without the right to INFO, nodes are refused, and it is told as one that is missing.
            let server: RedisResult<String> = examiner.raw(cmd("INFO").arg("server")).await;
            examiner.is_logged_in = !server.as_ref().is_err_and(|error| server_error_code(error) == "NOAUTH");
            examiner.channels = Channels::of(deployment, &server.unwrap_or_default());
            Ok(examiner)
        })
    }

    /// Why [`connect`](RedisBackendBuilder::connect) refuses the server or the user. `None` if it accepts them.
    #[must_use]
    pub fn refused(&self) -> Option<&Error> {
        self.refused.as_ref()
    }

    /// Whether the server answers questions. `false` if it needs a password and got none.
    #[must_use]
    pub fn is_logged_in(&self) -> bool {
        self.is_logged_in
    }

    /// The server's address, without credentials.
    #[must_use]
    pub fn address(&self) -> String {
        self.opener.place()
    }

    /// Whether the connection is encrypted.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        !matches!(self.opener.host.transport, Transport::Client)
    }

    /// Whether the server is on this machine, so that the connection crosses no network. If Sentinels name the server,
    /// the first of them is on this machine, too.
    #[must_use]
    pub fn is_on_this_machine(&self) -> bool {
        self.is_on_this_machine
    }

    /// The number of the database.
    #[must_use]
    pub fn database(&self) -> i64 {
        self.opener.host.info.redis_settings().db()
    }

    /// The times of this many `PING`s, one after the other.
    ///
    /// # Errors
    ///
    /// The first failure.
    pub async fn round_trips(&self, count: usize) -> Result<Vec<Duration>> {
        let mut times = Vec::with_capacity(count);
        for _ in 0..count {
            let start = Instant::now();
            self.run::<Value>("ping", &cmd("PING")).await?;
            times.push(start.elapsed());
        }
        Ok(times)
    }

    /// What the server says of itself: the fields of `INFO`.
    ///
    /// # Errors
    ///
    /// If it does not answer, or does not permit it.
    pub async fn info(&self) -> Result<BTreeMap<String, String>> {
        let text: String = self.run("info", &cmd("INFO")).await?;
        let fields = text.lines().filter_map(|line| line.trim_end().split_once(':'));
        Ok(fields.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    /// The server's clock, in microseconds since 1970.
    ///
    /// # Errors
    ///
    /// If it does not answer, or does not permit it.
    pub async fn time_us(&self) -> Result<u64> {
        let (seconds, micros): (u64, u64) = self.run("time", &cmd("TIME")).await?;
        Ok(seconds.saturating_mul(1_000_000).saturating_add(micros))
    }

    /// Tries every right that a node needs: on names of the namespace, or on names that no namespace has. Stores
    /// nothing.
    pub async fn rights(&self, namespace: Option<&str>) -> Vec<Right> {
        let name = match namespace {
            Some(namespace) => {
                let meta = PartitionKeys::new(namespace, 0, self.database()).meta().to_vec();
                [&meta[..meta.len() - 1], b"rights"].concat()
            }
            None => PROBE.as_bytes().to_vec(),
        };
        let mut rights = Rights::new(self.channels);
        rights.note("info", self.raw::<Value>(&cmd("INFO")).await);
        rights.note("ping", self.raw::<Value>(&cmd("PING")).await);
        rights.note("get", self.raw::<Value>(cmd("GET").arg(&name)).await);
        rights.note("mget", self.raw::<Value>(cmd("MGET").arg(&name)).await);
        if self.channels != Channels::Plain {
            rights.note("cluster|info", self.raw::<Value>(cmd("CLUSTER").arg("INFO")).await);
            rights.note("cluster|slots", self.raw::<Value>(cmd("CLUSTER").arg("SLOTS")).await);
        }
        self.rights_of_scripts(&name, &mut rights).await;
        self.rights_to_subscribe(&name, &mut rights).await;
        rights.list(namespace)
    }

    async fn rights_of_scripts(&self, name: &[u8], rights: &mut Rights) {
        let script = &scripts_for(self.channels, lua::scripts()).rights;
        let mut load = Pipeline::new();
        load.add_command(script.load());
        let mut connection = self.opened.connection.clone();
        let loaded = self.in_time(load.query_async::<Vec<Value>>(&mut connection)).await;
        let is_loaded = loaded.is_ok();
        rights.note("script|load", loaded);
        let mut call = cmd("EVALSHA");
        call.arg(script.hash()).arg(0).arg(name);
        let answer = if is_loaded { self.raw::<Value>(&call).await } else { Err(out_of_time()) };
        let failed =
            answer.as_ref().ok().and_then(|failed| from_redis_value::<Vec<String>>(failed.clone()).ok());
        match (failed, answer) {
            (Some(failed), _) => {
                rights.note_text("evalsha", None);
                let failed: BTreeMap<_, _> =
                    failed.chunks_exact(2).map(|pair| (pair[0].to_ascii_lowercase(), &*pair[1])).collect();
                for command in self.commands_of_scripts() {
                    rights.note_text(&command, failed.get(&command).copied());
                }
            }
            (None, answer) => {
                if is_loaded {
                    rights.note("evalsha", answer);
                }
                for command in self.commands_of_scripts() {
                    rights.unknown(&command);
                }
            }
        }
    }

    fn commands_of_scripts(&self) -> impl Iterator<Item = String> + use<> {
        let [publish, ..] = self.channels.commands();
        lua::tried_commands().map(move |command| match command {
            "PUBLISH" => publish.to_ascii_lowercase(),
            command => command.to_ascii_lowercase(),
        })
    }

    async fn rights_to_subscribe(&self, channel: &[u8], rights: &mut Rights) {
        let [_, commands @ ..] = self.channels.commands();
        let [subscribe, unsubscribe] = &commands.map(str::to_ascii_lowercase);
        let push = |_| Ok::<(), ()>(());
        let (subscribed, unsubscribed) = match self.opener.pushes(config().set_push_sender(push)).await {
            Ok(mut pushes) => {
                rights.note_text("hello", None);
                let connection = &mut pushes.connection;
                let mut run = async |command| {
                    self.in_time(cmd(command).arg(channel).exec_async(&mut *connection)).await
                };
                (run(subscribe).await, run(unsubscribe).await)
            }
            Err(Refusal::Error(error)) if lacks_resp3(&error) => {
                rights.note("hello", Err::<(), _>(error));
                match (self.channels, self.opener.messages().await) {
                    (Channels::Plain, Ok(messages)) => self.subscribe_in_resp2(messages, channel).await,
                    _ => return rights.unknown(subscribe),
                }
            }
            Err(_) => return rights.unknown(subscribe),
        };
        rights.note(subscribe, subscribed);
        rights.note(unsubscribe, unsubscribed);
    }

    async fn subscribe_in_resp2(
        &self,
        messages: PubSub,
        channel: &[u8],
    ) -> (RedisResult<()>, RedisResult<()>) {
        let (mut sink, _stream) = messages.split();
        let subscribed = self.in_time(sink.subscribe(channel)).await;
        (subscribed, self.in_time(sink.unsubscribe(channel)).await)
    }

    /// Runs a command. `right` is its name in an ACL.
    pub(super) async fn run<T: FromRedisValue>(&self, right: &str, command: &Cmd) -> Result<T> {
        self.raw(command).await.map_err(|error| {
            let asking = format!("asking Redis at {} ({})", self.address(), right.to_ascii_uppercase());
            match no_command(right, &error) {
                Some(why) => Error::new(ErrorKind::Config, format!("{asking}: {why}")),
                None => {
                    let why = self.secrets.cause(if error.is_timeout() {
                        format!("no answer within {:?}", self.limit)
                    } else {
                        match server_error_text(&error) {
                            text if text.trim().is_empty() => error.to_string(),
                            text => text,
                        }
                    });
                    Error::new(ErrorKind::Backend, format!("{asking}: {why}"))
                }
            }
        })
    }

    async fn raw<T: FromRedisValue>(&self, command: &Cmd) -> RedisResult<T> {
        self.in_time(command.query_async(&mut self.opened.connection.clone())).await
    }

    async fn in_time<T>(&self, answer: impl Future<Output = Result<T, RedisError>>) -> RedisResult<T> {
        timeout(self.limit, answer).await.unwrap_or_else(|_| Err(out_of_time()))
    }
}

/// Deadlines are kept per question.
fn config() -> AsyncConnectionConfig {
    AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None)
}

impl fmt::Debug for Examiner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Examiner").field("address", &self.address()).finish_non_exhaustive()
    }
}
