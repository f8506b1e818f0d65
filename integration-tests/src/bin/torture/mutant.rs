//! Faults that can be planted, to show that the checker finds them.

use async_cache::redis_testing::Mutant as RedisMutant;
use async_cache::testing::Mutant as CoreMutant;

/// A rule of the library that is switched off, or a fault that the checker plants in a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mutant {
    Core(CoreMutant),
    Redis(RedisMutant),
    Planted(Planted),
}

/// A fault that no single rule of the library prevents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Planted {
    /// One byte of some loaded values is changed.
    MangledValue,
    /// Some calls never end.
    EndlessCall,
    /// A task is left behind after each change.
    TaskLeftBehind,
    /// Keys without an expiry are left in Redis.
    KeyLeftBehind,
    /// A loader that does not use the cache.
    LoadBesideTheCache,
    /// A node of another build is accepted.
    IntruderTakenIn,
    /// Values contain a life that is a hundredth of their real life.
    AgeTold,
    /// `MangledValue` and `AgeTold` for the values of drawn calls only.
    DrawnMangled,
    DrawnAgeTold,
    /// The record of an absence of a drawn key says that it is older than every change of everything and of its
    /// tags.
    DrawnAbsenceOld,
    /// An absence of a drawn key has no record.
    DrawnAbsenceUntold,
}

const REDIS: [RedisMutant; 4] = [
    RedisMutant::RefusedChangeKeepsNumber,
    RedisMutant::RunsAlike,
    RedisMutant::MapNotFollowed,
    RedisMutant::OneLossLosesAll,
];
const PLANTED: [Planted; 11] = [
    Planted::MangledValue,
    Planted::EndlessCall,
    Planted::TaskLeftBehind,
    Planted::KeyLeftBehind,
    Planted::LoadBesideTheCache,
    Planted::IntruderTakenIn,
    Planted::AgeTold,
    Planted::DrawnMangled,
    Planted::DrawnAgeTold,
    Planted::DrawnAbsenceOld,
    Planted::DrawnAbsenceUntold,
];

impl Mutant {
    /// Reads a name, in upper or lower case.
    pub(crate) fn parse(name: &str) -> Result<Self, String> {
        let all = CoreMutant::ALL.into_iter().map(Self::Core);
        let all = all.chain(REDIS.map(Self::Redis)).chain(PLANTED.map(Self::Planted));
        let plain = name.replace(['_', '-'], "");
        let names = || all.clone().map(Self::name).collect::<Vec<_>>().join(", ");
        let found = all.clone().find(|mutant| mutant.name().eq_ignore_ascii_case(&plain));
        found.ok_or_else(|| format!("it is one of {}", names()))
    }

    pub(crate) fn name(self) -> String {
        match self {
            Self::Core(mutant) => format!("{mutant:?}"),
            Self::Redis(mutant) => format!("{mutant:?}"),
            Self::Planted(mutant) => format!("{mutant:?}"),
        }
    }
}

/// Several mutants that are active together.
pub(crate) trait Mutants {
    fn core(&self) -> Option<CoreMutant>;
    fn redis(&self) -> impl Iterator<Item = RedisMutant>;
    fn has(&self, planted: Planted) -> bool;
}

impl Mutants for [Mutant] {
    fn core(&self) -> Option<CoreMutant> {
        self.iter().find_map(|mutant| if let Mutant::Core(core) = mutant { Some(*core) } else { None })
    }

    fn redis(&self) -> impl Iterator<Item = RedisMutant> {
        self.iter().filter_map(|mutant| if let Mutant::Redis(redis) = mutant { Some(*redis) } else { None })
    }

    fn has(&self, planted: Planted) -> bool {
        self.contains(&Mutant::Planted(planted))
    }
}
