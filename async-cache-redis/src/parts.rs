//! From settings to the parts of a backend.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use async_cache_core::{Error, Result};
use deadpool_redis::Pool;
use redis::{Client, ConnectionInfo};
use tokio::sync::Notify;

use crate::connection::cause::Secrets;
use crate::connection::connect::{Connector, Source};
use crate::connection::credentials::Provider;
use crate::connection::failure::Outage;
use crate::connection::host::{Host, Login, Transport};
use crate::connection::link::Link;
use crate::connection::listed::{self, Listed};
use crate::connection::opener::{Finder, Opener};
use crate::connection::replicas::SubscribeOn;
#[cfg(feature = "sentinel")]
use crate::connection::sentinel::Sentinels;
#[cfg(feature = "sentinel")]
use crate::connection::sentinel::settings::{Own, Shared, Watched};
use crate::connection::server::{Accepted, Deployment, IdentifyBy, UnknownServers};
use crate::connection::settings::{self, Encryption, Server, wrong};
use crate::connection::slots::Slots;
#[cfg(feature = "tls")]
use crate::connection::tls::Tls;
use crate::inner::Inner;
use crate::limits::Deadlines;
use crate::lua::{self, Scripts};
use crate::pubsub::bus::Bus;
use crate::pubsub::subscriber::{Progress, Subscriber};

/// The maximum number of connections for commands.
const MAX_CONNECTIONS: usize = 64;
/// Deadline of operations, unless set.
const DEADLINE: Duration = Duration::from_millis(500);
/// The maximum number of partitions.
const MAX_PARTITIONS: u16 = 1024;

/// Partitions of a namespace in a cluster, unless set.
#[cfg(feature = "cluster")]
pub(crate) const CLUSTER_PARTITIONS: u16 = 64;

/// The settings of a builder.
pub(crate) struct Settings {
    pub(crate) target: Target,
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<Tls>,
    pub(crate) provider: Option<Provider>,
    pub(crate) credentials_timeout: Duration,
    pub(crate) connections: usize,
    /// Unless set, one, or [`CLUSTER_PARTITIONS`] in a cluster.
    pub(crate) partitions: Option<u16>,
    pub(crate) deadlines: Deadlines,
    pub(crate) connect_timeout: Duration,
    pub(crate) scripts: &'static Scripts,
    pub(crate) unknown: UnknownServers,
    pub(crate) identify: IdentifyBy,
    pub(crate) subscribe_on: SubscribeOn,
    /// Whether reads from replicas were asked for. They are refused.
    pub(crate) reads_replicas: bool,
    #[cfg(feature = "sentinel")]
    pub(crate) sentinels: Own,
    /// Notified when a server of a cluster no longer has a partition.
    pub(crate) strayed: Arc<Notify>,
}

/// Where the server is.
pub(crate) enum Target {
    Missing,
    /// The configuration is wrong.
    Wrong(Error),
    Url(String),
    /// Several addresses of one server, or of a master and its replicas.
    Urls(Vec<String>),
    #[cfg(feature = "sentinel")]
    Sentinels(Watched),
    /// Some nodes of a cluster.
    #[cfg(feature = "cluster")]
    Cluster(Vec<String>),
    Info(Box<ConnectionInfo>),
    Pool(Pool, Box<Client>),
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            target: Target::Missing,
            #[cfg(feature = "tls")]
            tls: None,
            provider: None,
            credentials_timeout: Duration::from_secs(5),
            connections: 2,
            partitions: None,
            deadlines: Deadlines { read: DEADLINE, write: DEADLINE },
            connect_timeout: Duration::from_secs(1),
            scripts: lua::scripts(),
            unknown: UnknownServers::Refuse,
            identify: IdentifyBy::Info,
            subscribe_on: SubscribeOn::Master,
            reads_replicas: false,
            #[cfg(feature = "sentinel")]
            sentinels: Own::default(),
            strayed: Arc::default(),
        }
    }
}

impl Settings {
    /// Makes the parts. Connects to nothing.
    pub(crate) fn prepare(mut self) -> Result<Parts> {
        self.validate()?;
        let longest = self.deadlines.longest();
        let (opener, source) = match std::mem::replace(&mut self.target, Target::Missing) {
            Target::Missing => return Err(wrong("no server given: call `url`")),
            Target::Wrong(error) => return Err(error),
            Target::Url(url) => self.ours(self.opener(settings::parse(&url)?)?)?,
            Target::Urls(urls) => self.ours(self.listed(&urls)?)?,
            #[cfg(feature = "cluster")]
            Target::Cluster(_) => return Err(wrong("a cluster is more than one server")),
            #[cfg(feature = "sentinel")]
            Target::Sentinels(watched) => {
                let own = std::mem::take(&mut self.sentinels);
                self.ours(self.watched(watched, own)?)?
            }
            Target::Info(info) => self.ours(self.opener(settings::given(*info)?)?)?,
            Target::Pool(pool, client) => {
                let lengthened = longest.max(self.connect_timeout);
                (self.callers(client.get_connection_info())?, Source::Callers(pool, lengthened))
            }
        };
        Ok(self.parts(opener, source, Deployment::Single))
    }

    /// Makes the parts for one server of a cluster. Connects to nothing.
    #[cfg(feature = "cluster")]
    pub(crate) fn prepare_node(&self, server: &Server, deployment: Deployment) -> Result<Parts> {
        let (opener, source) = self.ours(self.opener(server.clone())?)?;
        Ok(self.parts(opener, source, deployment))
    }

    /// The node of a cluster at the first URL, after all settings are checked.
    #[cfg(all(feature = "cluster", feature = "tools"))]
    pub(crate) fn first_node(&self) -> Result<Server> {
        self.validate()?;
        let first = match &self.target {
            Target::Cluster(urls) => urls.first(),
            _ => None,
        };
        settings::parse(first.ok_or_else(|| wrong("`cluster` has no URL: give at least one node"))?)
    }

    fn parts(&self, mut opener: Opener, source: Source, deployment: Deployment) -> Parts {
        let connector = Arc::new(Connector {
            source,
            addr: opener.addr().cloned(),
            place: opener.place(),
            connect_timeout: self.connect_timeout,
            scripts: self.scripts,
            accepted: Accepted { unknown: self.unknown, deployment, identify: self.identify },
            proven: AtomicBool::new(false),
        });
        if self.subscribe_on == SubscribeOn::Replicas {
            opener.replicas = Some(Arc::default());
        }
        let secrets = opener.host.secrets.clone();
        let bus = Arc::new(Bus::new(Arc::clone(&self.strayed)));
        let (command_timeout, progress) = (self.deadlines.longest(), Progress::default());
        let subscriber = Subscriber { opener, deployment, bus, command_timeout, progress };
        let Self { connections, deadlines, .. } = *self;
        let partitions = self.partitions.unwrap_or(1);
        Parts { connector, subscriber, secrets, connections, partitions, deadlines }
    }

    /// The opener and the source of connections that this crate makes.
    fn ours(&self, opener: Opener) -> Result<(Opener, Source)> {
        let pool = opener.clone().pool(self.connections)?;
        Ok((opener, Source::Ours(pool)))
    }

    fn opener(&self, server: Server) -> Result<Opener> {
        let transport = self.transport(&server)?;
        let info = settings::with_tcp_defaults(server.info);
        let password = info.redis_settings().password();
        let secrets = Secrets::new(password);
        let login = match &self.provider {
            None => Login::Settings,
            Some(_) if password.is_some() || info.redis_settings().username().is_some() => {
                return Err(wrong(
                    "the user or password is in the address, and credentials are given beside it, too: put both into the \
                     address, or both beside it (`credentials`, or `username` and `password` of a configuration)",
                ));
            }
            Some(provider) => Login::Provider(provider.clone(), self.credentials_timeout),
        };
        Ok(Opener::to(Host { info, transport, login, limit: self.connect_timeout, secrets }))
    }

    /// For the server that is the master of several addresses.
    fn listed(&self, urls: &[String]) -> Result<Opener> {
        let mut openers: Vec<Opener> =
            listed::servers(urls)?.into_iter().map(|server| self.opener(server)).collect::<Result<_>>()?;
        if openers.len() == 1 {
            return Ok(openers.remove(0));
        }
        if self.identify == IdentifyBy::Scripts {
            return Err(wrong(
                "`urls` needs `IdentifyBy::Info`: only INFO tells whether two addresses lead to one server. With \
                 `IdentifyBy::Scripts` give one address (`url`), for example that of a proxy, or Sentinels",
            ));
        }
        let mut opener = openers[0].clone();
        let secrets = &opener.host.secrets;
        let members = openers.into_iter().map(|member| Host { secrets: secrets.clone(), ..member.host });
        opener.finder = Finder::Listed(Arc::new(Listed::new(members.collect())));
        Ok(opener)
    }

    /// For the servers that Sentinels watch.
    #[cfg(feature = "sentinel")]
    fn watched(&self, watched: Watched, own: Own) -> Result<Opener> {
        let addresses = watched.addresses()?;
        let servers = addresses[0].clone();
        #[cfg(feature = "tls")]
        let (own, servers) = own.sharing(servers, self.tls.as_ref());
        let mut opener = self.opener(servers)?;
        let shared = Shared {
            connect_timeout: self.connect_timeout,
            credentials_timeout: self.credentials_timeout,
            secrets: opener.host.secrets.clone(),
        };
        let sentinels = Sentinels::new(watched.master, &addresses, &own, &shared)?;
        opener.finder = Finder::Sentinels(Arc::new(sentinels));
        Ok(opener)
    }

    /// The opener beside a caller's pool. This crate then makes only the subscriber's connection.
    fn callers(&self, info: &ConnectionInfo) -> Result<Opener> {
        let own = |what: &str| {
            Err(wrong(format!("`{what}` does not apply to a pool of your own: give it to the pool")))
        };
        if self.provider.is_some() {
            return own("credentials");
        }
        #[cfg(feature = "tls")]
        if self.tls.is_some() {
            return own("tls");
        }
        let secrets = Secrets::new(info.redis_settings().password());
        let (transport, login) = (Transport::Client, Login::Settings);
        let info = info.clone();
        Ok(Opener::to(Host { info, transport, login, limit: self.connect_timeout, secrets }))
    }

    #[cfg(feature = "tls")]
    fn transport(&self, server: &Server) -> Result<Transport> {
        let info = &server.info;
        match (server.encryption, info.addr()) {
            (Encryption::Tls, redis::ConnectionAddr::Tcp(host, port)) => {
                let tcp = settings::with_tcp_defaults(info.clone()).tcp_settings().clone();
                let dialer = self.tls.clone().unwrap_or_default().dialer(host, *port, tcp)?;
                Ok(Transport::Tls(Arc::new(dialer)))
            }
            _ if self.tls.is_some() => {
                Err(wrong("`tls` is set, but the URL does not ask for TLS: write `rediss://`"))
            }
            _ => Ok(Transport::Client),
        }
    }

    #[cfg(not(feature = "tls"))]
    #[expect(clippy::unused_self, reason = "with the feature `tls` it is used")]
    fn transport(&self, server: &Server) -> Result<Transport> {
        match server.encryption {
            Encryption::None => Ok(Transport::Client),
            Encryption::Tls => {
                Err(wrong("the URL asks for TLS (`rediss://`): enable the feature `tls` of async-cache-rs"))
            }
        }
    }

    /// Whether the replicas can be found and reached.
    fn check_replicas(&self) -> Result<()> {
        let why = match &self.target {
            #[cfg(feature = "cluster")]
            Target::Cluster(_) => "a Redis Cluster spreads the messages over its masters: add masters",
            Target::Pool(..) => {
                "with a pool of your own only the client that you give receives messages: give the address"
            }
            _ if self.identify == IdentifyBy::Scripts => {
                "the replicas are found by INFO, which `IdentifyBy::Scripts` does without: use `IdentifyBy::Info`"
            }
            _ => return Ok(()),
        };
        Err(wrong(format!("`SubscribeOn::Replicas` cannot be used here: {why}")))
    }

    pub(crate) fn validate(&self) -> Result<()> {
        if self.reads_replicas {
            return Err(wrong(
                "`read_from_replicas(true)` would serve values that were invalidated, because replicas lag behind: leave it \
                 out, and raise the capacity of L1 to relieve the master",
            ));
        }
        #[cfg(feature = "sentinel")]
        if !matches!(self.target, Target::Sentinels(_)) && self.sentinels.are_set() {
            return Err(wrong("settings for Sentinels are given, but no Sentinels: call `sentinel`"));
        }
        if self.subscribe_on == SubscribeOn::Replicas {
            self.check_replicas()?;
        }
        if !(1..=MAX_CONNECTIONS).contains(&self.connections) {
            return Err(wrong(format!(
                "connections must be 1 to {MAX_CONNECTIONS}, not {}",
                self.connections
            )));
        }
        if let Some(partitions) = self.partitions
            && !(1..=MAX_PARTITIONS).contains(&partitions)
        {
            return Err(wrong(format!("partitions must be 1 to {MAX_PARTITIONS}, not {partitions}")));
        }
        #[cfg(feature = "cluster")]
        if self.identify == IdentifyBy::Scripts && matches!(self.target, Target::Cluster(_)) {
            return Err(wrong(
                "`IdentifyBy::Scripts` is not for a Redis Cluster: use `IdentifyBy::Info`, and permit `+info`",
            ));
        }
        if self.identify == IdentifyBy::Scripts && self.partitions.is_some_and(|partitions| partitions != 1) {
            return Err(wrong("with `IdentifyBy::Scripts` a namespace has one partition"));
        }
        let Deadlines { read, write } = self.deadlines;
        if read.min(write).min(self.connect_timeout).min(self.credentials_timeout).is_zero() {
            return Err(wrong("a timeout of zero lets nothing through"));
        }
        Ok(())
    }
}

/// The parts of a backend, before it is known whether it connects.
pub(crate) struct Parts {
    pub(crate) connector: Arc<Connector>,
    pub(crate) subscriber: Subscriber,
    pub(crate) secrets: Secrets,
    connections: usize,
    partitions: u16,
    deadlines: Deadlines,
}

impl Parts {
    /// Must be called inside a Tokio runtime.
    pub(crate) fn build(self, first: Result<Link, Outage>) -> Inner {
        let Self { connector, subscriber, secrets, connections, partitions, deadlines } = self;
        let server = subscriber.opener.place();
        let slots = Arc::new(Slots::new(first, connections, deadlines, secrets));
        if subscriber.deployment.is_cluster() {
            // The cluster has told the address, so it is right. If a replica answers there, the roles have
            // changed.
            slots.address_is_right();
            subscriber.progress.address_is_right();
        }
        Inner::new(server, partitions, slots, connector, subscriber)
    }
}

#[cfg(not(feature = "tls"))]
#[cfg(test)]
mod tests {
    use async_cache_core::ErrorKind;

    use super::*;

    #[test]
    fn without_the_feature_a_url_for_tls_names_it() {
        for url in ["rediss://:hunter2@127.0.0.1", "valkeys://:hunter2@127.0.0.1"] {
            let settings = Settings { target: Target::Url(url.to_owned()), ..Settings::default() };
            let error = settings.prepare().err().expect("it is refused");
            assert_eq!(error.kind(), ErrorKind::Config);
            let text = format!("{error} {error:?}");
            assert!(text.contains("feature `tls`") && !text.contains("hunter2"), "{text}");
        }
    }
}
