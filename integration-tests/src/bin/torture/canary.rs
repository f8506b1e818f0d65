//! Whether the way to the server and back is as it should be.
//!
//! On a busy machine a wake-up is late because something on its way was not running: the process
//! that loaded, the proxy, the server, the process that waits. So every handle has a companion that
//! takes the same way all the time, on a connection that the cache has no part in.

use std::time::Duration;

use redis::{Client, RedisResult};
use tokio::time::{sleep, timeout};

use crate::ledger::{LOOK_EVERY, Ledger, STALL_NS, now};

/// An answer that takes longer is not waited for, and the connection is given up.
const LOST: Duration = Duration::from_millis(300);

/// Asks all the time, and notes when an answer was slow.
pub(crate) async fn sing(url: String, ledger: &'static Ledger) {
    let client = Client::open(url).expect("the cache has been opened with it");
    loop {
        let _ = ask(&client, ledger).await;
        ledger.stalled();
        sleep(LOOK_EVERY).await;
    }
}

/// Returns when the connection is lost.
async fn ask(client: &Client, ledger: &Ledger) -> RedisResult<()> {
    let lost = || std::io::Error::from(std::io::ErrorKind::TimedOut);
    let connecting = client.get_multiplexed_async_connection();
    let mut connection = timeout(LOST, connecting).await.map_err(|_| lost())??;
    loop {
        sleep(LOOK_EVERY).await;
        let asked = now();
        timeout(LOST, redis::cmd("PING").exec_async(&mut connection)).await.map_err(|_| lost())??;
        if now() - asked > STALL_NS {
            ledger.stalled();
        }
    }
}
