//! Making connections, and saying why one cannot be made.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_cache_core::{Error, ErrorKind, Result};
use deadpool::managed;
use deadpool_redis::{Connection, Pool};
use redis::ConnectionAddr;
use tokio::time::timeout;

use super::cause::{Cause, Secrets};
use super::handshake::handshake;
use super::host::{Opened, Transport};
use super::link::Link;
use super::opener::Opener;
use super::probe;
use super::refusals::{NOT_REDIS, Refusal, SPEAKS_TLS, is_not_redis};
use super::server::Accepted;
use crate::lua::Scripts;

/// Makes connections for commands.
pub(crate) struct Connector {
    pub(crate) source: Source,
    /// The address, if it is always the same.
    pub(crate) addr: Option<ConnectionAddr>,
    /// The address of the server, as errors show it.
    pub(crate) place: String,
    pub(crate) connect_timeout: Duration,
    pub(crate) scripts: &'static Scripts,
    pub(crate) accepted: Accepted,
    /// Whether a connection has been made: then the address is right.
    pub(crate) proven: AtomicBool,
}

/// What makes the connections.
pub(crate) enum Source {
    Ours(managed::Pool<Opener>),
    /// The caller's pool, and the deadline that its connections are given.
    Callers(Pool, Duration),
}

impl Source {
    /// A new connection. It is taken out of the pool for good: a multiplexed connection that went bad stays bad, and
    /// must not be handed to the pool's other users.
    async fn connection(&self) -> Result<Opened, Refusal> {
        match self {
            Self::Ours(pool) => Ok(managed::Object::take(pool.get().await?)),
            Self::Callers(pool, longest) => {
                let mut connection = Connection::take(pool.get().await?);
                // Each command has a deadline of its own (`Checkout::answer`). A caller's pool may have a shorter
                // one, which would end commands too early. On our own pool none is set: it would only add a
                // second timer to every command.
                connection.set_response_timeout(*longest);
                Ok(Opened { connection, driver: None })
            }
        }
    }

    fn transport(&self) -> &Transport {
        match self {
            Self::Ours(pool) => &pool.manager().host.transport,
            Self::Callers(..) => &Transport::Client,
        }
    }
}

impl Connector {
    /// A new connection, through the handshake.
    pub(crate) async fn link(&self) -> Result<Link, Refusal> {
        let limit = match &self.source {
            Source::Ours(pool) => pool.manager().host.longest(),
            Source::Callers(..) => self.connect_timeout,
        };
        let made = timeout(limit, async {
            handshake(self.source.connection().await?, self.scripts, self.accepted).await
        });
        let refusal = match made.await {
            Ok(Ok(link)) => {
                self.proven.store(true, Ordering::Relaxed);
                return Ok(link);
            }
            Ok(Err(Refusal::Error(error))) if error.is_timeout() => Refusal::Timeout,
            Ok(Err(Refusal::Replica)) if self.addr.is_none() => super::opener::no_longer(&self.place),
            Ok(Err(refusal)) => refusal,
            Err(_) => Refusal::Timeout,
        };
        Err(match &self.addr {
            Some(addr) if !self.proven.load(Ordering::Relaxed) => self.recognised(addr, refusal).await,
            _ => refusal,
        })
    }

    /// Recognises a server that speaks TLS on this port although the settings do not, or the other way round.
    async fn recognised(&self, addr: &ConnectionAddr, refusal: Refusal) -> Refusal {
        match (self.source.transport(), &refusal) {
            (Transport::Client, Refusal::Error(error))
                if (is_not_redis(error) || error.is_connection_dropped())
                    && probe::speaks_tls(addr).await =>
            {
                Refusal::Server(SPEAKS_TLS.to_owned())
            }
            #[cfg(feature = "tls")]
            (Transport::Tls(_), Refusal::Timeout | Refusal::Closed(_))
                if probe::speaks_plain_redis(addr).await =>
            {
                #[cfg(feature = "cluster")]
                if self.accepted.deployment == super::server::Deployment::Cluster {
                    return Refusal::Server(super::refusals::TOLD_WITHOUT_TLS.to_owned());
                }
                Refusal::Server(super::refusals::SPEAKS_NO_TLS.to_owned())
            }
            _ => refusal,
        }
    }

    /// Whether there is no file at the path of the Unix socket. The client tells it as a refused connection.
    fn lacks_its_socket(&self, cause: &Cause) -> bool {
        matches!(&self.addr, Some(ConnectionAddr::Unix(_))) && cause.says("(os error 2)")
    }

    async fn accepts_connections(&self) -> bool {
        match &self.addr {
            Some(addr) => probe::accepts_connections(addr).await,
            None => false,
        }
    }

    /// Says why the first connection could not be made, and what to do.
    pub(crate) async fn explain(&self, refusal: Refusal, secrets: &Secrets) -> Error {
        let addr = &self.place;
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
                return backend(format!(
                    "connecting to Redis at {addr}: the pool gave no connection: {cause}"
                ));
            }
            Refusal::Closed(hint) => backend(format!(
                "connecting to Redis at {addr}: it closed the connection during the handshake: {hint}"
            )),
            Refusal::Error(error) if is_not_redis(error) => backend(not_redis()),
            Refusal::Error(_) if self.lacks_its_socket(&cause) => backend(format!(
                "connecting to Redis at {addr}: there is no such socket; check the path, and `unixsocket` in the \
                 server's configuration"
            )),
            Refusal::Error(error) if error.is_connection_refusal() => {
                backend(format!("connecting to Redis at {addr}: connection refused; is the server running?"))
            }
            Refusal::Error(error) if error.is_connection_dropped() => backend(format!(
                "{}, or turns clients away: it closed the connection during the handshake",
                not_redis()
            )),
            _ => return backend(format!("connecting to Redis at {addr}: {cause}")),
        };
        error.with_source(cause)
    }
}
