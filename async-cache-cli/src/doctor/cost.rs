//! What a fleet of this many nodes costs the server.
//!
//! The figures are those of docs/operations.md, which `cargo run --release -p benchmarks -- --only growth` measures.

use serde_json::json;

use super::report::{Check, Status};
use super::server::Facts;

/// The time of Redis' thread for one invalidation, in microseconds: in any case, and for each node.
const INVALIDATION_US: (f64, f64) = (15.0, 3.7);
/// The time of Redis' thread for one heartbeat, in microseconds.
const HEARTBEAT_US: f64 = 40.0;
/// Heartbeats of a node in a second, if `max_staleness` is 1 s.
const HEARTBEATS: f64 = 4.0;
/// Connections of a node: two for commands, one for messages.
const CONNECTIONS: u64 = 3;

/// The cost of a fleet, if its size is known.
pub(super) fn cost(nodes: Option<u64>, facts: &Facts) -> Check {
    let Some(nodes) = nodes else {
        let text = "give --nodes N to estimate what a fleet of N nodes costs".to_owned();
        return Check::new("cost", Status::Skipped, text);
    };
    let invalidation_us = INVALIDATION_US.0 + INVALIDATION_US.1 * nodes as f64;
    // Half of the thread is left to lookups.
    let most = (500_000.0 / invalidation_us).floor();
    let heartbeats = 100.0 * HEARTBEAT_US * HEARTBEATS * nodes as f64 / 1e6;
    let connections = CONNECTIONS * nodes;
    let room = facts.get("maxclients").and_then(|most| most.parse::<u64>().ok());
    let mut text = format!(
        "{nodes} node(s): an invalidation takes about {:.2} ms of Redis' thread, so {most} a second take half of it; \
         heartbeats take {heartbeats:.1} %; {connections} connections",
        invalidation_us / 1000.0
    );
    if let Some(room) = room {
        text = format!("{text} of {room}");
    }
    let mut status = Status::Good;
    if room.is_some_and(|room| connections > room) {
        status = Status::Bad;
        text = format!("{text}: raise `maxclients`");
    } else if heartbeats > 25.0 {
        status = Status::Doubtful;
        text = format!("{text}: raise `max_staleness`");
    }
    let figures = json!({
        "nodes": nodes,
        "invalidation_us": invalidation_us.round(),
        "invalidations_per_s_at_half_load": most,
        "heartbeats_percent": heartbeats,
        "connections": connections,
        "maxclients": room,
    });
    Check::new("cost", status, format!("{text} (estimate)")).with(figures)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fleet_that_is_too_large_is_told() {
        let facts = |most: &str| Facts::from([("maxclients".to_owned(), most.to_owned())]);
        assert_eq!(cost(Some(10), &facts("10000")).status(), Status::Good);
        let check = cost(Some(1000), &facts("10000"));
        assert!(check.text().contains("134 a second"), "{check:?}");
        assert_eq!(cost(Some(2000), &facts("10000")).status(), Status::Doubtful);
        let check = cost(Some(1000), &facts("1000"));
        assert!(check.status() == Status::Bad && check.text().contains("maxclients"), "{check:?}");
        assert_eq!(cost(None, &facts("1")).status(), Status::Skipped);
    }
}
