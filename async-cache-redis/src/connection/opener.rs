//! Opens connections to the server: over TCP, TLS or a Unix socket, each with the credentials of its moment.

use std::borrow::Cow;
use std::pin::Pin;
use std::sync::Arc;

use async_cache_core::{Error, ErrorKind};
use deadpool::managed::{Manager, Metrics, Pool, RecycleError, RecycleResult};
use redis::aio::PubSub;
use redis::{AsyncConnectionConfig, ConnectionAddr, ProtocolVersion, RedisConnectionInfo};
use tokio::time::timeout;

use super::cause::Secrets;
#[cfg(feature = "tls")]
use super::host::tls_refusal;
use super::host::{Host, Opened, Transport};
use super::listed::Listed;
use super::refusals::Refusal;
use super::replicas::Replicas;
#[cfg(feature = "sentinel")]
use super::sentinel::{Sentinels, check_role};

/// Without it, the types of the callers' futures would be nested more deeply than the compiler allows.
type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Opens connections to the server.
#[derive(Clone)]
pub(crate) struct Opener {
    /// The server. If it is found anew for each connection, the address is that of a Sentinel, or the first of the list.
    pub(crate) host: Host,
    pub(crate) finder: Finder,
    /// Messages are received from one of them, if that is asked for.
    pub(crate) replicas: Option<Arc<Replicas>>,
}

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    Commands,
    Messages,
}

/// The role of the server that a connection is made to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Master,
    Replica,
}

/// How the server is found.
#[derive(Clone)]
pub(crate) enum Finder {
    /// It is always at the same address.
    Fixed,
    /// It is the one of several addresses that is the master.
    Listed(Arc<Listed>),
    /// Sentinels name it.
    #[cfg(feature = "sentinel")]
    Sentinels(Arc<Sentinels>),
}

impl Opener {
    /// For a server that is always at the same address.
    pub(crate) fn to(host: Host) -> Self {
        Self { host, finder: Finder::Fixed, replicas: None }
    }

    /// The pool of a backend that was given an address.
    pub(crate) fn pool(self, size: usize) -> async_cache_core::Result<Pool<Self>> {
        // The opener has deadlines, and `Connector::link` has one for everything.
        Pool::builder(self).max_size(size).build().map_err(|error| {
            let cause = Secrets::default().cause(error);
            Error::new(ErrorKind::Config, "building the connection pool").with_source(cause)
        })
    }

    /// The server's address, if it is always the same.
    pub(crate) fn addr(&self) -> Option<&ConnectionAddr> {
        matches!(self.finder, Finder::Fixed).then(|| self.host.info.addr())
    }

    /// The address of the server, as errors show it.
    pub(crate) fn place(&self) -> String {
        match &self.finder {
            Finder::Fixed => self.host.info.addr().to_string(),
            Finder::Listed(listed) => listed.to_string(),
            #[cfg(feature = "sentinel")]
            Finder::Sentinels(sentinels) => sentinels.to_string(),
        }
    }

    /// Opens a connection for commands.
    pub(crate) async fn commands(&self, config: AsyncConnectionConfig) -> Result<Opened, Refusal> {
        self.multiplexed(self.host.info.redis_settings().clone(), config, Use::Commands).await
    }

    /// Opens a connection on which messages arrive as pushes of RESP3.
    pub(crate) async fn pushes(&self, config: AsyncConnectionConfig) -> Result<Opened, Refusal> {
        let settings = self.host.info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        self.multiplexed(settings, config, Use::Messages).await
    }

    /// Opens a connection for messages in RESP2.
    pub(crate) async fn messages(&self) -> Result<PubSub, Refusal> {
        let settings = self.host.info.redis_settings().clone().set_protocol(ProtocolVersion::RESP2);
        let settings = self.host.log_in(settings).await?;
        let opened = async {
            let (server, _) = self.server_for(Use::Messages, &settings).await?;
            match &server.transport {
                Transport::Client => Ok(server.client(settings)?.get_async_pubsub().await?),
                #[cfg(feature = "tls")]
                Transport::Tls(dialer) => {
                    let stream = dialer.dial().await.map_err(|error| tls_refusal(dialer, error.into()))?;
                    PubSub::new(&settings, stream).await.map_err(|error| tls_refusal(dialer, error))
                }
            }
        };
        timeout(self.host.limit, opened).await.unwrap_or(Err(Refusal::Timeout))
    }

    async fn multiplexed(
        &self,
        settings: RedisConnectionInfo,
        config: AsyncConnectionConfig,
        of: Use,
    ) -> Result<Opened, Refusal> {
        let settings = self.host.log_in(settings).await?;
        let opened = async {
            let (server, role) = self.server_for(of, &settings).await?;
            let opened = server.open(settings.clone(), config).await?;
            #[cfg(feature = "sentinel")]
            if role == Role::Master && matches!(self.finder, Finder::Sentinels(_)) {
                // The roles may have changed, or the address may lead to another server.
                let mut opened = opened;
                return match check_role(&mut opened.connection, settings.protocol()).await {
                    Ok(()) => Ok(opened),
                    Err(Refusal::Replica) => Err(no_longer(&self.place())),
                    Err(refusal) => Err(refusal),
                };
            }
            #[cfg(not(feature = "sentinel"))]
            let _ = role;
            Ok(opened)
        };
        timeout(self.host.limit, opened).await.unwrap_or(Err(Refusal::Timeout))
    }
}

impl Opener {
    /// The server of the next connection: the master, or for messages a replica of it.
    async fn server_for(
        &self,
        of: Use,
        settings: &RedisConnectionInfo,
    ) -> Result<(Cow<'_, Host>, Role), Refusal> {
        let master = self.server(settings).await?;
        let replica = match &self.replicas {
            Some(replicas) if of == Use::Messages => {
                let found: BoxFuture<'_, Option<Host>> = Box::pin(replicas.find(&master, settings));
                found.await
            }
            _ => None,
        };
        Ok(match replica {
            Some(replica) => (Cow::Owned(replica), Role::Replica),
            None => (master, Role::Master),
        })
    }

    /// Whether no network is between this process and the server. If Sentinels or a list of addresses lead to it, the
    /// first of them must be on this machine, too.
    #[cfg(feature = "tools")]
    pub(crate) async fn is_on_this_machine(&self) -> bool {
        if !is_local(self.host.info.addr()) || matches!(self.finder, Finder::Fixed) {
            return is_local(self.host.info.addr());
        }
        let settings = self.host.log_in(self.host.info.redis_settings().clone()).await;
        let Ok(settings) = settings else { return false };
        self.server(&settings).await.is_ok_and(|server| is_local(server.info.addr()))
    }

    /// The master, for the next connection.
    async fn server(&self, settings: &RedisConnectionInfo) -> Result<Cow<'_, Host>, Refusal> {
        let found: BoxFuture<'_, Result<Host, Refusal>> = match &self.finder {
            Finder::Fixed => return Ok(Cow::Borrowed(&self.host)),
            Finder::Listed(listed) => Box::pin(listed.find(settings)),
            #[cfg(feature = "sentinel")]
            Finder::Sentinels(sentinels) => Box::pin(sentinels.find(&self.host, settings)),
        };
        Ok(Cow::Owned(found.await?))
    }
}

#[cfg(feature = "tools")]
fn is_local(addr: &ConnectionAddr) -> bool {
    match addr {
        ConnectionAddr::Tcp(host, _) | ConnectionAddr::TcpTls { host, .. } => {
            let ip = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
            host.eq_ignore_ascii_case("localhost") || ip.is_ok_and(|ip| ip.is_loopback())
        }
        ConnectionAddr::Unix(_) => true,
        _ => false,
    }
}

/// The server was the master when it was found, and is a replica by now.
pub(super) fn no_longer(place: &str) -> Refusal {
    Refusal::NoMaster(format!("{place}: the server that was the master has become a replica"))
}

/// The pool's connections for commands.
impl Manager for Opener {
    type Type = Opened;
    type Error = Refusal;

    async fn create(&self) -> Result<Opened, Refusal> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(None)
            // Deadlines are kept per operation, see `Checkout::answer`.
            .set_response_timeout(None)
            // At most this many commands wait to be written. Further callers wait for room.
            .set_pipeline_buffer_size(1024);
        self.commands(config).await
    }

    /// Connections never come back: see `Connector::link`.
    async fn recycle(&self, _: &mut Opened, _: &Metrics) -> RecycleResult<Refusal> {
        Err(RecycleError::message("connections are taken out of the pool for good"))
    }
}
