//! Ports for the servers of tests.

use std::collections::HashSet;
use std::net::TcpListener;
use std::ops::Range;

use parking_lot::Mutex;

/// Below the ports that systems give to outgoing connections: a connection of another test cannot take the port
/// of a server before it starts, or while it is restarted. The ports of the bus of old clusters are 10,000 higher: they
/// are below them, too, and not among these.
const PORTS: Range<u16> = 10_000..20_000;

/// The ports that this process has given to its servers.
static GIVEN: Mutex<Option<HashSet<u16>>> = Mutex::new(None);

/// A free port of the loopback interface. This process gives each port once.
///
/// # Panics
///
/// If there is none.
#[must_use]
pub fn free_port() -> u16 {
    let mut given = GIVEN.lock();
    let given = given.get_or_insert_default();
    for _ in 0..10 * PORTS.len() {
        let port = fastrand::u16(PORTS);
        if !given.contains(&port) && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            given.insert(port);
            return port;
        }
    }
    panic!("no port from {} to {} is free", PORTS.start, PORTS.end);
}

#[cfg(test)]
mod tests {
    use super::{PORTS, free_port};
    use std::collections::HashSet;
    use std::net::TcpListener;

    #[test]
    fn ports_are_given_once_and_never_to_outgoing_connections() {
        let ports: Vec<u16> = (0..1_000).map(|_| free_port()).collect();
        assert_eq!(ports.iter().collect::<HashSet<_>>().len(), ports.len());
        assert!(ports.iter().all(|port| PORTS.contains(port)));
        assert!(ports.iter().all(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()));
        let outgoing = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range");
        if let Ok(range) = outgoing {
            let first: u16 = range.split_whitespace().next().unwrap().parse().unwrap();
            assert!(
                PORTS.end + 10_000 <= first,
                "the system gives ports from {first} to outgoing connections"
            );
        }
    }
}
