//! Which server it is, by its answers to INFO, and whether it can be used.

use serde::Deserialize;

use super::refusals::Refusal;
#[cfg(feature = "testing")]
use crate::faults::Mutant;

/// Why a Sentinel cannot be used as a server.
pub(super) const SENTINEL: &str = "this is a Sentinel, which holds no data: give its address and the name of its master to \
                                   `RedisBackend::builder().sentinel(name, [..])`, or in a configuration file \
                                   to `[sentinel]` (feature `sentinel`)";

/// Whether servers may be used on which the cache has not been tested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UnknownServers {
    Refuse,
    Allow,
}

/// How a node knows that the same server process answers it as before. Another one may have other data.
///
/// See [`RedisBackendBuilder::identify_server_by`](crate::RedisBackendBuilder::identify_server_by).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum IdentifyBy {
    /// By the run id in the answer to INFO, once for each connection. A plain read costs one GET.
    #[default]
    Info,
    /// By a token in the text of the scripts, with each command. It needs no right to INFO, and notices a server
    /// that a proxy has replaced while the connection lives. Each read is a script. Redis 7 or later, or Valkey.
    Scripts,
}

/// What a server must be part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deployment {
    /// It stands alone, or is the master of replicas.
    Single,
    /// It is a master of a Redis Cluster.
    #[cfg(feature = "cluster")]
    Cluster,
    /// It is any node of a Redis Cluster, which knows the others.
    #[cfg(feature = "cluster")]
    ClusterNode,
}

impl Deployment {
    fn needs_master(self) -> bool {
        match self {
            Self::Single => true,
            #[cfg(feature = "cluster")]
            Self::Cluster => true,
            #[cfg(feature = "cluster")]
            Self::ClusterNode => false,
        }
    }

    /// Whether it is a node of a cluster.
    pub(crate) fn is_cluster(self) -> bool {
        self != Self::Single
    }

    /// Whether the scripts may identify the server, so that INFO is not needed.
    pub(super) fn allows_scripts(self) -> bool {
        !self.is_cluster()
    }
}

/// Which servers may be used.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Accepted {
    pub(crate) unknown: UnknownServers,
    pub(crate) deployment: Deployment,
    pub(crate) identify: IdentifyBy,
}

/// The answers of a server to INFO, by section.
pub(super) struct Info<'a> {
    pub(super) server: &'a str,
    pub(super) replication: &'a str,
    pub(super) cluster: &'a str,
}

impl Info<'_> {
    /// The run id of a server that can be used.
    pub(super) fn check(&self, accepted: Accepted) -> Result<String, Refusal> {
        self.check_kind(accepted)?;
        #[cfg(feature = "testing")]
        if Mutant::RunsAlike.is_planted() {
            return Ok("alike".to_owned());
        }
        match self.server("run_id").filter(|run| !run.is_empty()) {
            Some(run) => Ok(run.to_owned()),
            None => {
                let what = "the server does not tell its run id in INFO: a proxy in between?";
                Err(Refusal::Server(match accepted.deployment.allows_scripts() {
                    true => format!("{what} Set `IdentifyBy::Scripts`"),
                    false => format!("{what} Connect to the nodes of the cluster without it"),
                }))
            }
        }
    }

    /// Whether such a server can be used. Valkey has names of its own for some fields.
    pub(super) fn check_kind(&self, accepted: Accepted) -> Result<(), Refusal> {
        let no = |why: &str| Err(Refusal::Server(why.to_owned()));
        let mode = self.server("redis_mode").or_else(|| self.server("server_mode")).unwrap_or_default();
        if mode == "sentinel" {
            return no(SENTINEL);
        }
        if let Some(name) = self.other_name() {
            if name == "Garnet" {
                return no(
                    "Garnet runs scripts in another way than Redis does, and old values could be served: use \
                     Redis 6.0 or later, or Valkey",
                );
            }
            if accepted.unknown == UnknownServers::Refuse {
                let risk = match self.server("run_id") {
                    Some(_) => "; or set `allow_unknown_server` at your own risk",
                    None => "",
                };
                return Err(Refusal::Server(format!(
                    "this is {name}, on which the cache has not been tested, and old values might be served: use Redis \
                     6.0 or later, or Valkey{risk}"
                )));
            }
        }
        let version = self.server("redis_version").unwrap_or_default();
        if major_version(self.server).is_none_or(|major| major < 6) {
            return Err(Refusal::Server(format!("Redis {version} is too old: use 6.0 or later")));
        }
        let in_cluster = mode == "cluster" || field(self.cluster, "cluster_enabled") == Some("1");
        match accepted.deployment {
            Deployment::Single if in_cluster => {
                return no(
                    "this is a node of a Redis Cluster: connect with `RedisBackend::builder().cluster([..])` \
                           (feature `cluster` of async-cache-rs)",
                );
            }
            #[cfg(feature = "cluster")]
            Deployment::Cluster | Deployment::ClusterNode if !in_cluster => {
                return no("this is not a node of a Redis Cluster: connect with `url` instead of `cluster`");
            }
            _ => {}
        }
        let is_replica = matches!(field(self.replication, "role"), Some("slave" | "replica"));
        if is_replica && accepted.deployment.needs_master() {
            return Err(Refusal::Replica);
        }
        Ok(())
    }

    /// The name of a server that is neither Redis nor Valkey. Most call a field by their name; KeyDB shows only in the
    /// name of its program.
    fn other_name(&self) -> Option<String> {
        const OURS: [&str; 3] = ["redis_version", "valkey_version", "gcc_version"];
        let named = self.server("server_name").filter(|name| !name.eq_ignore_ascii_case("valkey"));
        let by_version = || {
            let fields = self.server.lines().filter_map(|line| line.split_once(':'));
            let mut versions = fields.map(|(name, _)| name).filter(|name| !OURS.contains(name));
            versions.find_map(|name| name.strip_suffix("_version"))
        };
        let by_program = || {
            let program = self.server("executable")?.rsplit('/').next()?;
            ["keydb", "dragonfly"].into_iter().find(|name| program.contains(name))
        };
        named.or_else(by_version).or_else(by_program).map(|name| match name.to_ascii_lowercase().as_str() {
            "garnet" => "Garnet".to_owned(),
            "keydb" => "KeyDB".to_owned(),
            "dragonfly" => "Dragonfly".to_owned(),
            other => format!("`{}`", other.chars().filter(|c| !c.is_control()).take(40).collect::<String>()),
        })
    }

    fn server(&self, name: &str) -> Option<&str> {
        field(self.server, name)
    }
}

/// The first number of the version, in the answer to `INFO server`.
pub(super) fn major_version(server: &str) -> Option<u32> {
    field(server, "redis_version")?.split('.').next()?.parse().ok()
}

fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.trim_end().strip_prefix(name)?.strip_prefix(':'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER: &str = "# Server\r\nredis_version:7.0.15\r\nredis_mode:standalone\r\ngcc_version:12.2.0\r\nrun_id:abc\r\n\
                          executable:/usr/bin/redis-server\r\n";
    const VALKEY: &str = "redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:9.1.2\r\n\
                          server_mode:standalone\r\nrun_id:abc\r\n";
    const ALONE: &str = "# Cluster\r\ncluster_enabled:0\r\n";

    fn of(unknown: UnknownServers) -> Accepted {
        Accepted { unknown, deployment: Deployment::Single, identify: IdentifyBy::Info }
    }

    fn checked(server: &str, cluster: &str, unknown: UnknownServers) -> String {
        match (Info { server, replication: "role:master\r\n", cluster }).check(of(unknown)) {
            Ok(run) => run,
            Err(Refusal::Server(why)) => why,
            Err(_) => String::new(),
        }
    }

    #[test]
    fn unusable_servers_are_named() {
        let why = |server: &str, cluster: &str| checked(server, cluster, UnknownServers::Refuse);
        assert_eq!(why(SERVER, ALONE), "abc");
        assert_eq!(why(VALKEY, ALONE), "abc");
        for role in ["slave", "replica"] {
            let info = Info { server: SERVER, replication: &format!("role:{role}\r\n"), cluster: ALONE };
            assert!(matches!(info.check(of(UnknownServers::Allow)), Err(Refusal::Replica)));
        }
        assert!(why(&SERVER.replace("7.0.15", "5.0.1"), ALONE).contains("too old"));
        assert!(why(&SERVER.replace("standalone", "cluster"), "").contains("Cluster"));
        assert!(why(&VALKEY.replace("standalone", "cluster"), "").contains("Cluster"));
        assert!(why(VALKEY, "cluster_enabled:1\r\n").contains("Cluster"));
        assert!(why(&SERVER.replace("standalone", "sentinel"), "").contains("Sentinel"));
        assert!(why(&SERVER.replace("run_id:abc", ""), ALONE).contains("run id"));
    }

    #[cfg(feature = "cluster")]
    #[test]
    fn a_cluster_is_asked_for_by_its_name() {
        let accepted = Accepted {
            unknown: UnknownServers::Refuse,
            deployment: Deployment::Cluster,
            identify: IdentifyBy::Info,
        };
        let why =
            |server: &str, cluster: &str| match (Info { server, replication: "role:master\r\n", cluster })
                .check(accepted)
            {
                Err(Refusal::Server(why)) => why,
                outcome => outcome.unwrap_or_default(),
            };
        const MEMBER: &str = "cluster_enabled:1\r\n";
        assert_eq!(why(SERVER, MEMBER), "abc");
        assert!(why(SERVER, ALONE).contains("`url`"));
        assert_eq!(why(&SERVER.replace("7.0.15", "6.2.14"), MEMBER), "abc");
    }

    #[test]
    fn servers_on_which_nothing_was_tested_are_used_on_demand_alone() {
        let with = |line: &str| format!("{SERVER}{line}\r\n");
        for (server, name) in [
            (SERVER.replace("redis-server", "keydb-server"), "KeyDB"),
            (with("dragonfly_version:df-v1.40.1"), "Dragonfly"),
            (with("kvrocks_version:2.5"), "`kvrocks`"),
            (with("server_name:pelikan"), "`pelikan`"),
        ] {
            let why = checked(&server, ALONE, UnknownServers::Refuse);
            assert!(why.contains(name) && why.contains("allow_unknown_server"), "{name}: {why}");
            assert_eq!(checked(&server, ALONE, UnknownServers::Allow), "abc", "{name}");
        }
        for server in [with("garnet_version:1.0"), VALKEY.replace("valkey\r", "garnet\r")] {
            let why = checked(&server, ALONE, UnknownServers::Allow);
            assert!(why.contains("Garnet"), "it is known to be unsafe: {why}");
        }
    }
}
