//! Checks whether the connection to the server and back works without delay.
//!
//! On a busy machine a wake-up may be late because a process on its way did not run: the process that loaded,
//! the proxy, the server, or the process that waits. So each handle has a companion that sends requests on the
//! same way all the time, on a connection that the cache does not use.

use std::time::Duration;

use redis::{Client, RedisResult};
use tokio::time::{sleep, timeout};

use crate::ledger::{LOOK_EVERY, Ledger, STALL_NS, now};

/// An answer that takes longer counts as lost, and the connection is closed.
const LOST: Duration = Duration::from_millis(300);

/// The longest pause between two requests to one of several servers.
const AMONG_SEVERAL: Duration = Duration::from_millis(15);

/// Sends requests to one of several servers all the time, and notes slow answers.
pub(crate) async fn sing(url: String, servers: usize, ledger: &'static Ledger) {
    let client = Client::open(url).expect("the cache has been opened with it");
    let pause = (LOOK_EVERY * servers as u32).min(AMONG_SEVERAL);
    loop {
        let _ = ask(&client, pause, ledger).await;
        ledger.stalled();
        sleep(LOOK_EVERY).await;
    }
}

/// Sends requests until the connection is lost.
async fn ask(client: &Client, pause: Duration, ledger: &Ledger) -> RedisResult<()> {
    let lost = || std::io::Error::from(std::io::ErrorKind::TimedOut);
    let connecting = client.get_multiplexed_async_connection();
    let mut connection = timeout(LOST, connecting).await.map_err(|_| lost())??;
    loop {
        sleep(pause).await;
        let asked = now();
        timeout(LOST, redis::cmd("PING").exec_async(&mut connection)).await.map_err(|_| lost())??;
        if now() - asked > STALL_NS {
            ledger.stalled();
        }
    }
}
