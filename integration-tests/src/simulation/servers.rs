//! The servers of a run. Each has a network of its own, and its own partitions.

use std::sync::Arc;

use async_cache::MemoryBackend;

use super::{Link, Network, Weather};

/// A server.
pub(super) struct Server {
    pub(super) memory: MemoryBackend,
    pub(super) network: Arc<Network>,
}

/// All servers of a run. The first draws of a seed are the same for one server and for several.
pub(super) struct Servers(pub(super) Vec<Server>);

impl Servers {
    /// Makes the servers.
    pub(super) fn new(
        count: usize,
        weather: Weather,
        verbose: bool,
        make: impl Fn() -> MemoryBackend,
    ) -> Self {
        let server = |_| {
            let memory = make();
            let network = Network::new(memory.clone(), weather, verbose);
            Server { memory, network }
        };
        Self((0..count).map(server).collect())
    }

    /// Makes the links of one node, one to each server.
    pub(super) fn links(&self, node: usize, mut seed: impl FnMut() -> u64) -> Vec<Arc<Link>> {
        self.0.iter().map(|server| server.network.link(node, seed())).collect()
    }

    /// From now on nothing is lost, and nothing is slow.
    pub(super) fn clear_up(&self) {
        self.0.iter().for_each(|server| server.network.clear_up());
    }
}
