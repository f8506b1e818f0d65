//! The plan of a seed: a fleet, its options, its network and its faults.

use std::time::Duration;

use async_cache::OutagePolicy;
use fastrand::Rng;

use super::network::Weather;

/// The kind of faults in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// Delays and reordering only.
    None,
    /// Faults of the message route.
    Bus,
    /// Faults of the command route.
    Commands,
    /// The server is restarted, emptied, or replaced by one with older data.
    Server,
    /// All kinds.
    Everything,
}

/// The plan of one run, drawn from its seed.
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
    pub outage: OutagePolicy,
    pub partitions: u16,
    /// The number of servers. Each has its own partitions, and its own network.
    pub servers: usize,
    /// Whether only a fault of a server, or of the way to it, can suspend L1.
    pub steady: bool,
    /// The longest pause between two lookups of one reader.
    pub think: u64,
    /// The longest pause between two writes of one writer.
    pub rest: u64,
    /// The usual longest duration of a load.
    pub load: u64,
    /// The number of slow loads out of thirty.
    pub long: u8,
    pub weather: Weather,
    /// The duration of the traffic.
    pub traffic: Duration,
    /// The longest pause between two faults, in milliseconds.
    pub calm: u64,
    /// Whether another server may take over while messages of the old one still arrive.
    pub sudden: bool,
    /// The number of failing loads out of forty.
    pub failing: u8,
    /// Whether entries have tags.
    pub tags: bool,
    /// The number of tags whose invalidations a node and the server remember.
    pub tag_table: usize,
    /// Whether some versions have no row.
    pub absences: bool,
    pub negative_ttl: Duration,
    pub stale: Stale,
    pub refresh_ahead: Option<f64>,
}

/// How a run uses expired values.
#[expect(missing_docs, reason = "all are options of the cache")]
#[derive(Debug, Clone, Copy)]
pub struct Stale {
    pub stale_for: Duration,
    pub stale_while_revalidate: bool,
    pub stale_on_error: bool,
    pub soft_timeout: Option<Duration>,
    pub error_backoff: Duration,
}

impl Plan {
    /// Draws a plan.
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
            per_key: Duration::ZERO,
            command_timeout: ms([80, 150, 300][rng.usize(..3)]),
        };
        let plan = Self {
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
            outage: [OutagePolicy::Load, OutagePolicy::Load, OutagePolicy::Fail, OutagePolicy::ServeL1]
                [rng.usize(..4)],
            partitions: [1, 1, 1, 3][rng.usize(..4)],
            servers: 1,
            steady: false,
            think: [3, 10, 30][rng.usize(..3)],
            rest: [20, 80, 250][rng.usize(..3)],
            load: [0, 5, 40][rng.usize(..3)],
            long: [1, 1, 10][rng.usize(..3)],
            weather,
            traffic: ms(3_000),
            calm: 600,
            sudden: false,
            failing: 1,
            tags: false,
            tag_table: 4,
            absences: false,
            negative_ttl: ms(300),
            stale: Stale {
                stale_for: Duration::ZERO,
                stale_while_revalidate: false,
                stale_on_error: true,
                soft_timeout: None,
                error_backoff: ms(100),
            },
            refresh_ahead: None,
        };
        plan.stressed(&mut rng).varied(&mut rng).spread(&mut Rng::with_seed(seed ^ 0x5e17))
    }

    /// Spreads the partitions of some plans over several servers. In half of them nothing is lost but by a fault of one
    /// server, and nothing takes so long that a serving lease ends.
    fn spread(mut self, rng: &mut Rng) -> Self {
        if self.partitions > 1 && rng.bool() {
            self.servers = rng.usize(2..=usize::from(self.partitions));
            self.keys = self.keys.max(2);
            self.steady = rng.bool();
        }
        if self.steady {
            let longest = self.max_staleness / 8;
            let Weather { usual, worst, .. } = self.weather;
            let (usual, worst) = (usual.min(longest), worst.min(longest));
            self.weather = Weather { usual, worst, lost_commands: 0.0, lost_messages: 0.0, ..self.weather };
        }
        self
    }

    /// Changes some plans to stress one thing: loads that take longer than the bound, or servers that are often
    /// replaced.
    fn stressed(self, rng: &mut Rng) -> Self {
        let ms = Duration::from_millis;
        match rng.u8(..8) {
            0 | 3 if self.trouble != Trouble::None => {
                Self { max_staleness: ms(60), long: 15, calm: 200, ttl: ms(60_000), ..self }
            }
            1 | 2 => {
                let max_staleness = ms([250, 500][rng.usize(..2)]);
                let trouble = Trouble::Server;
                Self { trouble, max_staleness, calm: 250, sudden: true, ttl: ms(60_000), ..self }
            }
            _ => self,
        }
    }

    /// Adds tags, absences and other variants to the entries of some plans.
    fn varied(self, rng: &mut Rng) -> Self {
        let ms = Duration::from_millis;
        let stale = Stale {
            stale_for: ms([1_000, 60_000][rng.usize(..2)]),
            stale_while_revalidate: rng.bool(),
            stale_on_error: rng.u8(..4) > 0,
            soft_timeout: [None, Some(ms(2)), Some(ms(50))][rng.usize(..3)],
            error_backoff: ms([1, 100, 1_000][rng.usize(..3)]),
        };
        let expiring = rng.u8(..3) == 0;
        let (short, failing) = (ms([20, 80, 300][rng.usize(..3)]), [1, 8, 20][rng.usize(..3)]);
        let plan = Self {
            tags: rng.bool(),
            tag_table: [2, 2, 256][rng.usize(..3)],
            absences: rng.u8(..4) == 0,
            negative_ttl: ms([30, 300, 30_000][rng.usize(..3)]),
            refresh_ahead: [None, None, None, Some(1.0), Some(20.0)][rng.usize(..5)],
            ..self
        };
        if expiring { Self { stale, ttl: short, failing, ..plan } } else { plan }
    }

    /// Whether this version has no row.
    #[must_use]
    pub fn is_absent(&self, key: usize, version: u64) -> bool {
        self.absences && version > 1 && (version * 7 + key as u64).is_multiple_of(4)
    }

    /// Whether every load has a change, a failure or an expiry as its reason.
    #[must_use]
    pub fn loads_are_counted(&self) -> bool {
        let is_fresh = self.stale.stale_for.is_zero() && self.refresh_ahead.is_none();
        self.trouble == Trouble::None && is_fresh && !self.absences
    }
}

/// The class of a version. A class is one of its tags.
#[must_use]
pub(super) fn class_of(version: u64) -> usize {
    (version % CLASSES as u64) as usize
}

/// The number of classes.
pub(super) const CLASSES: usize = 2;

/// The tag of a class.
#[must_use]
pub(super) fn class_tag(class: usize) -> String {
    format!("class:{class}")
}

/// The tag of a key for all its versions. The keys of a group share it.
#[must_use]
pub(super) fn group_tag(key: usize) -> String {
    format!("group:{}", key % 2)
}
