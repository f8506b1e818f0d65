//! Making connections, and saying why one cannot be made.

use std::time::Duration;

use async_cache_core::{Error, ErrorKind, Result};
use deadpool_redis::{Connection, Pool};
use redis::ConnectionAddr;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::failure::Secrets;
use super::handshake::handshake;
use super::link::Link;
use super::refusals::{NOT_REDIS, Refusal, is_not_redis};
use crate::lua::Scripts;

/// How long a connection may take to tell a silent server from an unreachable one.
const DIAGNOSIS: Duration = Duration::from_millis(300);

/// Where commands get their connections.
pub(crate) struct Connector {
    pool: Pool,
    addr: ConnectionAddr,
    connect_timeout: Duration,
    /// The deadline that the connections of a caller's pool are given.
    lengthened: Option<Duration>,
    pub(crate) scripts: &'static Scripts,
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
            // Each command has a deadline of its own (`Checkout::answer`). A caller's pool may have a shorter
            // one, which would end commands too early. On our own pool none is set: it would only add a
            // second timer to every command.
            if let Some(longest) = self.lengthened {
                connection.set_response_timeout(longest);
            }
            handshake(connection, self.scripts).await
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
            return if cause.says(&remedy) { error } else { error.with_source(cause) };
        }
        let error = match &refusal {
            Refusal::Timeout if self.accepts_connections().await => backend(format!(
                "connecting to Redis at {addr}: it accepts connections, but did not answer within {:?}: it hangs, or \
                 does not speak Redis",
                self.connect_timeout
            )),
            Refusal::Timeout => backend(format!(
                "connecting to Redis at {addr}: no connection within {:?}; check host, port and firewall",
                self.connect_timeout
            )),
            Refusal::Pool(_) => {
                backend(format!("connecting to Redis at {addr}: the pool gave no connection"))
            }
            Refusal::Error(error) if is_not_redis(error) => backend(not_redis()),
            Refusal::Error(error) if error.is_connection_refusal() => {
                backend(format!("connecting to Redis at {addr}: connection refused; is the server running?"))
            }
            Refusal::Error(error) if error.is_connection_dropped() => backend(format!(
                "{}, or turns clients away: it closed the connection during the handshake",
                not_redis()
            )),
            _ => backend(format!("connecting to Redis at {addr}")),
        };
        error.with_source(cause)
    }

    /// Whether a TCP connection to the address is accepted; of a Unix socket this is not known.
    async fn accepts_connections(&self) -> bool {
        let (ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. }) = &self.addr else {
            return false;
        };
        timeout(DIAGNOSIS, TcpStream::connect((host.as_str(), *port))).await.is_ok_and(|made| made.is_ok())
    }
}
