//! Opens connections to the server: over TCP, TLS or a Unix socket, each with the credentials of its moment.

use std::borrow::Cow;
#[cfg(feature = "sentinel")]
use std::pin::Pin;
#[cfg(feature = "sentinel")]
use std::sync::Arc;

use deadpool::managed::{Manager, Metrics, RecycleError, RecycleResult};
use redis::aio::PubSub;
use redis::{AsyncConnectionConfig, ConnectionAddr, ProtocolVersion, RedisConnectionInfo};
use tokio::time::timeout;

#[cfg(feature = "tls")]
use super::host::tls_refusal;
use super::host::{Host, Opened, Transport};
use super::refusals::Refusal;
#[cfg(feature = "sentinel")]
use super::sentinel::{Sentinels, check_role};

/// Opens connections to the server.
#[derive(Clone)]
pub(crate) struct Opener {
    /// The server. If Sentinels name it, its address is that of a Sentinel.
    pub(crate) host: Host,
    /// If they are set, they name the server at each connection.
    #[cfg(feature = "sentinel")]
    pub(crate) sentinels: Option<Arc<Sentinels>>,
}

impl Opener {
    /// For a server that is always at the same address.
    pub(crate) fn to(host: Host) -> Self {
        Self {
            host,
            #[cfg(feature = "sentinel")]
            sentinels: None,
        }
    }

    /// The server's address, if it is always the same.
    pub(crate) fn addr(&self) -> Option<&ConnectionAddr> {
        #[cfg(feature = "sentinel")]
        if self.sentinels.is_some() {
            return None;
        }
        Some(self.host.info.addr())
    }

    /// The address of the server, as errors show it.
    pub(crate) fn place(&self) -> String {
        #[cfg(feature = "sentinel")]
        if let Some(sentinels) = &self.sentinels {
            return sentinels.to_string();
        }
        self.host.info.addr().to_string()
    }

    /// Opens a connection for commands.
    pub(crate) async fn commands(&self, config: AsyncConnectionConfig) -> Result<Opened, Refusal> {
        self.multiplexed(self.host.info.redis_settings().clone(), config).await
    }

    /// Opens a connection on which messages arrive as pushes of RESP3.
    pub(crate) async fn pushes(&self, config: AsyncConnectionConfig) -> Result<Opened, Refusal> {
        let settings = self.host.info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        self.multiplexed(settings, config).await
    }

    /// Opens a connection for messages in RESP2.
    pub(crate) async fn messages(&self) -> Result<PubSub, Refusal> {
        let settings = self.host.info.redis_settings().clone().set_protocol(ProtocolVersion::RESP2);
        let settings = self.host.log_in(settings).await?;
        let opened = async {
            let server = self.server(&settings).await?;
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
    ) -> Result<Opened, Refusal> {
        let settings = self.host.log_in(settings).await?;
        let opened = async {
            let server = self.server(&settings).await?;
            let opened = server.open(settings.clone(), config).await?;
            #[cfg(feature = "sentinel")]
            if self.sentinels.is_some() {
                // The roles may have changed, or the address may lead to another server.
                let mut opened = opened;
                return match check_role(&mut opened.connection, settings.protocol()).await {
                    Ok(()) => Ok(opened),
                    Err(Refusal::Replica) => Err(no_longer(&self.place())),
                    Err(refusal) => Err(refusal),
                };
            }
            Ok(opened)
        };
        timeout(self.host.limit, opened).await.unwrap_or(Err(Refusal::Timeout))
    }
}

#[cfg(feature = "sentinel")]
impl Opener {
    /// The server of the next connection.
    async fn server(&self, settings: &RedisConnectionInfo) -> Result<Cow<'_, Host>, Refusal> {
        match &self.sentinels {
            Some(sentinels) => {
                // Without the box, the types of the callers' futures would be nested more deeply than the compiler allows.
                let found: Pin<Box<dyn Future<Output = Result<Host, Refusal>> + Send + '_>> =
                    Box::pin(sentinels.find(&self.host, settings));
                Ok(Cow::Owned(found.await?))
            }
            None => Ok(Cow::Borrowed(&self.host)),
        }
    }
}

#[cfg(not(feature = "sentinel"))]
impl Opener {
    #[expect(clippy::unused_async, reason = "with the feature `sentinel` it waits")]
    async fn server(&self, _: &RedisConnectionInfo) -> Result<Cow<'_, Host>, Refusal> {
        Ok(Cow::Borrowed(&self.host))
    }
}

/// The server was the master when it was found, and is a replica by now.
#[cfg(feature = "sentinel")]
pub(super) fn no_longer(place: &str) -> Refusal {
    Refusal::NoMaster(format!("{place}: the server that they name has become a replica"))
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
