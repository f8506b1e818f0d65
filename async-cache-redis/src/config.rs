//! The settings of a backend in a configuration file.

use std::fmt;
#[cfg(feature = "tls")]
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use async_cache_core::{Error, ErrorKind, Result};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use crate::connection::credentials::{Credentials, Provider};
use crate::connection::replicas::SubscribeOn;
#[cfg(feature = "sentinel")]
use crate::connection::sentinel::settings::Watched;
use crate::connection::server::{IdentifyBy, UnknownServers};
#[cfg(feature = "tls")]
use crate::connection::tls::Tls;
use crate::parts::{Settings, Target};

/// The settings of a [`RedisBackend`](crate::RedisBackend) in a configuration file, for
/// [`RedisBackend::from_config`](crate::RedisBackend::from_config).
///
/// A setting that is left out has the default of the [builder](crate::RedisBackendBuilder)'s method of the same name.
/// Durations are written as `"500ms"` or `"5s"`. An unknown name is an error. A `RedisConfig` cannot be serialized,
/// because it has secrets.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let config: async_cache_redis::RedisConfig = toml::from_str(
///     r#"
///     url = "rediss://cache.internal:6380/1"
///     username = "app"
///     password = "secret"
///     connections = 2
///     read_timeout = "300ms"
///
///     [tls]
///     ca_file = "/etc/ssl/cache-ca.pem"
///     "#,
/// )?;
/// assert!(!format!("{config:?}").contains("secret"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Deserialize)]
#[serde(remote = "Self", deny_unknown_fields)]
#[non_exhaustive]
pub struct RedisConfig {
    /// See [`url`](crate::RedisBackendBuilder::url). Empty with `urls`, `sentinel` or `cluster`.
    #[serde(default)]
    pub url: String,
    /// See [`urls`](crate::RedisBackendBuilder::urls), instead of `url`.
    #[serde(default)]
    pub urls: Vec<String>,
    /// The Sentinels that name the server, instead of `url`.
    #[serde(default)]
    pub sentinel: Option<SentinelConfig>,
    /// See `RedisBackendBuilder::cluster`: the URLs of some nodes, instead of `url`. Needs the feature `cluster`.
    #[serde(default)]
    pub cluster: Vec<String>,
    /// The user's name, if it is not in the URL. Needs `password`.
    #[serde(default)]
    pub username: Option<String>,
    /// The password, if it is not in the URL.
    #[serde(default)]
    pub password: Option<String>,
    /// See `RedisBackendBuilder::tls`. Needs the feature `tls`.
    #[serde(default)]
    pub tls: Option<TlsConfig>,
    /// See [`connections`](crate::RedisBackendBuilder::connections).
    #[serde(default)]
    pub connections: Option<usize>,
    /// See [`partitions`](crate::RedisBackendBuilder::partitions).
    #[serde(default)]
    pub partitions: Option<u16>,
    /// See [`command_timeout`](crate::RedisBackendBuilder::command_timeout): for reading and writing, where these are not set.
    #[serde(default, deserialize_with = "async_cache_core::durations::optional")]
    pub command_timeout: Option<Duration>,
    /// See [`read_timeout`](crate::RedisBackendBuilder::read_timeout).
    #[serde(default, deserialize_with = "async_cache_core::durations::optional")]
    pub read_timeout: Option<Duration>,
    /// See [`write_timeout`](crate::RedisBackendBuilder::write_timeout).
    #[serde(default, deserialize_with = "async_cache_core::durations::optional")]
    pub write_timeout: Option<Duration>,
    /// See [`connect_timeout`](crate::RedisBackendBuilder::connect_timeout).
    #[serde(default, deserialize_with = "async_cache_core::durations::optional")]
    pub connect_timeout: Option<Duration>,
    /// See [`credentials_timeout`](crate::RedisBackendBuilder::credentials_timeout).
    #[serde(default, deserialize_with = "async_cache_core::durations::optional")]
    pub credentials_timeout: Option<Duration>,
    /// See [`allow_unknown_server`](crate::RedisBackendBuilder::allow_unknown_server).
    #[serde(default)]
    pub allow_unknown_server: Option<bool>,
    /// `"info"` or `"scripts"`: see [`identify_server_by`](crate::RedisBackendBuilder::identify_server_by).
    #[serde(default)]
    pub identify_server_by: Option<IdentifyBy>,
    /// `"master"` or `"replicas"`: see [`subscribe_on`](crate::RedisBackendBuilder::subscribe_on).
    #[serde(default)]
    pub subscribe_on: Option<SubscribeOn>,
}

/// The part of a [`RedisConfig`] about TLS: paths of files in PEM, which are read when the backend is built.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct TlsConfig {
    /// The certificates of the authorities to trust, instead of those of this machine.
    pub ca_file: Option<PathBuf>,
    /// The client's certificate and its chain. Needs `client_key_file`.
    pub client_cert_file: Option<PathBuf>,
    /// The private key of the client's certificate. Needs `client_cert_file`.
    pub client_key_file: Option<PathBuf>,
    /// The name that the server's certificate must have, if it is not the host of the URL.
    pub server_name: Option<String>,
}

/// The part of a [`RedisConfig`] about Sentinels: see `RedisBackendBuilder::sentinel`. Needs the feature `sentinel`.
///
/// Everything outside this part holds for the servers. `username`, `password` and `tls` in it hold for the Sentinels alone,
/// if they differ.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct SentinelConfig {
    /// The name under which the Sentinels watch the master.
    pub master: String,
    /// The URLs of the Sentinels.
    pub urls: Vec<String>,
    /// The user's name at the Sentinels. Needs `password`.
    #[serde(default)]
    pub username: Option<String>,
    /// The password at the Sentinels.
    #[serde(default)]
    pub password: Option<String>,
    /// How to speak TLS with the Sentinels.
    #[serde(default)]
    pub tls: Option<TlsConfig>,
}

/// One of `url`, `urls`, `sentinel` and `cluster` is needed.
impl<'de> Deserialize<'de> for RedisConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let config = Self::deserialize(deserializer)?;
        let none = config.url.is_empty() && config.urls.is_empty() && config.cluster.is_empty();
        if none && config.sentinel.is_none() {
            return Err(D::Error::custom(
                "no server is given: set `url`, `urls`, `cluster` or the table `[sentinel]`",
            ));
        }
        Ok(config)
    }
}

impl RedisConfig {
    /// The settings for a URL, all others left out.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            urls: Vec::new(),
            sentinel: None,
            cluster: Vec::new(),
            username: None,
            password: None,
            tls: None,
            connections: None,
            partitions: None,
            command_timeout: None,
            read_timeout: None,
            write_timeout: None,
            connect_timeout: None,
            credentials_timeout: None,
            allow_unknown_server: None,
            identify_server_by: None,
            subscribe_on: None,
        }
    }

    /// The settings of a builder.
    pub(crate) fn settings(self) -> Result<Settings> {
        let mut settings =
            Settings { target: target(self.url, self.urls, self.cluster)?, ..Settings::default() };
        if let Some(sentinel) = self.sentinel {
            sentinel.apply(&mut settings)?;
        }
        settings.provider = provider(self.username, self.password)?;
        if let Some(tls) = self.tls {
            tls.apply(&mut settings)?;
        }
        set(&mut settings.connections, self.connections);
        settings.partitions = self.partitions;
        set(&mut settings.deadlines.read, self.read_timeout.or(self.command_timeout));
        set(&mut settings.deadlines.write, self.write_timeout.or(self.command_timeout));
        set(&mut settings.connect_timeout, self.connect_timeout);
        set(&mut settings.credentials_timeout, self.credentials_timeout);
        set(&mut settings.identify, self.identify_server_by);
        set(&mut settings.subscribe_on, self.subscribe_on);
        if self.allow_unknown_server == Some(true) {
            settings.unknown = UnknownServers::Allow;
        }
        Ok(settings)
    }
}

impl SentinelConfig {
    #[cfg(feature = "sentinel")]
    fn apply(self, settings: &mut Settings) -> Result<()> {
        if !matches!(&settings.target, Target::Url(url) if url.is_empty()) {
            return Err(wrong(
                "`sentinel` and `url`, `urls` or `cluster` are both given: the server is at one of them",
            ));
        }
        settings.target = Target::Sentinels(Watched { master: self.master, urls: self.urls });
        settings.sentinels.provider = provider(self.username, self.password)?;
        if let Some(tls) = self.tls {
            #[cfg(feature = "tls")]
            {
                settings.sentinels.tls = Some(tls.read()?);
            }
            #[cfg(not(feature = "tls"))]
            tls.apply(settings)?;
        }
        Ok(())
    }

    #[cfg(not(feature = "sentinel"))]
    #[expect(clippy::unused_self, reason = "with the feature `sentinel` it is used")]
    fn apply(self, _: &mut Settings) -> Result<()> {
        Err(wrong("`sentinel` needs the feature `sentinel` of async-cache-rs"))
    }
}

/// Gives the same credentials at each connection.
fn provider(user: Option<String>, password: Option<String>) -> Result<Option<Provider>> {
    match (user, password) {
        (None, None) => Ok(None),
        (Some(_), None) => Err(wrong("`username` needs `password`")),
        (user, Some(password)) => {
            let credentials = Credentials::new(user.unwrap_or_default(), password);
            Ok(Some(Provider::new(move || std::future::ready(Ok(credentials.clone())))))
        }
    }
}

#[cfg_attr(
    not(feature = "cluster"),
    expect(clippy::needless_pass_by_value, reason = "with the feature `cluster` it is used up")
)]
fn target(url: String, urls: Vec<String>, cluster: Vec<String>) -> Result<Target> {
    match (url.is_empty(), urls.is_empty(), cluster.is_empty()) {
        (_, true, true) => Ok(Target::Url(url)),
        (true, false, true) => Ok(Target::Urls(urls)),
        #[cfg(feature = "cluster")]
        (true, true, false) => Ok(Target::Cluster(cluster)),
        #[cfg(not(feature = "cluster"))]
        (true, true, false) => Err(wrong("`cluster` needs the feature `cluster` of async-cache-rs")),
        _ => Err(wrong("two of `url`, `urls` and `cluster` are given: which of them is meant?")),
    }
}

fn set<T>(setting: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *setting = value;
    }
}

impl TlsConfig {
    #[cfg(feature = "tls")]
    fn apply(self, settings: &mut Settings) -> Result<()> {
        settings.tls = Some(self.read()?);
        Ok(())
    }

    #[cfg(feature = "tls")]
    fn read(self) -> Result<Tls> {
        let mut tls = Tls::new();
        if let Some(path) = self.ca_file {
            tls = tls.ca(read("ca_file", &path)?);
        }
        tls = match (self.client_cert_file, self.client_key_file) {
            (None, None) => tls,
            (Some(chain), Some(key)) => {
                tls.client_cert(read("client_cert_file", &chain)?, read("client_key_file", &key)?)
            }
            _ => return Err(wrong("`tls.client_cert_file` and `tls.client_key_file` need each other")),
        };
        if let Some(name) = self.server_name {
            tls = tls.server_name(name);
        }
        Ok(tls)
    }

    #[cfg(not(feature = "tls"))]
    #[expect(clippy::unused_self, reason = "with the feature `tls` it is used")]
    fn apply(self, _: &mut Settings) -> Result<()> {
        Err(wrong("`tls` needs the feature `tls` of async-cache-rs"))
    }
}

#[cfg(feature = "tls")]
fn read(setting: &str, path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|error| wrong(format!("reading `tls.{setting}` {}: {error}", path.display())))
}

fn wrong(what: impl fmt::Display) -> Error {
    Error::new(ErrorKind::Config, format!("configuring a RedisBackend: {what}"))
}

/// Everything but secrets.
impl fmt::Debug for RedisConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("RedisConfig");
        match &self.sentinel {
            Some(sentinel) => shown.field("sentinel", sentinel),
            None if !self.cluster.is_empty() => {
                shown.field("cluster", &all_without_credentials(&self.cluster))
            }
            None if !self.urls.is_empty() => shown.field("urls", &all_without_credentials(&self.urls)),
            None => shown.field("url", &without_credentials(&self.url)),
        };
        shown
            .field("username", &self.username)
            .field("password", &self.password.as_ref().map(|_| "***"))
            .field("tls", &self.tls)
            .field("connections", &self.connections)
            .field("partitions", &self.partitions)
            .field("command_timeout", &self.command_timeout)
            .field("read_timeout", &self.read_timeout)
            .field("write_timeout", &self.write_timeout)
            .field("connect_timeout", &self.connect_timeout)
            .field("credentials_timeout", &self.credentials_timeout)
            .field("allow_unknown_server", &self.allow_unknown_server)
            .field("identify_server_by", &self.identify_server_by)
            .field("subscribe_on", &self.subscribe_on)
            .finish()
    }
}

/// Everything but secrets.
impl fmt::Debug for SentinelConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SentinelConfig")
            .field("master", &self.master)
            .field("urls", &all_without_credentials(&self.urls))
            .field("username", &self.username)
            .field("password", &self.password.as_ref().map(|_| "***"))
            .field("tls", &self.tls)
            .finish()
    }
}

fn all_without_credentials(urls: &[String]) -> Vec<String> {
    urls.iter().map(|url| without_credentials(url)).collect()
}

/// Credentials are before an `@`, or in the query of a Unix socket's URL.
fn without_credentials(url: &str) -> String {
    let url = url.split_once('?').map_or(url, |(before, _)| before);
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://***@{host}"),
        (_, Some((_, host))) => format!("***@{host}"),
        _ => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_shown_without_credentials() {
        for (url, shown) in [
            ("redis://h:1/2", "redis://h:1/2"),
            ("rediss://u:p@h:1/2?protocol=resp3", "rediss://***@h:1/2"),
            ("redis://u:p@ss@h", "redis://***@h"),
            ("unix:///s?user=u&pass=p", "unix:///s"),
            ("u:p@h", "***@h"),
        ] {
            assert_eq!(without_credentials(url), shown);
        }
    }
}
