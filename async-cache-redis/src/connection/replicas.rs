//! The replicas of a master: where messages may be received, too.
//!
//! What a script on the master publishes reaches the subscribers of its replicas, in order, and behind nothing that was
//! published later. A replica may lag, and one that starts anew with a copy of the master's memory leaves messages out. A
//! node finds out in both cases as it does on the master: L1 answers only while the echoes of its heartbeats return in
//! time, with the number up to which the node has applied every change.

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use redis::{AsyncConnectionConfig, RedisConnectionInfo, cmd};
use serde::Deserialize;
use tokio::time::timeout;

use super::host::Host;

/// A replica on which the subscription has been lost so shortly after it was chosen is passed over.
const AVOIDED: Duration = Duration::from_secs(10);
/// Most replicas that are asked for one connection, and most that are remembered.
const MAX_ASKED: usize = 8;
/// A replica that has not reported to its master for longer, in seconds, is passed over.
const MAX_LAG: u64 = 1;

/// Where a node receives the messages about changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum SubscribeOn {
    /// On the master.
    #[default]
    Master,
    /// On one of its replicas, or on the master if none can be used.
    Replicas,
}

/// The choice of a replica.
#[derive(Default)]
pub(crate) struct Replicas {
    chosen: Mutex<Vec<(Follower, Instant)>>,
}

/// The address of a replica, as its master tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Follower {
    host: String,
    port: u16,
}

impl Replicas {
    /// A replica that follows this master now. `None` if there is none in time.
    pub(super) async fn find(&self, master: &Host, settings: &RedisConnectionInfo) -> Option<Host> {
        timeout(master.limit / 2, self.first(master, settings)).await.ok()?
    }

    async fn first(&self, master: &Host, settings: &RedisConnectionInfo) -> Option<Host> {
        let mut followers = followers(&replication(master, settings).await?);
        fastrand::shuffle(&mut followers);
        for follower in followers.into_iter().take(MAX_ASKED) {
            if self.was_chosen(&follower) {
                continue;
            }
            let Ok(replica) = master.at(&follower.host, follower.port) else { continue };
            let told = timeout(master.limit / 8, replication(&replica, settings)).await;
            if told.is_ok_and(|told| told.is_some_and(|info| follows(&info))) {
                self.choose(follower);
                return Some(replica);
            }
        }
        None
    }

    /// Whether it was chosen a short time ago. Then the connection to it was of no use.
    fn was_chosen(&self, follower: &Follower) -> bool {
        let mut chosen = self.chosen.lock();
        chosen.retain(|(_, at)| at.elapsed() < AVOIDED);
        chosen.iter().any(|(known, _)| known == follower)
    }

    fn choose(&self, follower: Follower) {
        let mut chosen = self.chosen.lock();
        if chosen.len() == MAX_ASKED {
            chosen.remove(0);
        }
        chosen.push((follower, Instant::now()));
    }
}

/// What a server tells of its replication. `None` if it tells nothing.
async fn replication(host: &Host, settings: &RedisConnectionInfo) -> Option<String> {
    let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
    let mut opened = host.open(settings.clone(), config).await.ok()?;
    cmd("INFO").arg("replication").query_async(&mut opened.connection).await.ok()
}

/// The replicas that a master has, and that keep up with it.
fn followers(info: &str) -> Vec<Follower> {
    let rows = info.lines().filter(|line| line.starts_with("slave") || line.starts_with("replica"));
    rows.filter_map(|row| follower(row.trim_end().split_once(':')?.1)).collect()
}

/// `ip=10.0.0.7,port=6379,state=online,offset=42,lag=0`.
fn follower(row: &str) -> Option<Follower> {
    let field = |name: &str| row.split(',').find_map(|part| part.strip_prefix(name)?.strip_prefix('='));
    let lag: u64 = field("lag")?.parse().ok()?;
    if field("state") != Some("online") || lag > MAX_LAG {
        return None;
    }
    Some(Follower { host: field("ip")?.to_owned(), port: field("port")?.parse().ok()? })
}

/// Whether a server is a replica whose connection to its master is up.
fn follows(info: &str) -> bool {
    let has = |line: &str| info.lines().any(|known| known.trim_end() == line);
    (has("role:slave") || has("role:replica")) && has("master_link_status:up")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replicas_that_do_not_keep_up_are_passed_over() {
        let info = "role:master\r\nconnected_slaves:4\r\n\
                    slave0:ip=10.0.0.1,port=6379,state=online,offset=42,lag=0\r\n\
                    slave1:ip=10.0.0.2,port=6379,state=wait_bgsave,offset=0,lag=0\r\n\
                    slave2:ip=10.0.0.3,port=6379,state=online,offset=40,lag=9\r\n\
                    slave3:ip=r4.internal,port=7000,state=online,offset=42,lag=1\r\n";
        let at = |host: &str, port| Follower { host: host.to_owned(), port };
        assert_eq!(followers(info), [at("10.0.0.1", 6379), at("r4.internal", 7000)]);
        assert!(follows("role:slave\r\nmaster_link_status:up\r\n"));
        assert!(!follows("role:slave\r\nmaster_link_status:down\r\n"));
        assert!(!follows(info));
    }

    #[test]
    fn a_replica_that_was_of_no_use_is_not_chosen_again_at_once() {
        let replicas = Replicas::default();
        let at = |port| Follower { host: "h".to_owned(), port };
        assert!(!replicas.was_chosen(&at(1)));
        for port in 1..=20 {
            replicas.choose(at(port));
        }
        assert!(replicas.was_chosen(&at(20)) && !replicas.was_chosen(&at(21)));
        assert_eq!(replicas.chosen.lock().len(), MAX_ASKED);
    }
}
