//! The connection and the namespace that the arguments name.

use std::sync::{Arc, Weak};

use async_cache::backend::Listener;
use async_cache::tools::{Namespace, check_namespace, check_settings};
use async_cache::{Error, RedisBackend, RedisConfig, TlsConfig};

use crate::args::Shared;
use crate::config_file;
use crate::failure::Failure;

/// The settings of the connection.
pub(crate) fn settings(shared: &Shared) -> Result<RedisConfig, Failure> {
    let mut config = match &shared.config {
        Some(file) => config_file::read(file, shared.config_table.as_deref())?,
        None => of_arguments(shared)?,
    };
    config.connections = Some(1);
    (config.read_timeout, config.write_timeout) = (None, None);
    config.command_timeout = Some(shared.timeout);
    config.connect_timeout = Some(shared.timeout);
    check_settings(&config).map_err(|error| Failure::settings(&error))?;
    Ok(config)
}

fn of_arguments(shared: &Shared) -> Result<RedisConfig, Failure> {
    let mut config = RedisConfig::new(url(shared)?);
    if shared.cluster {
        config.cluster = vec![std::mem::take(&mut config.url)];
    }
    let mut tls = TlsConfig::default();
    tls.ca_file.clone_from(&shared.ca_file);
    tls.client_cert_file.clone_from(&shared.client_cert_file);
    tls.client_key_file.clone_from(&shared.client_key_file);
    tls.server_name.clone_from(&shared.server_name);
    let given = [&tls.ca_file, &tls.client_cert_file, &tls.client_key_file].iter().any(|file| file.is_some());
    if given || tls.server_name.is_some() {
        config.tls = Some(tls);
    }
    Ok(config)
}

fn url(shared: &Shared) -> Result<String, Failure> {
    let of_environment = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    shared
        .redis
        .clone()
        .or_else(|| of_environment("ASYNC_CACHE_REDIS"))
        .or_else(|| of_environment("REDIS_URL"))
        .ok_or_else(|| {
            Failure::usage(
                "which server? Give --redis URL or --config FILE, or set ASYNC_CACHE_REDIS or REDIS_URL",
            )
        })
}

/// The name of the namespace, if it is given.
pub(crate) fn namespace_name(shared: &Shared) -> Option<String> {
    let of_environment = || std::env::var("ASYNC_CACHE_NAMESPACE").ok().filter(|name| !name.is_empty());
    shared.namespace.clone().or_else(of_environment)
}

/// Connects, and opens the namespace. Its events go to the listener.
pub(crate) async fn open(shared: &Shared, listener: Weak<dyn Listener>) -> Result<Namespace, Failure> {
    let config = settings(shared)?;
    let name = namespace_name(shared).ok_or_else(|| {
        Failure::usage("which namespace? Give --namespace NAME, or set ASYNC_CACHE_NAMESPACE")
    })?;
    check_namespace(&name).map_err(|error| Failure::settings(&error))?;
    let backend =
        RedisBackend::from_config(config).connect().await.map_err(|error| advised(shared, error))?;
    Namespace::open(&backend, &name, listener).await?.ok_or_else(|| {
        Failure::found(format!(
            "Redis has no namespace `{name}` in this database: no cache has been opened under this name, or Redis has \
             lost its state since. Check the name, the server and the number of the database; a namespace comes into \
             being when a cache is opened"
        ))
    })
}

/// The error of a connection. Where the library's error names the call that a program needs, this text names the
/// argument.
fn advised(shared: &Shared, error: Error) -> Failure {
    let failure = Failure::from(error);
    match failure.message().contains(".cluster([") && !shared.cluster {
        true => failure.with("here that is --cluster"),
        false => failure,
    }
}

/// A listener for verbs that need no events.
pub(crate) fn deaf() -> Weak<dyn Listener> {
    struct Deaf;
    impl Listener for Deaf {
        fn notify(&self, _: async_cache::backend::BusEvent) {}
    }
    Arc::downgrade(&(Arc::new(Deaf) as Arc<dyn Listener>))
}
