//! Making connections, and saying why one cannot be made.

use std::time::Duration;

use async_cache_core::{Error, ErrorKind, Result};
use deadpool_redis::{Connection, Pool, PoolError, Runtime, TimeoutType};
use redis::io::tcp::{TcpSettings, socket2};
use redis::{AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, ErrorKind as Redis, RedisError};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::connection::failure::{Cause, Outage, Secrets, said};
use crate::connection::handshake::{Unfit, handshake};
use crate::connection::link::Link;
use crate::connection::rights;
use crate::lua::Scripts;

/// How long a connection may take to tell a silent server from an unreachable one.
const DIAGNOSIS: Duration = Duration::from_millis(300);

const REPLICA: &str = "the server is a replica: connect to its master";
const NOT_REDIS: &str = "what answers there does not speak Redis";

/// Where commands get their connections.
pub(crate) struct Connector {
    pool: Pool,
    addr: ConnectionAddr,
    connect_timeout: Duration,
    /// What the deadline of the pool's connections is lengthened to, if they may have one.
    lengthened: Option<Duration>,
    pub(crate) scripts: &'static Scripts,
}

/// Why there is no connection.
pub(crate) enum Refusal {
    /// The attempt failed.
    Error(RedisError),
    /// Time ran out.
    Timeout,
    /// The caller's pool has none to give.
    Pool(String),
    /// It leads to a replica.
    Replica,
    /// It leads to a server that cannot be used, or not by this user.
    Server(String),
}

impl Connector {
    pub(crate) fn new(
        pool: Pool,
        addr: ConnectionAddr,
        connect_timeout: Duration,
        lengthened: Option<Duration>,
        scripts: &'static Scripts,
    ) -> Self {
        Self { pool, addr, connect_timeout, lengthened, scripts }
    }

    /// A new connection, through the handshake.
    ///
    /// It is taken out of the pool for good: a multiplexed connection that went bad stays bad,
    /// and must not be handed to the pool's other users.
    pub(crate) async fn link(&self) -> Result<Link, Refusal> {
        let made = timeout(self.connect_timeout, async {
            let mut connection = Connection::take(self.pool.get().await?);
            // The deadline is kept by the caller of each command; a shorter one set on a pool from
            // outside would undercut it. On our own none is set: a second timer for every command
            // would end nothing.
            if let Some(longest) = self.lengthened {
                connection.set_response_timeout(longest);
            }
            handshake(connection, self.scripts).await.map_err(|unfit| match unfit {
                Unfit::Error(error) => Refusal::Error(error),
                Unfit::Replica => Refusal::Replica,
                Unfit::Server(why) => Refusal::Server(why),
            })
        });
        match made.await {
            Ok(Err(Refusal::Error(error))) if error.is_timeout() => Err(Refusal::Timeout),
            Ok(made) => made,
            Err(_) => Err(Refusal::Timeout),
        }
    }

    /// Says why the first connection could not be made, and what to do.
    pub(crate) async fn explain(&self, refusal: Refusal, secrets: &Secrets) -> Error {
        let addr = &self.addr;
        let cause = refusal.cause(secrets);
        let backend = |what: String| Error::new(ErrorKind::Backend, what);
        let not_redis = || format!("connecting to {addr}: {NOT_REDIS}");
        if let Some(remedy) = refusal.remedy() {
            let error = Error::new(ErrorKind::Config, format!("connecting to Redis at {addr}: {remedy}"));
            return if cause.says(&remedy) { error } else { error.because(cause) };
        }
        let error = match &refusal {
            Refusal::Timeout => match self.diagnose().await {
                Listening::Yes => backend(format!(
                    "connecting to Redis at {addr}: it accepts connections, but did not answer within {:?}: it hangs, or \
                     does not speak Redis",
                    self.connect_timeout
                )),
                Listening::Unknown => backend(format!(
                    "connecting to Redis at {addr}: no connection within {:?}; check host, port and firewall",
                    self.connect_timeout
                )),
            },
            Refusal::Pool(_) => {
                backend(format!("connecting to Redis at {addr}: the pool gave no connection"))
            }
            Refusal::Error(error) if speaks_something_else(error) => backend(not_redis()),
            Refusal::Error(error) if error.is_connection_refusal() => {
                backend(format!("connecting to Redis at {addr}: connection refused; is the server running?"))
            }
            Refusal::Error(error) if error.is_connection_dropped() => backend(format!(
                "{}, or turns clients away: it closed the connection during the handshake",
                not_redis()
            )),
            _ => backend(format!("connecting to Redis at {addr}")),
        };
        error.because(cause)
    }

    async fn diagnose(&self) -> Listening {
        let (ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. }) = &self.addr else {
            return Listening::Unknown;
        };
        match timeout(DIAGNOSIS, TcpStream::connect((host.as_str(), *port))).await {
            Ok(Ok(_)) => Listening::Yes,
            _ => Listening::Unknown,
        }
    }
}

enum Listening {
    Yes,
    Unknown,
}

impl Refusal {
    /// What has to be changed, if nothing but a change of settings helps, here or at the server.
    fn remedy(&self) -> Option<String> {
        let error = match self {
            Self::Server(why) => return Some(why.clone()),
            Self::Replica => return Some(REPLICA.to_owned()),
            Self::Error(error) => error,
            Self::Timeout | Self::Pool(_) => return None,
        };
        let text = error.to_string();
        if text.to_ascii_lowercase().contains("hello")
            && let Some(why) = rights::no_command("hello", error)
        {
            return Some(format!("{why}; RESP3, which the settings ask for, is begun with it"));
        }
        let known = match (error.kind(), said(error).0.as_str()) {
            (Redis::AuthenticationFailed, _) | (_, "WRONGPASS" | "NOAUTH") => {
                "wrong user name or password, or none given where one is needed; in a URL, a password without a \
                 user name is written `redis://:password@host`"
            }
            _ if text.contains("refused to switch database") => {
                "it has no database of this number, or the user may not run SELECT (`+select`)"
            }
            (_, "DENIED") => {
                "it is in protected mode, and takes no clients from other machines: give it a password, or set \
                 `protected-mode no`"
            }
            (Redis::RESP3NotSupported, _) | (_, "NOPROTO") => {
                "it does not know RESP3, which the settings ask for: is this Redis 6.0 or later?"
            }
            (Redis::InvalidClientConfig, _) => {
                "the client cannot connect with these settings; TLS is not supported by this version"
            }
            (_, "NOPERM") => {
                "the user may not run what a client begins with (`+hello`, `+auth`, `+select`, `+ping`)"
            }
            _ => return None,
        };
        Some(known.to_owned())
    }

    /// What follows for a backend that goes on trying. What `connect` refuses for its settings' sake is lasting;
    /// so is a peer that does not speak Redis, although `connect` cannot know whose fault that is.
    pub(crate) fn outage(&self, secrets: &Secrets) -> Outage {
        let cause = self.cause(secrets);
        let remedy = self.remedy().or_else(|| match self {
            Self::Error(error) if speaks_something_else(error) => Some(NOT_REDIS.to_owned()),
            _ => None,
        });
        match remedy {
            Some(remedy) if cause.says(&remedy) => Outage::failed(cause, true),
            Some(remedy) => Outage::failed(Cause::ours(format!("{remedy} ({cause})")), true),
            None => Outage::failed(cause, false),
        }
    }

    /// The cause, as it is shown.
    pub(crate) fn cause(&self, secrets: &Secrets) -> Cause {
        match self {
            Self::Error(error) => secrets.cause(error),
            Self::Timeout => Cause::ours("no connection in time"),
            Self::Replica => Cause::ours(REPLICA),
            Self::Server(why) => Cause::ours(why.as_str()),
            Self::Pool(why) => secrets.cause(why),
        }
    }
}

/// Whether what answered is no Redis.
fn speaks_something_else(error: &RedisError) -> bool {
    matches!(error.kind(), Redis::Parse | Redis::UnexpectedReturnType)
}

impl From<PoolError> for Refusal {
    fn from(error: PoolError) -> Self {
        match error {
            PoolError::Backend(error) => Self::Error(error),
            PoolError::Timeout(TimeoutType::Create | TimeoutType::Recycle) => Self::Timeout,
            other => Self::Pool(other.to_string()),
        }
    }
}

/// Reads a URL.
pub(crate) fn parse(url: &str) -> Result<ConnectionInfo> {
    url.parse::<ConnectionInfo>().map_err(|error| {
        // The client's errors about URLs quote nothing of them.
        let cause = Secrets::default().cause(error);
        if url.starts_with("rediss://") || url.starts_with("valkeys://") {
            let message = "the URL asks for TLS (`rediss://`), which this version does not support: put a TLS tunnel in front of \
                           the server, such as stunnel, and connect to that by `redis://`";
            return Error::new(ErrorKind::Config, message);
        }
        let message = "wrong Redis URL: expected redis://[user[:password]@]host[:port][/database]";
        Error::new(ErrorKind::Config, format!("{message} ({cause})"))
    })
}

/// Adds what the client leaves out: without these, small commands wait for Nagle's timer, and a
/// peer that vanished is noticed after a quarter of an hour.
pub(crate) fn with_tcp_defaults(info: ConnectionInfo) -> ConnectionInfo {
    const IDLE: Duration = Duration::from_secs(5);
    const INTERVAL: Duration = Duration::from_secs(2);
    let given = info.tcp_settings();
    let mut settings: TcpSettings = given.clone().set_nodelay(true);
    if given.keepalive().is_none() {
        let keepalive = socket2::TcpKeepalive::new().with_time(IDLE);
        #[cfg(any(target_os = "linux", target_os = "android", target_os = "macos", target_os = "windows"))]
        let keepalive = keepalive.with_interval(INTERVAL);
        settings = settings.set_keepalive(keepalive);
    }
    #[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
    if given.user_timeout().is_none() {
        settings = settings.set_user_timeout(IDLE + 2 * INTERVAL);
    }
    info.set_tcp_settings(settings)
}

/// The pool for a backend that was given an address.
pub(crate) fn pool(info: ConnectionInfo, size: usize, connect_timeout: Duration) -> Result<Pool> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(connect_timeout))
        // Deadlines are kept per operation, see `Line::answer`.
        .set_response_timeout(None)
        // Commands wait for room while this many are being written.
        .set_pipeline_buffer_size(1024);
    let failed = |why: String| {
        Error::new(ErrorKind::Config, "building the connection pool").because(Secrets::default().cause(why))
    };
    let manager =
        deadpool_redis::Manager::new_with_config(info, config).map_err(|e| failed(e.to_string()))?;
    Pool::builder(manager)
        .max_size(size)
        .wait_timeout(Some(connect_timeout))
        .create_timeout(Some(connect_timeout))
        .runtime(Runtime::Tokio1)
        .build()
        .map_err(|error| failed(error.to_string()))
}

/// The client that opens the subscriber: pushes need RESP3, whatever the caller's URL says.
pub(crate) fn subscriber(info: &ConnectionInfo) -> Result<Client> {
    let settings = info.redis_settings().clone().set_protocol(redis::ProtocolVersion::RESP3);
    Client::open(info.clone().set_redis_settings(settings)).map_err(|error| {
        Error::new(ErrorKind::Config, "preparing the subscriber").because(Secrets::default().cause(error))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_send_at_once_and_notice_a_peer_that_vanished() {
        let plain = parse("redis://127.0.0.1").unwrap();
        let settings = with_tcp_defaults(plain.clone()).tcp_settings().clone();
        assert!(settings.nodelay());
        assert!(settings.keepalive().is_some());
        #[cfg(target_os = "linux")]
        assert_eq!(settings.user_timeout(), Some(Duration::from_secs(9)));

        let given = TcpSettings::default().set_user_timeout(Duration::from_secs(70));
        let kept = with_tcp_defaults(plain.set_tcp_settings(given)).tcp_settings().clone();
        #[cfg(target_os = "linux")]
        assert_eq!(kept.user_timeout(), Some(Duration::from_secs(70)), "what was given stays");
        assert!(kept.nodelay());
    }
}
