//! How long it takes until a write is visible on the other instances.

use std::collections::VecDeque;

use crate::events::Read;
use crate::figures::Durations;

/// How many writes and changes are remembered.
const MAX_REMEMBERED: usize = 4096;

/// The writes of the observed product, and when each instance first returned which version.
///
/// The lag of a write on another instance: from the return of `invalidate` to the start of the
/// first read there that returned its version or a later one; 0 if that read began before.
#[derive(Debug)]
pub(crate) struct Lag {
    product: u32,
    writes: VecDeque<(u32, u16, u64)>,
    /// For each instance: a version, and the start of the first read that returned it.
    shown: Vec<VecDeque<(u32, u64)>>,
}

impl Lag {
    pub(super) fn new(product: u32, instances: u16) -> Self {
        Self { product, writes: VecDeque::new(), shown: vec![VecDeque::new(); usize::from(instances)] }
    }

    pub(super) fn invalidated(&mut self, product: u32, version: u32, writer: u16, at: u64) {
        if product == self.product {
            remember(&mut self.writes, (version, writer, at));
        }
    }

    pub(super) fn read(&mut self, instance: u16, read: &Read) {
        let shown = &mut self.shown[usize::from(instance)];
        if read.product == self.product && shown.back().is_none_or(|(version, _)| *version < read.version) {
            remember(shown, (read.version, read.start));
        }
    }

    /// The lags of all visible writes.
    pub(crate) fn durations(&self) -> Durations {
        let mut lags = Durations::default();
        for write in &self.writes {
            for instance in 0..self.shown.len() {
                self.of(write, instance).into_iter().for_each(|lag| lags.saturating_record(lag));
            }
        }
        lags
    }

    /// The lags of the writes since then, on one instance.
    pub(crate) fn since(&self, then: u64, instance: u16) -> Durations {
        let mut lags = Durations::default();
        for write in self.writes.iter().rev().take_while(|(_, _, at)| *at >= then) {
            self.of(write, usize::from(instance)).into_iter().for_each(|lag| lags.saturating_record(lag));
        }
        lags
    }

    /// The lag of a write on an instance, if it made the write visible and has not written it itself.
    fn of(&self, &(version, writer, at): &(u32, u16, u64), instance: usize) -> Option<u64> {
        let shown = &self.shown[instance];
        let first = shown.partition_point(|(shown, _)| *shown < version);
        // A history that begins after the write does not contain its lag.
        let known = first > 0 || shown.front().is_some_and(|(shown, _)| *shown == version);
        let (_, start) = shown.get(first).filter(|_| instance != usize::from(writer) && known)?;
        Some(start.saturating_sub(at))
    }
}

fn remember<T>(memory: &mut VecDeque<T>, thing: T) {
    if memory.len() == MAX_REMEMBERED {
        memory.pop_front();
    }
    memory.push_back(thing);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::{Answer, Purpose};

    #[test]
    fn lag_runs_from_the_return_to_the_first_read_that_shows() {
        let mut lag = Lag::new(9, 3);
        let mut read = |instance, version, start| {
            let (answer, purpose) = (Answer::L1, Purpose::Lag);
            lag.read(instance, &Read { product: 9, version, start, end: start + 1, answer, purpose });
        };
        for instance in 0..3 {
            read(instance, 1, 10);
        }
        read(0, 2, 2_000_100);
        read(1, 1, 2_000_200);
        read(1, 2, 3_000_000);
        read(2, 3, 1_900_000);
        lag.invalidated(9, 2, 0, 2_000_000);
        let lags = lag.durations();
        // Instance 1: 1 ms. Instance 2: visible before the return. Instance 0 made the write.
        assert_eq!(lags.len(), 2);
        assert_eq!(lags.min(), 0);
        assert!((990_000..1_010_000).contains(&lags.max()), "{}", lags.max());
        let since = |then| [0, 1, 2].map(|instance| lag.since(then, instance).len());
        assert_eq!((since(2_000_000), since(2_000_001)), ([0, 1, 1], [0, 0, 0]));
    }
}
