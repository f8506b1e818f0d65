//! The settings of connections: from a URL, and those that the client leaves out.

use std::fmt;
use std::time::Duration;

use async_cache_core::{Error, ErrorKind, Result};
use redis::io::tcp::{TcpSettings, socket2};
use redis::{ConnectionAddr, ConnectionInfo};

use super::cause::Secrets;

/// Where a server is, and whether it is spoken to by TLS.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) info: ConnectionInfo,
    pub(crate) encryption: Encryption,
}

/// Whether the address asks for TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encryption {
    None,
    Tls,
}

/// If such a character is not encoded, it ends the password, and the rest is read as another part of the URL.
const ENCODE: &str =
    "in a user name or password, percent-encode characters such as `/ ? # @ : %` (`%2F %3F %23 %40 %3A %25`)";

/// An error of the settings.
pub(crate) fn wrong(what: impl fmt::Display) -> Error {
    Error::new(ErrorKind::Config, format!("building a RedisBackend: {what}"))
}

/// Reads a URL.
pub(crate) fn parse(url: &str) -> Result<Server> {
    // The client knows the schemes for TLS only if it brings TLS itself.
    let rest = url.strip_prefix("rediss://").or_else(|| url.strip_prefix("valkeys://"));
    let (plain, encryption) = match rest {
        Some(rest) => (format!("redis://{rest}"), Encryption::Tls),
        None => (url.to_owned(), Encryption::None),
    };
    if encryption == Encryption::Tls && url.contains('#') {
        let message = format!(
            "wrong Redis URL: nothing may follow a `#`. TLS without checking certificates is not supported: give the \
             certificate of the server's authority (`Tls::ca`, `ca_file`, `--ca-file`); {ENCODE}"
        );
        return Err(Error::new(ErrorKind::Config, message));
    }
    let info = plain.parse::<ConnectionInfo>().map_err(|error| {
        // The client's errors about URLs quote nothing of them.
        let cause = Secrets::default().cause(error);
        let message = "wrong Redis URL: expected redis://[user[:password]@]host[:port][/database], \
                       rediss:// for TLS, or unix:///path";
        Error::new(ErrorKind::Config, format!("{message}; {ENCODE} ({cause})"))
    })?;
    Ok(Server { info, encryption })
}

/// Whether two URLs differ in their addresses alone.
pub(in crate::connection) fn agree(one: &Server, other: &Server) -> bool {
    let [a, b] = [one, other].map(|server| server.info.redis_settings());
    one.encryption == other.encryption
        && a.db() == b.db()
        && a.username() == b.username()
        && a.password() == b.password()
}

/// Reads an address of the client's type.
pub(crate) fn given(info: ConnectionInfo) -> Result<Server> {
    match info.addr().clone() {
        ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None } => {
            let info = info.set_addr(ConnectionAddr::Tcp(host, port));
            Ok(Server { info, encryption: Encryption::Tls })
        }
        ConnectionAddr::TcpTls { .. } => Err(Error::new(
            ErrorKind::Config,
            "the connection info has TLS settings of its own: give them to `RedisBackendBuilder::tls`",
        )),
        _ => Ok(Server { info, encryption: Encryption::None }),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_send_at_once_and_notice_a_peer_that_vanished() {
        let plain = parse("redis://127.0.0.1").unwrap().info;
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

    #[test]
    fn schemes_say_whether_tls_is_spoken() {
        for (url, encryption) in [
            ("redis://h:1", Encryption::None),
            ("valkey://h:1", Encryption::None),
            ("unix:///tmp/s", Encryption::None),
            ("rediss://h:1", Encryption::Tls),
            ("valkeys://h:1", Encryption::Tls),
        ] {
            assert_eq!(parse(url).unwrap().encryption, encryption, "{url}");
        }
        let error = parse("rediss://:hunter2@h:1#insecure").err().unwrap();
        assert!(
            error.to_string().contains("Tls::ca") && !format!("{error:?}").contains("hunter2"),
            "{error}"
        );
    }
}
