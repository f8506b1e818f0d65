//! Examinations of the server.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_cache::Result;
use async_cache::tools::Examiner;
use serde_json::json;

use super::report::{Check, Status};
use crate::output::span;

/// The fields of INFO.
pub(super) type Facts = BTreeMap<String, String>;

/// How often the latency is measured.
pub(super) const PINGS: usize = 20;
/// A median above this is slow for a cache.
const SLOW: Duration = Duration::from_millis(5);
/// A difference between the clocks above this may be a fault.
const APART: Duration = Duration::from_secs(10);

/// Whether others can read the traffic.
pub(super) fn encryption(examiner: &Examiner) -> Check {
    match (examiner.is_encrypted(), examiner.is_on_this_machine()) {
        (true, _) => Check::new("tls", Status::Good, "encrypted, and the certificate is valid".to_owned()),
        (false, true) => Check::new("tls", Status::Good, "not encrypted, on this machine".to_owned()),
        (false, false) => Check::new(
            "tls",
            Status::Doubtful,
            "not encrypted: password and values can be read in the network; use `rediss://`".to_owned(),
        ),
    }
}

/// Which server it is.
pub(super) fn version(facts: &Facts) -> Check {
    let (program, version) = match facts.get("valkey_version") {
        Some(version) => ("Valkey", Some(version)),
        None => ("Redis", facts.get("redis_version")),
    };
    match version {
        Some(version) => Check::new("version", Status::Good, format!("{program} {version}"))
            .with(json!({ "program": program, "version": version })),
        None => Check::new("version", Status::Doubtful, "the server does not tell its version".to_owned()),
    }
}

/// Whether it is one server, and the master; or a node of a cluster, as the settings say.
pub(super) fn topology(facts: &Facts, in_cluster: bool) -> Check {
    let get = |name: &str| facts.get(name).map_or("", String::as_str);
    let mode = if get("redis_mode").is_empty() { get("server_mode") } else { get("redis_mode") };
    let replicas: u64 = get("connected_slaves").parse().unwrap_or(0);
    let figures = json!({ "mode": mode, "role": get("role"), "replicas": replicas });
    let is_in_cluster = mode == "cluster" || get("cluster_enabled") == "1";
    let (status, text) = if is_in_cluster && in_cluster {
        (Status::Good, format!("a node of a Redis Cluster ({})", get("role")))
    } else if in_cluster {
        (Status::Bad, "no node of a Redis Cluster: leave out --cluster".to_owned())
    } else if is_in_cluster {
        (Status::Bad, "a node of a Redis Cluster: add --cluster, and build nodes with `cluster`".to_owned())
    } else if mode == "sentinel" {
        (
            Status::Bad,
            "a Sentinel, which holds no data: name it in `[sentinel]` of a configuration file (`--config`)"
                .to_owned(),
        )
    } else if matches!(get("role"), "slave" | "replica") {
        (Status::Bad, "a replica: connect to its master".to_owned())
    } else if get("role").is_empty() {
        (Status::Doubtful, "the server does not tell its role".to_owned())
    } else {
        (Status::Good, format!("one master with {replicas} replica(s)"))
    };
    Check::new("topology", status, text).with(figures)
}

/// Whether the clocks agree.
pub(super) async fn clock(examiner: &Examiner) -> Result<Check> {
    let micros = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_micros());
    let before = micros();
    let server = examiner.time_us().await?;
    let after = micros();
    let here = i128::try_from((before + after) / 2).unwrap_or(i128::MAX);
    let ahead = i64::try_from(i128::from(server) - here).unwrap_or(i64::MAX);
    Ok(clocks_apart(ahead))
}

/// What a difference of clocks means. `ahead_us`: how far the server's is ahead, in microseconds.
fn clocks_apart(ahead_us: i64) -> Check {
    let apart = Duration::from_micros(ahead_us.unsigned_abs());
    let side = if ahead_us < 0 { "behind" } else { "ahead of" };
    let text = format!("the server's clock is {} {side} this machine's", span(apart));
    let check = if apart > APART {
        let why = "nodes do not compare the two, but after a failover to a server whose clock is behind, stamps may be \
                   void: keep the servers' clocks in step";
        Check::new("clock", Status::Doubtful, format!("{text}; {why}"))
    } else {
        Check::new("clock", Status::Good, text)
    };
    check.with(json!({ "server_ahead_us": ahead_us }))
}

/// How long an answer takes.
pub(super) fn latency(mut times: Vec<Duration>, limit: Duration) -> Check {
    times.sort_unstable();
    let (median, longest) = (times[times.len() / 2], times[times.len() - 1]);
    let text = format!("median {}, longest {} of {}", span(median), span(longest), times.len());
    let figures =
        json!({ "median_us": median.as_micros(), "longest_us": longest.as_micros(), "samples": times.len() });
    let check = if median > SLOW {
        let why =
            format!("each lookup that L1 does not answer takes as long; the deadline is {}", span(limit));
        Check::new("latency", Status::Doubtful, format!("{text}: {why}"))
    } else {
        Check::new("latency", Status::Good, text)
    };
    check.with(figures)
}

/// What happens when memory is full.
pub(super) fn memory(facts: &Facts) -> Check {
    let number = |name: &str| facts.get(name).and_then(|value| value.parse::<u64>().ok());
    let (Some(policy), Some(limit)) = (facts.get("maxmemory_policy"), number("maxmemory")) else {
        let text = "the server does not tell its eviction policy".to_owned();
        return Check::new("eviction", Status::Doubtful, text);
    };
    let used = number("used_memory").unwrap_or(0);
    let figures = json!({ "policy": policy, "maxmemory_bytes": limit, "used_bytes": used });
    let mib = |bytes: u64| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
    let (status, text) = match (limit, &**policy) {
        (0, _) => (
            Status::Doubtful,
            format!(
                "no maxmemory ({} used): Redis takes memory until the machine has none; set `maxmemory` and \
                 `maxmemory-policy allkeys-lru`",
                mib(used)
            ),
        ),
        (limit, "noeviction") => (
            Status::Doubtful,
            format!(
                "noeviction, {} of {} used: when it is full, nothing is stored any more; set `maxmemory-policy \
                 allkeys-lru`",
                mib(used),
                mib(limit)
            ),
        ),
        (limit, policy) => (Status::Good, format!("{policy}, {} of {} used", mib(used), mib(limit))),
    };
    Check::new("eviction", status, text).with(figures)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(pairs: &[(&str, &str)]) -> Facts {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn what_nodes_refuse_is_a_problem() {
        for (pairs, word) in [
            (&[("redis_mode", "cluster")][..], "cluster"),
            (&[("server_mode", "standalone"), ("cluster_enabled", "1")], "cluster"),
            (&[("redis_mode", "sentinel")], "Sentinel"),
            (&[("redis_mode", "standalone"), ("role", "slave")], "replica"),
        ] {
            let check = topology(&facts(pairs), false);
            assert!(check.status() == Status::Bad && check.text().contains(word), "{check:?}");
        }
        assert_eq!(topology(&facts(&[("role", "master")]), false).status(), Status::Good);
        assert_eq!(topology(&facts(&[("redis_mode", "cluster")]), true).status(), Status::Good);
        assert_eq!(topology(&facts(&[("role", "master")]), true).status(), Status::Bad);
    }

    #[test]
    fn memory_that_can_fill_up_is_doubtful() {
        let of = |policy, limit| {
            memory(&facts(&[("maxmemory_policy", policy), ("maxmemory", limit), ("used_memory", "1048576")]))
        };
        assert_eq!(of("allkeys-lru", "4194304").text(), "allkeys-lru, 1.0 MiB of 4.0 MiB used");
        for check in [of("noeviction", "4194304"), of("allkeys-lru", "0"), memory(&facts(&[]))] {
            assert_eq!(check.status(), Status::Doubtful, "{check:?}");
        }
    }

    #[test]
    fn clocks_and_answers_that_are_far_off_are_doubtful() {
        assert_eq!(clocks_apart(-400).status(), Status::Good);
        let check = clocks_apart(-60_000_000);
        assert!(check.status() == Status::Doubtful && check.text().contains("behind"), "{check:?}");
        let limit = Duration::from_secs(1);
        assert_eq!(latency(vec![Duration::from_micros(90)], limit).status(), Status::Good);
        assert_eq!(latency(vec![Duration::from_millis(40)], limit).status(), Status::Doubtful);
    }
}
