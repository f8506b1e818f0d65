//! Opens connections to one server: over TCP, TLS or a Unix socket, each with the credentials of its moment.

use std::time::Duration;

use deadpool::managed::{Manager, Metrics, RecycleError, RecycleResult};
use redis::aio::{MultiplexedConnection, PubSub};
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, ProtocolVersion, RedisConnectionInfo,
};
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::cause::Secrets;
use super::credentials::Provider;
use super::refusals::Refusal;
#[cfg(feature = "tls")]
use super::tls::Dialer;

/// Where a server is, and how to log in.
#[derive(Clone)]
pub(crate) struct Opener {
    pub(crate) info: ConnectionInfo,
    pub(crate) transport: Transport,
    pub(crate) login: Login,
    /// The deadline of the connection.
    pub(crate) limit: Duration,
    pub(crate) secrets: Secrets,
}

/// A connection, and the task that reads and writes it, if that is ours. The task ends with this: by itself it would
/// wait for the answers of a server that hangs.
pub(crate) struct Opened {
    pub(crate) connection: MultiplexedConnection,
    pub(crate) driver: Option<AbortOnDropHandle<()>>,
}

/// How bytes get to the server.
#[derive(Clone)]
pub(crate) enum Transport {
    /// As the client does it: TCP or a Unix socket.
    Client,
    #[cfg(feature = "tls")]
    Tls(std::sync::Arc<Dialer>),
}

/// Where credentials come from.
#[derive(Clone)]
pub(crate) enum Login {
    /// They are in the settings, if there are any.
    Settings,
    /// They are asked for, within a deadline.
    Provider(Provider, Duration),
}

impl Opener {
    /// The server's address.
    pub(crate) fn addr(&self) -> &ConnectionAddr {
        self.info.addr()
    }

    /// How long it may take to open a connection: credentials are waited for apart.
    pub(crate) fn longest(&self) -> Duration {
        match &self.login {
            Login::Settings => self.limit,
            Login::Provider(_, limit) => self.limit + *limit,
        }
    }

    /// Opens a connection for commands.
    pub(crate) async fn commands(&self, config: AsyncConnectionConfig) -> Result<Opened, Refusal> {
        self.multiplexed(self.info.redis_settings().clone(), config).await
    }

    /// Opens a connection on which messages arrive as pushes of RESP3.
    pub(crate) async fn pushes(&self, config: AsyncConnectionConfig) -> Result<Opened, Refusal> {
        let settings = self.info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        self.multiplexed(settings, config).await
    }

    /// Opens a connection for messages in RESP2.
    pub(crate) async fn messages(&self) -> Result<PubSub, Refusal> {
        let settings = self.info.redis_settings().clone().set_protocol(ProtocolVersion::RESP2);
        let settings = self.log_in(settings).await?;
        let opened = async {
            match &self.transport {
                Transport::Client => Ok(self.client(settings)?.get_async_pubsub().await?),
                #[cfg(feature = "tls")]
                Transport::Tls(dialer) => {
                    let stream = dialer.dial().await.map_err(|error| tls_refusal(dialer, error.into()))?;
                    PubSub::new(&settings, stream).await.map_err(|error| tls_refusal(dialer, error))
                }
            }
        };
        timeout(self.limit, opened).await.unwrap_or(Err(Refusal::Timeout))
    }

    async fn multiplexed(
        &self,
        settings: RedisConnectionInfo,
        config: AsyncConnectionConfig,
    ) -> Result<Opened, Refusal> {
        let settings = self.log_in(settings).await?;
        let opened = async {
            match &self.transport {
                Transport::Client => {
                    let client = self.client(settings)?;
                    let connection = client.get_multiplexed_async_connection_with_config(&config).await?;
                    Ok(Opened { connection, driver: None })
                }
                #[cfg(feature = "tls")]
                Transport::Tls(dialer) => {
                    let stream = dialer.dial().await.map_err(|error| tls_refusal(dialer, error.into()))?;
                    let (connection, driver) =
                        MultiplexedConnection::new_with_config(&settings, stream, config)
                            .await
                            .map_err(|error| tls_refusal(dialer, error))?;
                    Ok(Opened { connection, driver: Some(AbortOnDropHandle::new(tokio::spawn(driver))) })
                }
            }
        };
        timeout(self.limit, opened).await.unwrap_or(Err(Refusal::Timeout))
    }

    fn client(&self, settings: RedisConnectionInfo) -> Result<Client, Refusal> {
        Ok(Client::open(self.info.clone().set_redis_settings(settings))?)
    }

    async fn log_in(&self, settings: RedisConnectionInfo) -> Result<RedisConnectionInfo, Refusal> {
        let Login::Provider(provider, limit) = &self.login else { return Ok(settings) };
        let credentials = provider.credentials(*limit, &self.secrets).await?;
        let settings = settings.set_password(credentials.password());
        Ok(match credentials.user() {
            Some(user) => settings.set_username(user),
            None => settings,
        })
    }
}

#[cfg(feature = "tls")]
fn tls_refusal(dialer: &Dialer, error: redis::RedisError) -> Refusal {
    match dialer.remedy(&error) {
        Some(remedy) => Refusal::Server(remedy),
        None if error.is_connection_dropped() && !error.is_connection_refusal() => {
            Refusal::Closed(dialer.hint_of_silence())
        }
        None => Refusal::Error(error),
    }
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
            // Commands wait for room while this many are being written.
            .set_pipeline_buffer_size(1024);
        self.commands(config).await
    }

    /// Connections never come back: see `Connector::link`.
    async fn recycle(&self, _: &mut Opened, _: &Metrics) -> RecycleResult<Refusal> {
        Err(RecycleError::message("connections are taken out of the pool for good"))
    }
}
