//! The plan of a seed: a fleet, its tiers and options, its network and its faults.

use std::time::Duration;

use async_cache::OutagePolicy;
use fastrand::Rng;

use crate::simulation::Weather;
use crate::surface::{Call, Options, Tiers, Verb};

/// The faults of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// No faults.
    None,
    /// Nodes end and start.
    Restarts,
    /// Nodes end and start, and the network and the server have faults.
    Everything,
}

/// The plan of one run, drawn from its seed.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The seed.
    pub seed: u64,
    /// The faults.
    pub trouble: Trouble,
    /// The tiers of each node.
    pub tiers: Vec<Tiers>,
    /// The number of keys.
    pub keys: u64,
    /// The number of further keys, which are requested all together. It is 0 in most runs. Otherwise it is so
    /// large that a command for all of them takes longer than the duration of a lease.
    pub bulk: u64,
    /// The number of callers of each node.
    pub callers: usize,
    /// The default options of every node.
    pub defaults: Options,
    /// The number of calls out of a hundred with their own options.
    pub own_options: u32,
    /// The longest pause between two calls of a caller, in milliseconds.
    pub think: u64,
    /// The longest pause between two changes, in milliseconds.
    pub rest: u64,
    /// The usual longest duration of a load, in milliseconds.
    pub load: u64,
    /// The number of loads out of a hundred that fail, panic, hang, or return a value that is not stored.
    pub odd_loads: u32,
    /// The longest body of a value, in bytes.
    pub size: usize,
    /// Whether some versions have no row.
    pub absences: bool,
    /// Whether values are inserted.
    pub inserts: bool,
    /// The behavior of nodes without the server.
    pub outage: OutagePolicy,
    /// The bound on staleness.
    pub max_staleness: Duration,
    /// The network.
    pub weather: Weather,
    /// The number of partitions.
    pub partitions: u16,
    /// The number of servers. Each has its own partitions, and its own network.
    pub servers: usize,
    /// The duration of the traffic.
    pub traffic: Duration,
}

impl Plan {
    /// Draws a plan.
    #[must_use]
    pub fn draw(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed ^ 0x0a11);
        let ms = Duration::from_millis;
        let trouble = [Trouble::None, Trouble::None, Trouble::Restarts, Trouble::Everything][rng.usize(..4)];
        let alone = trouble != Trouble::Everything && rng.u8(..6) == 0;
        let tiers = match alone {
            true => vec![Tiers::L1],
            false => (0..rng.usize(2..=3))
                .map(|_| if rng.u8(..5) == 0 { Tiers::L2 } else { Tiers::Both })
                .collect(),
        };
        let has_l1 = tiers.iter().all(|tiers| *tiers != Tiers::L2);
        let bad = trouble == Trouble::Everything;
        let lossy = |rng: &mut Rng, share: f64| if bad && rng.bool() { share } else { 0.0 };
        let weather = Weather {
            usual: ms([0, 1, 3][rng.usize(..3)]),
            worst: ms(if bad { rng.u64(10..150) } else { 8 }),
            slow: [0.02, 0.1][rng.usize(..2)],
            lost_commands: lossy(&mut rng, 0.02),
            lost_messages: lossy(&mut rng, 0.02),
            per_key: Duration::ZERO,
            command_timeout: ms(200),
        };
        let options_of = if has_l1 { Tiers::Both } else { Tiers::L2 };
        let plan = Self {
            seed,
            trouble,
            keys: rng.u64(1..=3),
            bulk: 0,
            callers: rng.usize(1..=3),
            defaults: Options::draw(options_of, &mut rng),
            own_options: [0, 20, 60][rng.usize(..3)],
            think: [5, 20, 60][rng.usize(..3)],
            rest: [30, 200, 1_000][rng.usize(..3)],
            load: [0, 10, 60][rng.usize(..3)],
            odd_loads: [0, 0, 3, 20][rng.usize(..4)],
            size: [0, 100, 100, 12_000][rng.usize(..4)],
            absences: rng.u8(..3) == 0,
            inserts: rng.bool(),
            outage: [OutagePolicy::ServeL1, OutagePolicy::Load, OutagePolicy::Fail][rng.usize(..3)],
            max_staleness: ms([100, 250, 1_000][rng.usize(..3)]),
            weather,
            partitions: [1, 1, 3][rng.usize(..3)],
            servers: 1,
            traffic: ms(2_000),
            tiers,
        };
        plan.with_bulk(&mut Rng::with_seed(seed ^ 0xb01d)).spread(&mut Rng::with_seed(seed ^ 0x5e17))
    }

    /// Spreads the partitions of some plans over several servers.
    fn spread(mut self, rng: &mut Rng) -> Self {
        if self.partitions > 1 && rng.bool() {
            self.servers = rng.usize(2..=usize::from(self.partitions));
        }
        self
    }

    /// Adds batches of very many keys and short leases to some plans.
    fn with_bulk(mut self, rng: &mut Rng) -> Self {
        if self.trouble != Trouble::Everything && self.is_fleet() && rng.u8(..16) == 0 {
            self.bulk = rng.u64(1_000..=1_500);
            self.defaults.lease_ttl = Some(Duration::from_millis(100));
            self.weather.per_key = Duration::from_micros(100);
        }
        self
    }

    /// The number of all keys.
    #[must_use]
    pub fn rows(&self) -> usize {
        (self.keys + self.bulk) as usize
    }

    /// Whether this version has no row.
    #[must_use]
    pub fn is_absent(&self, key: u64, version: u64) -> bool {
        self.absences && (version * 7 + key).is_multiple_of(3)
    }

    /// Whether the nodes share a tier.
    #[must_use]
    pub fn is_fleet(&self) -> bool {
        self.tiers[0] != Tiers::L1
    }

    /// The tiers for which options are drawn. A node refuses an option that has no effect on its tiers.
    #[must_use]
    pub fn common_tiers(&self) -> Tiers {
        if self.tiers.contains(&Tiers::L2) { Tiers::L2 } else { self.tiers[0] }
    }

    /// The time by which a life may seem longer than it is. A node knows the server's clock only with the
    /// precision of a round trip, and the life of a value begins after its load.
    #[must_use]
    pub fn slack_ms(&self) -> u64 {
        match self.trouble {
            Trouble::Everything => 2 * self.weather.command_timeout.as_millis() as u64 + 10,
            Trouble::None | Trouble::Restarts => self.margin_ms(),
        }
    }

    /// Four times the maximum delay, and time for the work in between.
    #[must_use]
    pub fn margin_ms(&self) -> u64 {
        4 * self.weather.worst.as_millis() as u64 + 10
    }

    /// After this time a change whose caller was cancelled has been executed or is being retried. It takes a
    /// few commands to each partition.
    #[must_use]
    pub fn longest_change(&self) -> Duration {
        let margin = Duration::from_millis(self.margin_ms());
        match self.trouble {
            Trouble::Everything => margin + self.weather.command_timeout * (2 + u32::from(self.partitions)),
            Trouble::None | Trouble::Restarts => margin * (2 + u32::from(self.partitions)),
        }
    }

    /// The longest time from the grant of a lease to the start of its load. It covers the answer with the
    /// lease, and the answers for other keys.
    #[must_use]
    pub fn grant_ms(&self, key: u64) -> u64 {
        2 * self.weather.worst.as_millis() as u64 + self.many_ms(key)
    }

    /// The time that the server takes for a command about all keys that are requested together with this key.
    #[must_use]
    pub fn many_ms(&self, key: u64) -> u64 {
        if key < self.keys { 0 } else { (self.weather.per_key * self.bulk as u32).as_millis() as u64 }
    }

    /// The longest duration of a lookup by its own limits, whatever the limits of other calls are. It waits for
    /// another load, loads by itself if time is left, and sends a few commands.
    #[must_use]
    pub fn limit_of(&self, call: &Call) -> Duration {
        let options = &call.effective;
        let shared = match self.is_fleet() {
            true => options.wait_timeout.unwrap_or_default() + 4 * self.weather.command_timeout,
            false => Duration::ZERO,
        };
        let patience = options.load_timeout.unwrap_or_default() + shared + Duration::from_millis(100);
        let gathered = if call.verb.is_loaders() { call.gathering.delay } else { Duration::ZERO };
        let steps = if matches!(call.verb, Verb::Warm | Verb::WarmMany) { call.keys.len() as u32 } else { 1 };
        steps * (2 * patience + gathered) + Duration::from_millis(self.margin_ms())
    }

    /// The longest duration of a call. It waits for its own load, for other loads, and for commands. It may do
    /// so three times, because a change may make it start again.
    #[must_use]
    pub fn longest_call(&self) -> Duration {
        let round = Duration::from_secs(2) + Duration::from_secs(3) + 8 * self.weather.command_timeout;
        3 * round + Duration::from_secs(1)
    }
}
