//! The settings of connections: from a URL, and those that the client leaves out.

use std::time::Duration;

use async_cache_core::{Error, ErrorKind, Result};
use deadpool_redis::{Pool, Runtime};
use redis::io::tcp::{TcpSettings, socket2};
use redis::{AsyncConnectionConfig, Client, ConnectionInfo};

use super::failure::Secrets;

/// Reads a URL.
pub(crate) fn parse(url: &str) -> Result<ConnectionInfo> {
    url.parse::<ConnectionInfo>().map_err(|error| {
        // The client's errors about URLs quote nothing of them.
        let cause = Secrets::default().cause(error);
        if url.starts_with("rediss://") || url.starts_with("valkeys://") {
            let message = "the URL asks for TLS (`rediss://`), which this version does not support: put a TLS tunnel in front of \
                           the server, such as stunnel, and connect to that by `redis://`";
            return Error::new(ErrorKind::Config, message);
        }
        let message = "wrong Redis URL: expected redis://[user[:password]@]host[:port][/database]";
        Error::new(ErrorKind::Config, format!("{message} ({cause})"))
    })
}

/// Adds the settings that the client leaves out: without these, small commands wait for Nagle's timer, and a
/// peer that vanished is noticed after a quarter of an hour.
pub(crate) fn with_tcp_defaults(info: ConnectionInfo) -> ConnectionInfo {
    const IDLE: Duration = Duration::from_secs(5);
    const INTERVAL: Duration = Duration::from_secs(2);
    let given = info.tcp_settings();
    let mut settings: TcpSettings = given.clone().set_nodelay(true);
    if given.keepalive().is_none() {
        let keepalive = socket2::TcpKeepalive::new().with_time(IDLE);
        #[cfg(any(target_os = "linux", target_os = "android", target_os = "macos", target_os = "windows"))]
        let keepalive = keepalive.with_interval(INTERVAL);
        settings = settings.set_keepalive(keepalive);
    }
    #[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
    if given.user_timeout().is_none() {
        settings = settings.set_user_timeout(IDLE + 2 * INTERVAL);
    }
    info.set_tcp_settings(settings)
}

/// The pool for a backend that was given an address.
pub(crate) fn pool(info: ConnectionInfo, size: usize, connect_timeout: Duration) -> Result<Pool> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(connect_timeout))
        // Deadlines are kept per operation, see `Checkout::answer`.
        .set_response_timeout(None)
        // Commands wait for room while this many are being written.
        .set_pipeline_buffer_size(1024);
    let failed = |why: String| {
        Error::new(ErrorKind::Config, "building the connection pool")
            .with_source(Secrets::default().cause(why))
    };
    let manager =
        deadpool_redis::Manager::new_with_config(info, config).map_err(|e| failed(e.to_string()))?;
    Pool::builder(manager)
        .max_size(size)
        .wait_timeout(Some(connect_timeout))
        .create_timeout(Some(connect_timeout))
        .runtime(Runtime::Tokio1)
        .build()
        .map_err(|error| failed(error.to_string()))
}

/// The client that opens the subscriber: pushes need RESP3, whatever the caller's URL says.
pub(crate) fn subscriber(info: &ConnectionInfo) -> Result<Client> {
    let settings = info.redis_settings().clone().set_protocol(redis::ProtocolVersion::RESP3);
    Client::open(info.clone().set_redis_settings(settings)).map_err(|error| {
        Error::new(ErrorKind::Config, "preparing the subscriber").with_source(Secrets::default().cause(error))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_send_at_once_and_notice_a_peer_that_vanished() {
        let plain = parse("redis://127.0.0.1").unwrap();
        let settings = with_tcp_defaults(plain.clone()).tcp_settings().clone();
        assert!(settings.nodelay());
        assert!(settings.keepalive().is_some());
        #[cfg(target_os = "linux")]
        assert_eq!(settings.user_timeout(), Some(Duration::from_secs(9)));

        let given = TcpSettings::default().set_user_timeout(Duration::from_secs(70));
        let kept = with_tcp_defaults(plain.set_tcp_settings(given)).tcp_settings().clone();
        #[cfg(target_os = "linux")]
        assert_eq!(kept.user_timeout(), Some(Duration::from_secs(70)), "what was given stays");
        assert!(kept.nodelay());
    }
}
