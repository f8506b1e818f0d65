//! From settings to Sentinels.

use std::fmt;
use std::time::Duration;

use async_cache_core::{Error, ErrorKind, Result};
use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisConnectionInfo};

use super::Sentinels;
use crate::connection::cause::Secrets;
use crate::connection::credentials::Provider;
use crate::connection::host::{Host, Login, Transport};
#[cfg(feature = "tls")]
use crate::connection::settings::Encryption;
use crate::connection::settings::{self, Server};
#[cfg(feature = "tls")]
use crate::connection::tls::Tls;

/// Most Sentinels of one master.
const MAX_SENTINELS: usize = 32;
/// The port of a Sentinel, unless its URL has another.
const PORT: u16 = 26379;

/// The name of a master, and the URLs of its Sentinels.
pub(crate) struct Watched {
    pub(crate) master: String,
    pub(crate) urls: Vec<String>,
}

/// Settings for the Sentinels alone. What is left out is as for the servers.
#[derive(Default)]
pub(crate) struct Own {
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<Tls>,
    pub(crate) provider: Option<Provider>,
}

/// The limits and secrets that Sentinels share with the servers.
pub(crate) struct Shared {
    pub(crate) connect_timeout: Duration,
    pub(crate) credentials_timeout: Duration,
    pub(crate) secrets: Secrets,
}

impl Watched {
    /// The addresses of the Sentinels. User, password and database in them are those of the servers.
    pub(crate) fn addresses(&self) -> Result<Vec<Server>> {
        if self.master.is_empty() {
            return Err(wrong(
                "the name of the master is empty: give the one that the Sentinels have for it",
            ));
        }
        if self.urls.is_empty() || self.urls.len() > MAX_SENTINELS {
            let count = self.urls.len();
            return Err(wrong(format!("1 to {MAX_SENTINELS} Sentinels can be given, not {count}")));
        }
        let servers: Vec<Server> = self.urls.iter().map(|url| address(url)).collect::<Result<_>>()?;
        let [first, others @ ..] = &servers[..] else { unreachable!("there is at least one") };
        if others.iter().any(|other| !settings::agree(first, other)) {
            return Err(wrong(
                "the URLs differ in more than host and port: user, password, database and scheme are those of the \
                 servers. Give `sentinel_credentials` and `sentinel_tls` for what holds for the Sentinels alone",
            ));
        }
        Ok(servers)
    }
}

fn address(url: &str) -> Result<Server> {
    let mut server = settings::parse(url)?;
    let ConnectionAddr::Tcp(host, _) = server.info.addr().clone() else {
        return Err(wrong("the address of a Sentinel has a host and a port, not the path of a socket"));
    };
    if redis::parse_redis_url(url).is_some_and(|url| url.port().is_none()) {
        server.info = server.info.set_addr(ConnectionAddr::Tcp(host, PORT));
    }
    Ok(server)
}

impl Sentinels {
    pub(crate) fn new(master: String, servers: &[Server], own: &Own, shared: &Shared) -> Result<Self> {
        let members = servers.iter().map(|server| own.member(server, shared)).collect::<Result<_>>()?;
        Ok(Self { master, members })
    }
}

impl Own {
    /// Whether anything is set.
    pub(crate) fn are_set(&self) -> bool {
        #[cfg(feature = "tls")]
        if self.tls.is_some() {
            return true;
        }
        self.provider.is_some()
    }

    /// With the servers' TLS where there is none of its own. Servers speak TLS if the Sentinels do, or if there are
    /// settings for it.
    #[cfg(feature = "tls")]
    pub(crate) fn sharing(mut self, mut servers: Server, tls: Option<&Tls>) -> (Self, Server) {
        if servers.encryption == Encryption::Tls {
            self.tls.get_or_insert_with(|| tls.cloned().unwrap_or_default());
        } else if tls.is_some() {
            servers.encryption = Encryption::Tls;
        }
        (self, servers)
    }

    fn member(&self, server: &Server, shared: &Shared) -> Result<Host> {
        let info: ConnectionInfo = server
            .info
            .addr()
            .clone()
            .into_connection_info()
            .map_err(|_| wrong("an address of a Sentinel cannot be used"))?
            .set_redis_settings(RedisConnectionInfo::default().set_skip_set_lib_name());
        let info = settings::with_tcp_defaults(info);
        let transport = self.transport(server, &info)?;
        let login = match &self.provider {
            Some(provider) => Login::Provider(provider.clone(), shared.credentials_timeout),
            None => Login::Settings,
        };
        let (limit, secrets) = (shared.connect_timeout / 2, shared.secrets.clone());
        Ok(Host { info, transport, login, limit, secrets })
    }

    #[cfg(feature = "tls")]
    fn transport(&self, server: &Server, info: &ConnectionInfo) -> Result<Transport> {
        match (server.encryption, info.addr(), &self.tls) {
            (Encryption::Tls, ConnectionAddr::Tcp(host, port), Some(tls)) => Ok(Transport::Tls(
                std::sync::Arc::new(tls.dialer(host, *port, info.tcp_settings().clone())?),
            )),
            (Encryption::Tls, ..) => unreachable!("the servers' settings are the default"),
            (Encryption::None, _, Some(_)) => {
                Err(wrong("`sentinel_tls` is set, but the URLs do not ask for TLS: write `rediss://`"))
            }
            (Encryption::None, _, None) => Ok(Transport::Client),
        }
    }

    #[cfg(not(feature = "tls"))]
    #[expect(clippy::unused_self, reason = "with the feature `tls` it is used")]
    fn transport(&self, _: &Server, _: &ConnectionInfo) -> Result<Transport> {
        // The servers' transport has refused TLS already.
        Ok(Transport::Client)
    }
}

fn wrong(what: impl fmt::Display) -> Error {
    Error::new(ErrorKind::Config, format!("building a RedisBackend with Sentinels: {what}"))
}
