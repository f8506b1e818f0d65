//! A call of a public method.

use std::time::Duration;

use fastrand::Rng;

use super::options::{Options, Tiers};
use super::verb::{Kind, Verb};

/// A call with its drawn arguments.
#[derive(Debug, Clone)]
pub struct Call {
    /// The number of the call.
    pub id: u64,
    /// The method.
    pub verb: Verb,
    /// The keys: at least one. They may repeat.
    pub keys: Vec<u64>,
    /// The options of the call.
    pub options: Options,
    /// The options that take effect: those of the call over the defaults of the cache.
    pub effective: Options,
    /// The settings of the `DataLoader`, if the method belongs to one.
    pub gathering: Gathering,
    /// Whether the call requires the stamp that is known for its keys.
    pub insists: bool,
    /// Whether the call asks L2 although L1 may have the keys.
    pub skips_l1: bool,
    /// Whether the call asks where its answer was found.
    pub traced: bool,
}

/// The settings of a `DataLoader` that are not options of entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gathering {
    /// The maximum number of keys in a batch.
    pub max_batch_size: usize,
    /// How long the first key of a batch waits for others.
    pub delay: Duration,
    /// The maximum number of waiting keys, if it is set. Further keys are refused.
    pub max_pending: Option<usize>,
    /// The limit on a batch, if it is set beside the options.
    pub load_timeout: Option<Duration>,
}

impl Gathering {
    fn draw(rng: &mut Rng) -> Self {
        let ms = Duration::from_millis;
        Self {
            max_batch_size: [1, 2, 4, 100][rng.usize(..4)],
            delay: ms([0, 1, 1, 20][rng.usize(..4)]),
            max_pending: (rng.u8(..8) == 0).then(|| rng.usize(1..4)),
            load_timeout: (rng.u8(..4) == 0).then(|| ms([200, 1_000][rng.usize(..2)])),
        }
    }
}

/// The range of the draws.
#[derive(Debug, Clone, Copy)]
pub struct Range {
    /// The number of keys. All keys are below it.
    pub keys: u64,
    /// The tiers of the caches.
    pub tiers: Tiers,
    /// The number of calls out of a hundred with their own options.
    pub own_options: u32,
}

impl Call {
    /// Draws a call of a method that `wanted` accepts, for a cache with these defaults.
    #[must_use]
    pub fn draw(
        id: u64,
        range: Range,
        defaults: &Options,
        rng: &mut Rng,
        wanted: impl Fn(Verb) -> bool,
    ) -> Self {
        let verb = Verb::draw(rng, wanted);
        let count = if verb.takes_many() { rng.u64(1..=(range.keys + 1).min(8)) } else { 1 };
        let keys = (0..count).map(|_| rng.u64(..range.keys)).collect();
        let options = match rng.u32(..100) < range.own_options {
            true => Options::draw_for(verb, defaults, range.tiers, rng),
            false => Options::default(),
        };
        let mut effective = options.for_call(verb, defaults);
        let gathering = Gathering::draw(rng);
        if verb.is_loaders() {
            effective.load_timeout = gathering.load_timeout.or(effective.load_timeout);
        }
        let insists = verb.takes_stamp() && verb.kind() != Kind::Reloads && rng.u8(..6) == 0;
        let skips_l1 = range.tiers != Tiers::L1 && verb.skips_l1() && rng.u8(..8) == 0;
        let traced = verb.is_traced() && rng.u8(..4) == 0;
        Self { id, verb, keys, options, effective, gathering, insists, skips_l1, traced }
    }

    /// The distinct keys of the call.
    #[must_use]
    pub fn distinct(&self) -> Vec<u64> {
        let mut keys = self.keys.clone();
        keys.sort_unstable();
        keys.dedup();
        keys
    }
}
