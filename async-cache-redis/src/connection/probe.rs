//! Questions to an address on which no connection could be made: what is there?

use std::time::Duration;

use redis::ConnectionAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long a question may take.
const LIMIT: Duration = Duration::from_millis(300);

/// Whether a TCP connection to the address is accepted; of a Unix socket this is not known.
pub(super) async fn accepts_connections(addr: &ConnectionAddr) -> bool {
    timeout(LIMIT, dial(addr)).await.is_ok_and(|made| made.is_some())
}

/// Whether Redis answers without TLS.
#[cfg(feature = "tls")]
pub(super) async fn speaks_plain_redis(addr: &ConnectionAddr) -> bool {
    // A pong, or the error of a server that asks for a password first.
    matches!(first_byte(addr, b"PING\r\n").await, Some(b'+' | b'-'))
}

/// Whether TLS is spoken.
pub(super) async fn speaks_tls(addr: &ConnectionAddr) -> bool {
    /// The record of a ClientHello that is empty. It is answered with an alert.
    const EMPTY_HELLO: [u8; 9] = [22, 3, 1, 0, 4, 1, 0, 0, 0];
    const ALERT: u8 = 21;
    first_byte(addr, &EMPTY_HELLO).await == Some(ALERT)
}

async fn first_byte(addr: &ConnectionAddr, question: &[u8]) -> Option<u8> {
    let asked = async {
        let mut stream = dial(addr).await?;
        stream.write_all(question).await.ok()?;
        stream.read_u8().await.ok()
    };
    timeout(LIMIT, asked).await.ok().flatten()
}

async fn dial(addr: &ConnectionAddr) -> Option<TcpStream> {
    let (ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. }) = addr else {
        return None;
    };
    TcpStream::connect((host.as_str(), *port)).await.ok()
}
