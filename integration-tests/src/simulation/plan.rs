//! What one seed stands for: a fleet, its options, its weather and its faults.

use std::time::Duration;

use async_cache::Outage;
use fastrand::Rng;

use super::network::Weather;

/// The kind of trouble a run is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// Delays and reordering alone.
    None,
    /// The message route fails.
    Bus,
    /// The command route fails.
    Commands,
    /// The server is restarted, emptied, resurrected.
    Server,
    /// All of it.
    Everything,
}

/// One run, drawn from its seed.
#[expect(missing_docs, reason = "most fields are options of the cache")]
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    pub seed: u64,
    pub trouble: Trouble,
    pub nodes: usize,
    pub keys: usize,
    pub readers: usize,
    pub writers: usize,
    pub max_staleness: Duration,
    pub ttl: Duration,
    pub lease_ttl: Duration,
    pub wait_timeout: Duration,
    pub outage: Outage,
    pub partitions: u16,
    /// Longest pause between two lookups of one reader.
    pub think: u64,
    /// Longest pause between two writes of one writer.
    pub rest: u64,
    /// Longest load, usually.
    pub load: u64,
    /// Loads out of thirty that take long.
    pub long: u8,
    pub weather: Weather,
    /// How long there is traffic.
    pub traffic: Duration,
}

impl Plan {
    /// Draws a run.
    #[must_use]
    pub fn draw(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let ms = Duration::from_millis;
        let trouble = match rng.u8(..8) {
            0 => Trouble::None,
            1 | 2 => Trouble::Bus,
            3 => Trouble::Commands,
            4 | 5 => Trouble::Server,
            _ => Trouble::Everything,
        };
        let max_staleness = ms([60, 120, 250, 500][rng.usize(..4)]);
        let lossy = |on: bool, share: f64| if on { share } else { 0.0 };
        let commands = matches!(trouble, Trouble::Commands | Trouble::Everything);
        let bus = matches!(trouble, Trouble::Bus | Trouble::Everything);
        let weather = Weather {
            usual: ms([0, 1, 3, 8][rng.usize(..4)]),
            worst: ms(if trouble == Trouble::None { 30 } else { rng.u64(20..500) }),
            slow: [0.02, 0.1, 0.3][rng.usize(..3)],
            lost_commands: lossy(commands, [0.0, 0.01, 0.05][rng.usize(..3)]),
            lost_messages: lossy(bus, [0.0, 0.005, 0.05][rng.usize(..3)]),
            command_timeout: ms([80, 150, 300][rng.usize(..3)]),
        };
        Self {
            seed,
            trouble,
            nodes: rng.usize(2..=3),
            keys: rng.usize(1..=3),
            readers: rng.usize(1..=2),
            writers: rng.usize(1..=2),
            max_staleness,
            ttl: ms([300, 5_000, 60_000][rng.usize(..3)]),
            lease_ttl: ms([60, 200, 1_000][rng.usize(..3)]),
            wait_timeout: ms([200, 2_000][rng.usize(..2)]),
            outage: [Outage::Load, Outage::Load, Outage::Fail, Outage::ServeL1][rng.usize(..4)],
            partitions: [1, 1, 1, 3][rng.usize(..4)],
            think: [3, 10, 30][rng.usize(..3)],
            rest: [20, 80, 250][rng.usize(..3)],
            load: [0, 5, 40][rng.usize(..3)],
            long: [1, 1, 10][rng.usize(..3)],
            weather,
            traffic: ms(3_000),
        }
    }
}
