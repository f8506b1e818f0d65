//! Sentinels that watch servers of a test.

use std::time::{Duration, Instant};

use crate::server::RedisServer;

/// The name of the master.
pub const MASTER: &str = "mymaster";
/// The maximum time in which Sentinels learn of the servers and of one another, or make a failover.
const PATIENCE: Duration = Duration::from_secs(60);

/// A master, its replica, and three Sentinels that watch them.
#[derive(Debug)]
pub struct Sentinels {
    /// The servers. The first is the master at the start.
    pub servers: [RedisServer; 2],
    /// The Sentinels.
    pub members: Vec<RedisServer>,
}

impl Sentinels {
    /// Starts everything, and waits until each Sentinel knows all the others.
    ///
    /// # Panics
    ///
    /// If something does not start.
    #[must_use]
    pub fn start() -> Self {
        let servers = [RedisServer::start(), RedisServer::start()];
        for server in &servers {
            server.cli::<()>(&["CONFIG", "SET", "repl-diskless-sync-delay", "0"]);
        }
        servers[1].cli::<()>(&["REPLICAOF", "127.0.0.1", &servers[0].port().to_string()]);
        let lines = watching(servers[0].port(), 2);
        let members = (0..3).map(|_| RedisServer::sentinel(&lines)).collect();
        let started = Self { servers, members };
        for member in &started.members {
            wait("the Sentinels know the servers and one another", || {
                let knows = |field: &str, count: usize| {
                    about(member, field).and_then(|text| text.parse().ok()) == Some(count)
                };
                knows("num-slaves", 1) && knows("num-other-sentinels", 2)
            });
        }
        started
    }

    /// The URLs of the Sentinels.
    #[must_use]
    pub fn urls(&self) -> Vec<String> {
        self.members.iter().map(RedisServer::url).collect()
    }

    /// Waits until every Sentinel names this server, and the server is a master.
    ///
    /// # Panics
    ///
    /// If that takes too long.
    pub fn wait_for_master(&self, server: &RedisServer) {
        let port = server.port().to_string();
        wait("the failover", || {
            server.role() == "master"
                && self.members.iter().all(|member| about(member, "port").as_ref() == Some(&port))
        });
    }
}

/// The lines of a Sentinel's configuration: the master, and how soon a failover begins.
#[must_use]
pub fn watching(port: u16, quorum: usize) -> String {
    format!(
        "sentinel monitor {MASTER} 127.0.0.1 {port} {quorum}\nsentinel down-after-milliseconds {MASTER} 1000\n\
         sentinel failover-timeout {MASTER} 5000\n"
    )
}

/// A field of what a Sentinel tells about the master.
fn about(member: &RedisServer, field: &str) -> Option<String> {
    let fields: Vec<String> = member.cli(&["SENTINEL", "MASTER", MASTER]);
    fields.chunks_exact(2).find(|pair| pair[0] == field).map(|pair| pair[1].clone())
}

fn wait(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
