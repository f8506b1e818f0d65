//! Identifies the server by its answer to HELLO, where INFO may not be asked.

use std::collections::HashMap;

use redis::{Value, from_redis_value};

use super::refusals::Refusal;
use super::server::{SENTINEL, UnknownServers};

/// The answer of a server to HELLO.
pub(super) struct Greeting {
    server: String,
    version: String,
    mode: String,
    role: String,
}

impl Greeting {
    pub(super) fn of(answer: Value) -> Self {
        let mut fields: HashMap<String, Value> = from_redis_value(answer).unwrap_or_default();
        let mut text = |name: &str| -> String {
            fields.remove(name).and_then(|value| from_redis_value(value).ok()).unwrap_or_default()
        };
        Self { server: text("server"), version: text("version"), mode: text("mode"), role: text("role") }
    }

    /// Whether the scripts of the server prove which process it is.
    pub(super) fn check(&self, unknown: UnknownServers) -> Result<(), Refusal> {
        let no = |why: String| Err(Refusal::Server(why));
        let name = self.server.to_ascii_lowercase();
        if name == "garnet"
            || (!["redis", "valkey", ""].contains(&&*name) && unknown == UnknownServers::Refuse)
        {
            return no(format!(
                "this is `{name}`, on which the cache has not been tested: use Redis 7, or Valkey"
            ));
        }
        match &*self.mode {
            "sentinel" => return no(SENTINEL.to_owned()),
            "cluster" => {
                return no("this is a node of a Redis Cluster, which `IdentifyBy::Scripts` is not for: connect with \
                           `RedisBackend::builder().cluster([..])` and `IdentifyBy::Info`, and permit `+info`"
                    .to_owned());
            }
            _ => {}
        }
        if self.role == "replica" || self.role == "slave" {
            return Err(Refusal::Replica);
        }
        let version = &self.version;
        match version.split('.').next().and_then(|major| major.parse::<u32>().ok()) {
            Some(major) if major < 7 => no(format!(
                "Redis {version} replicates scripts, so they do not identify a server: use `IdentifyBy::Info` and permit \
                 `+info`, or use Redis 7 or later, or Valkey"
            )),
            _ => Ok(()),
        }
    }
}
