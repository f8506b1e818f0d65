//! The Redis that the instances share: one server, a cluster, or a master that Sentinels name.

use async_cache::{Error, RedisBackend};
use serde::{Deserialize, Serialize};

use crate::args::FleetArgs;

/// How to reach the Redis that the instances share.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct SharedRedis {
    servers: Servers,
    /// The authority that signs the servers' certificates, in PEM, if it is not one of the system's.
    ca: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
enum Servers {
    One(String),
    Cluster(Vec<String>),
    Sentinels { master: String, urls: Vec<String> },
}

impl SharedRedis {
    /// The server at a URL, without an authority of its own.
    pub(crate) fn server(url: String) -> Self {
        Self { servers: Servers::One(url), ca: None }
    }

    /// What the command line names, if it names any.
    pub(crate) fn of(args: &FleetArgs) -> Result<Option<Self>, String> {
        let servers = match (&args.redis, args.cluster.as_slice(), &args.sentinel) {
            (Some(url), ..) => Servers::One(url.clone()),
            (None, [_, ..], _) => Servers::Cluster(args.cluster.clone()),
            (None, [], Some(sentinel)) => {
                let (master, urls) = sentinel
                    .split_once('=')
                    .ok_or("--sentinel: give the master's name and the Sentinels, as `mymaster=redis://s1,redis://s2`")?;
                let urls = urls.split(',').map(str::to_owned).collect();
                Servers::Sentinels { master: master.to_owned(), urls }
            }
            (None, [], None) => return Ok(None),
        };
        let read = |file: &std::path::PathBuf| {
            std::fs::read_to_string(file).map_err(|error| format!("--ca: {}: {error}", file.display()))
        };
        Ok(Some(Self { servers, ca: args.ca.as_ref().map(read).transpose()? }))
    }

    /// The option of the command line that names it.
    pub(crate) fn option(&self) -> &'static str {
        match self.servers {
            Servers::One(_) => "--redis",
            Servers::Cluster(_) => "--cluster",
            Servers::Sentinels { .. } => "--sentinel",
        }
    }

    pub(crate) async fn connect(&self) -> Result<RedisBackend, Error> {
        let builder = RedisBackend::builder();
        let builder = match &self.servers {
            Servers::One(url) => builder.url(url),
            #[cfg(feature = "cluster")]
            Servers::Cluster(urls) => builder.cluster(urls.iter().cloned()),
            #[cfg(not(feature = "cluster"))]
            Servers::Cluster(_) => return Err(built_without("cluster")),
            #[cfg(feature = "sentinel")]
            Servers::Sentinels { master, urls } => builder.sentinel(master, urls.iter().cloned()),
            #[cfg(not(feature = "sentinel"))]
            Servers::Sentinels { .. } => return Err(built_without("sentinel")),
        };
        #[cfg(feature = "tls")]
        let builder = match &self.ca {
            Some(ca) => builder.tls(async_cache::Tls::new().ca(ca)),
            None => builder,
        };
        #[cfg(not(feature = "tls"))]
        if self.ca.is_some() {
            return Err(built_without("tls"));
        }
        builder.connect().await
    }
}

/// The demo is built without features, so that its first run begins soon.
#[cfg(any(test, not(all(feature = "cluster", feature = "outbox", feature = "sentinel", feature = "tls"))))]
pub(crate) fn built_without(feature: &str) -> Error {
    let remedy = format!("cargo run --release -p async-cache-demo --features {feature} -- ..");
    Error::new(
        async_cache::ErrorKind::Config,
        format!("the demo is built without the feature `{feature}`: {remedy}"),
    )
}
