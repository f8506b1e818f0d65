//! One server, by its address: how bytes get there, and how to log in.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, ConnectionInfo, RedisConnectionInfo};
use tokio_util::task::AbortOnDropHandle;

use super::cause::Secrets;
use super::credentials::Provider;
use super::refusals::Refusal;
#[cfg(feature = "tls")]
use super::tls::Dialer;

/// Where a server is, and how to log in.
#[derive(Clone)]
pub(crate) struct Host {
    pub(crate) info: ConnectionInfo,
    pub(crate) transport: Transport,
    pub(crate) login: Login,
    /// The deadline of the connection.
    pub(crate) limit: Duration,
    pub(crate) secrets: Secrets,
}

/// A connection, and the task that reads and writes it, if this crate has spawned that task. Dropping this ends the
/// task. Otherwise the task would wait for the answers of a server that hangs.
pub(crate) struct Opened {
    pub(crate) connection: MultiplexedConnection,
    pub(crate) driver: Option<AbortOnDropHandle<()>>,
}

/// How bytes get to the server.
#[derive(Clone)]
pub(crate) enum Transport {
    /// TCP or a Unix socket, opened by the `redis` crate.
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

impl Host {
    /// How long it may take to open a connection, with the time for credentials.
    pub(crate) fn longest(&self) -> Duration {
        match &self.login {
            Login::Settings => self.limit,
            Login::Provider(_, limit) => self.limit + *limit,
        }
    }

    /// These settings for the server at this address.
    pub(super) fn at(&self, host: &str, port: u16) -> Result<Self, Refusal> {
        let transport = match &self.transport {
            Transport::Client => Transport::Client,
            #[cfg(feature = "tls")]
            Transport::Tls(dialer) => Transport::Tls(std::sync::Arc::new(dialer.at(host, port)?)),
        };
        let info = self.info.clone().set_addr(redis::ConnectionAddr::Tcp(host.to_owned(), port));
        Ok(Self { info, transport, ..self.clone() })
    }

    /// Opens a connection to this address with these settings.
    pub(super) async fn open(
        &self,
        settings: RedisConnectionInfo,
        config: AsyncConnectionConfig,
    ) -> Result<Opened, Refusal> {
        match &self.transport {
            Transport::Client => {
                let client = self.client(settings)?;
                let connection = client.get_multiplexed_async_connection_with_config(&config).await?;
                Ok(Opened { connection, driver: None })
            }
            #[cfg(feature = "tls")]
            Transport::Tls(dialer) => {
                let stream = dialer.dial().await.map_err(|error| tls_refusal(dialer, error.into()))?;
                let (connection, driver) = MultiplexedConnection::new_with_config(&settings, stream, config)
                    .await
                    .map_err(|error| tls_refusal(dialer, error))?;
                Ok(Opened { connection, driver: Some(AbortOnDropHandle::new(tokio::spawn(driver))) })
            }
        }
    }

    pub(super) fn client(&self, settings: RedisConnectionInfo) -> Result<Client, Refusal> {
        Ok(Client::open(self.info.clone().set_redis_settings(settings))?)
    }

    pub(super) async fn log_in(&self, settings: RedisConnectionInfo) -> Result<RedisConnectionInfo, Refusal> {
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
pub(super) fn tls_refusal(dialer: &Dialer, error: redis::RedisError) -> Refusal {
    match dialer.remedy(&error) {
        Some(remedy) => Refusal::Server(remedy),
        None if error.is_connection_dropped() && !error.is_connection_refusal() => {
            Refusal::Closed(dialer.hint_of_silence())
        }
        None => Refusal::Error(error),
    }
}
