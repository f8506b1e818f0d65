//! What one seed stands for: a fleet, its tiers and options, its weather and its faults.

use std::time::Duration;

use async_cache::OutagePolicy;
use fastrand::Rng;

use crate::simulation::Weather;
use crate::surface::{Call, Options, Tiers, Verb};

/// What goes wrong in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// Nothing.
    None,
    /// Nodes end and start.
    Restarts,
    /// The network and the server as well.
    Everything,
}

/// One run, drawn from its seed.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The seed.
    pub seed: u64,
    /// What goes wrong.
    pub trouble: Trouble,
    /// Of each node.
    pub tiers: Vec<Tiers>,
    /// Keys in use.
    pub keys: u64,
    /// Keys beside those, which are asked for all together: none in most runs. They are that many so that a
    /// question for all of them takes longer than a lease lives.
    pub bulk: u64,
    /// Callers of each node.
    pub callers: usize,
    /// What every node of the fleet has.
    pub defaults: Options,
    /// Calls out of a hundred with options of their own.
    pub own_options: u32,
    /// Longest pause between two calls of a caller, in milliseconds.
    pub think: u64,
    /// Longest pause between two changes, in milliseconds.
    pub rest: u64,
    /// Longest load, usually, in milliseconds.
    pub load: u64,
    /// Loads out of a hundred that fail, panic, hang, or bring what is not stored.
    pub odd_loads: u32,
    /// Longest body of a value, in bytes.
    pub size: usize,
    /// Whether rows are gone in some versions.
    pub absences: bool,
    /// Whether values are inserted.
    pub inserts: bool,
    /// What nodes do without the server.
    pub outage: OutagePolicy,
    /// The bound on staleness.
    pub max_staleness: Duration,
    /// The network.
    pub weather: Weather,
    /// Partitions of the server.
    pub partitions: u16,
    /// How long there is traffic.
    pub traffic: Duration,
}

impl Plan {
    /// Draws a run.
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
            traffic: ms(2_000),
            tiers,
        };
        plan.with_bulk(&mut Rng::with_seed(seed ^ 0xb01d))
    }

    /// In some runs there are batches of very many keys, and leases that are short.
    fn with_bulk(mut self, rng: &mut Rng) -> Self {
        if self.trouble != Trouble::Everything && self.is_fleet() && rng.u8(..16) == 0 {
            self.bulk = rng.u64(1_000..=1_500);
            self.defaults.lease_ttl = Some(Duration::from_millis(100));
            self.weather.per_key = Duration::from_micros(100);
        }
        self
    }

    /// All keys.
    #[must_use]
    pub fn rows(&self) -> usize {
        (self.keys + self.bulk) as usize
    }

    /// Whether the row is gone in that version.
    #[must_use]
    pub fn is_absent(&self, key: u64, version: u64) -> bool {
        self.absences && (version * 7 + key).is_multiple_of(3)
    }

    /// Whether the nodes share a tier.
    #[must_use]
    pub fn is_fleet(&self) -> bool {
        self.tiers[0] != Tiers::L1
    }

    /// The tiers that options may be about: what has no effect on some node is refused there.
    #[must_use]
    pub fn common_tiers(&self) -> Tiers {
        if self.tiers.contains(&Tiers::L2) { Tiers::L2 } else { self.tiers[0] }
    }

    /// By how much a life may seem longer than it is: what a node knows of the server's clock is as exact as
    /// a round trip, and a value's life begins after its load.
    #[must_use]
    pub fn slack_ms(&self) -> u64 {
        match self.trouble {
            Trouble::Everything => 2 * self.weather.command_timeout.as_millis() as u64 + 10,
            Trouble::None | Trouble::Restarts => self.margin_ms(),
        }
    }

    /// Four ways at worst, and the time it takes to think.
    #[must_use]
    pub fn margin_ms(&self) -> u64 {
        4 * self.weather.worst.as_millis() as u64 + 10
    }

    /// A change that nobody waits for has landed by then, or is tried again: a few commands to each partition.
    #[must_use]
    pub fn longest_change(&self) -> Duration {
        let margin = Duration::from_millis(self.margin_ms());
        match self.trouble {
            Trouble::Everything => margin + self.weather.command_timeout * (2 + u32::from(self.partitions)),
            Trouble::None | Trouble::Restarts => margin * (2 + u32::from(self.partitions)),
        }
    }

    /// How long before its load a lease may have been granted: the answer was under way, and those to the
    /// questions for other keys.
    #[must_use]
    pub fn grant_ms(&self, key: u64) -> u64 {
        2 * self.weather.worst.as_millis() as u64 + self.many_ms(key)
    }

    /// How long the server takes to answer a question for all the keys that are asked for together with this one.
    #[must_use]
    pub fn many_ms(&self, key: u64) -> u64 {
        if key < self.keys { 0 } else { (self.weather.per_key * self.bulk as u32).as_millis() as u64 }
    }

    /// A lookup takes no longer by its own limits, whatever those of others are: it waits for another's load, leads
    /// after that where there is time left, and asks the server a few times on the way.
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

    /// A call takes no longer: its waits are for loads, its own or another's, and for commands. Three
    /// rounds of them, for a change may send it back.
    #[must_use]
    pub fn longest_call(&self) -> Duration {
        let round = Duration::from_secs(2) + Duration::from_secs(3) + 8 * self.weather.command_timeout;
        3 * round + Duration::from_secs(1)
    }
}
