//! One call.

use std::time::Duration;

use fastrand::Rng;

use super::options::{Options, Tiers};
use super::verb::{Kind, Verb};

/// A call, as it was drawn.
#[derive(Debug, Clone)]
pub struct Call {
    /// Its number.
    pub id: u64,
    /// What is called.
    pub verb: Verb,
    /// With which keys: at least one. They may repeat.
    pub keys: Vec<u64>,
    /// What is said at the call.
    pub options: Options,
    /// The same over the defaults of the cache: what counts.
    pub effective: Options,
    /// How a `DataLoader` gathers, where one is called.
    pub gathering: Gathering,
    /// Whether the point in history that is known of its keys is insisted on.
    pub insists: bool,
}

/// What a `DataLoader` is told beside the options of entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gathering {
    /// Most keys in a batch.
    pub max_batch_size: usize,
    /// How long the first key waits for others.
    pub delay: Duration,
    /// Most keys that may wait, if that is said. What comes beyond is refused.
    pub max_pending: Option<usize>,
    /// The limit on a batch, if that is said beside the options.
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

/// What calls are drawn from.
#[derive(Debug, Clone, Copy)]
pub struct Range {
    /// Keys are below.
    pub keys: u64,
    /// What the caches have.
    pub tiers: Tiers,
    /// Calls out of a hundred that have options of their own.
    pub own_options: u32,
}

impl Call {
    /// Draws a call of a verb that `wanted` accepts, to a cache with these defaults.
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
        Self { id, verb, keys, options, effective, gathering, insists }
    }

    /// Its keys, each once.
    #[must_use]
    pub fn distinct(&self) -> Vec<u64> {
        let mut keys = self.keys.clone();
        keys.sort_unstable();
        keys.dedup();
        keys
    }
}
