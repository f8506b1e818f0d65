//! Whether there is a Tokio runtime for connections.

use std::net::{Ipv4Addr, UdpSocket};
use std::panic::catch_unwind;

use async_cache_core::backend::check_runtime;
use async_cache_core::{Error, ErrorKind, Result};

const DOING: &str = "connecting to Redis";

/// Checks that the caller is inside a Tokio runtime that has timers and I/O.
pub(crate) fn check() -> Result<()> {
    check_runtime(DOING)?;
    // Any socket would do. This one needs no peer, and sends nothing.
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|socket| {
        socket.set_nonblocking(true)?;
        Ok(socket)
    });
    let Ok(socket) = socket else { return Ok(()) };
    // Without I/O Tokio panics. That is its only way to tell.
    match catch_unwind(|| drop(tokio::net::UdpSocket::from_std(socket))) {
        Ok(()) => Ok(()),
        Err(_) => {
            let what = "the Tokio runtime has no I/O: build it with `enable_all`";
            Err(Error::new(ErrorKind::Config, format!("{DOING}: {what}")))
        }
    }
}
