//! The slots of a cluster, and the servers that have them.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use redis::Value;

use crate::inner::Inner;

/// The number of slots of a cluster.
const SLOTS: u16 = 16_384;

/// Where a node of the cluster is, in the cluster's own words.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Address {
    pub(super) host: String,
    pub(super) port: u16,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// Slots that one master has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) first: u16,
    last: u16,
    pub(super) master: Address,
}

/// Which server has which slots.
#[derive(Default)]
pub(super) struct Map {
    /// Sorted.
    owners: Vec<(Range, Arc<Inner>)>,
    pub(super) servers: HashMap<Address, Arc<Inner>>,
}

impl Map {
    /// The ranges are sorted. One without a server is left out.
    pub(super) fn new(ranges: Vec<Range>, servers: HashMap<Address, Arc<Inner>>) -> Self {
        let owned = ranges.into_iter().filter_map(|range| {
            let server = Arc::clone(servers.get(&range.master)?);
            Some((range, server))
        });
        Self { owners: owned.collect(), servers }
    }

    pub(super) fn ranges(&self) -> impl Iterator<Item = &Range> {
        self.owners.iter().map(|(range, _)| range)
    }

    /// The server that has a slot.
    pub(super) fn server_of(&self, slot: u16) -> Option<&Arc<Inner>> {
        let after = self.owners.partition_point(|(range, _)| range.first <= slot);
        let (range, server) = &self.owners[after.checked_sub(1)?];
        (slot <= range.last).then_some(server)
    }

    /// Whether some server cannot be reached.
    pub(super) fn has_outage(&self) -> bool {
        self.owners.is_empty() || self.servers.values().any(|server| !server.slots.available())
    }
}

/// Whether these ranges, which are sorted, have all slots. While a replica takes the place of its master, a node may have
/// forgotten the old owner of the slots without knowing the new one.
pub(super) fn is_whole<'a>(ranges: impl Iterator<Item = &'a Range>) -> bool {
    let mut next = 0;
    for range in ranges {
        if range.first != next {
            return false;
        }
        next = range.last.saturating_add(1);
    }
    next == SLOTS
}

/// The masters in the answer to `CLUSTER SLOTS` of a node: host and port of each, in the order of the slots. `None` if it
/// is no such answer.
#[cfg(feature = "tools")]
pub(crate) fn masters(answer: Value, host: &str, port: u16) -> Option<Vec<(String, u16)>> {
    let mut ranges = parse(answer, &Address { host: host.to_owned(), port })?;
    ranges.sort_by_key(|range| range.first);
    let mut masters = Vec::new();
    for Address { host, port } in ranges.into_iter().map(|range| range.master) {
        let master = (host, port);
        if !masters.contains(&master) {
            masters.push(master);
        }
    }
    Some(masters)
}

/// Reads the answer to `CLUSTER SLOTS` of the node at `asked`. `None` if it is no such answer.
pub(super) fn parse(answer: Value, asked: &Address) -> Option<Vec<Range>> {
    let Value::Array(rows) = answer else { return None };
    rows.into_iter().map(|row| range(row, asked)).collect()
}

fn range(row: Value, asked: &Address) -> Option<Range> {
    let Value::Array(parts) = row else { return None };
    let mut parts = parts.into_iter();
    let (first, last, master) = (number(&parts.next()?)?, number(&parts.next()?)?, parts.next()?);
    let Value::Array(master) = master else { return None };
    let port = number(master.get(1)?)?;
    let host = match text(master.first()?) {
        // The node does not know its own address, or does not tell it. It is at the address at which it was
        // asked.
        None => asked.host.clone(),
        Some(host) if host.is_empty() => asked.host.clone(),
        // A node without a name, in a cluster that prefers names.
        Some(host) if host == "?" => ip(master.get(3)?)?,
        Some(host) => host,
    };
    Some(Range { first, last, master: Address { host, port } })
}

/// The IP address among the further words about a node.
fn ip(words: &Value) -> Option<String> {
    let is_ip = |name: &Value| text(name).as_deref() == Some("ip");
    match words {
        Value::Array(words) => text(&words.chunks_exact(2).find(|pair| is_ip(&pair[0]))?[1]),
        Value::Map(pairs) => text(&pairs.iter().find(|(name, _)| is_ip(name))?.1),
        _ => None,
    }
}

fn number(value: &Value) -> Option<u16> {
    match value {
        Value::Int(number) => u16::try_from(*number).ok(),
        _ => None,
    }
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes.clone()).ok(),
        Value::SimpleString(text) => Some(text.clone()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_with_a_gap_is_not_whole() {
        let is_whole = |ranges: &[(u16, u16)]| {
            let master = Address { host: "h".into(), port: 1 };
            let range =
                |(first, last): &(u16, u16)| Range { first: *first, last: *last, master: master.clone() };
            is_whole(ranges.iter().map(range).collect::<Vec<_>>().iter())
        };
        assert!(is_whole(&[(0, 16_383)]) && is_whole(&[(0, 0), (1, 8_000), (8_001, 16_383)]));
        for gap in [&[][..], &[(1, 16_383)], &[(0, 16_382)], &[(0, 5), (7, 16_383)], &[(0, 9), (5, 16_383)]] {
            assert!(!is_whole(gap), "{gap:?}");
        }
    }

    fn word(text: &str) -> Value {
        Value::BulkString(text.into())
    }

    fn row(host: Value, more: Value) -> Value {
        let master = Value::Array(vec![host, Value::Int(7001), word("id"), more]);
        Value::Array(vec![Value::Int(5), Value::Int(9), master])
    }

    #[test]
    fn a_node_is_found_by_the_name_that_the_cluster_prefers() {
        let asked = Address { host: "seed".into(), port: 1 };
        let ip = Value::Array(vec![word("ip"), word("10.0.0.7")]);
        for (host, more, found) in [
            (word("10.0.0.1"), Value::Array(vec![]), "10.0.0.1"),
            (word("n1.example"), ip.clone(), "n1.example"),
            (Value::Nil, Value::Array(vec![]), "seed"),
            (word(""), Value::Array(vec![]), "seed"),
            (word("?"), ip, "10.0.0.7"),
        ] {
            let ranges = parse(Value::Array(vec![row(host, more)]), &asked).expect("an answer");
            assert_eq!(
                ranges,
                [Range { first: 5, last: 9, master: Address { host: found.into(), port: 7001 } }]
            );
        }
        assert_eq!(parse(Value::Okay, &asked), None);
        assert_eq!(parse(Value::Array(vec![Value::Int(1)]), &asked), None);
    }
}
