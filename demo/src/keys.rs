//! Chooses the products to read: by popularity, or from a trace.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use liblzma::read::XzDecoder;
use serde::{Deserialize, Serialize};

/// Most requests in a trace.
const MAX_REQUESTS: usize = 100_000_000;

/// Where an instance gets its products from.
#[derive(Debug)]
pub(crate) enum Keys {
    Zipf(Zipf),
    Trace { keys: Vec<u32>, next: AtomicUsize },
}

impl Keys {
    /// One instance's part of a trace: every `of`-th request.
    pub(crate) fn share_of(trace: &Trace, index: u16, of: u16) -> Self {
        let keys = trace.keys.iter().skip(usize::from(index)).step_by(usize::from(of)).copied().collect();
        Self::Trace { keys, next: AtomicUsize::new(0) }
    }

    /// The next product to read; `None` when the trace has ended.
    pub(crate) fn next(&self) -> Option<u32> {
        match self {
            Self::Zipf(zipf) => Some(zipf.draw()),
            Self::Trace { keys, next } => keys.get(next.fetch_add(1, Ordering::Relaxed)).copied(),
        }
    }

    /// A product to write, with the popularity of reads.
    pub(crate) fn any(&self) -> Option<u32> {
        match self {
            Self::Zipf(zipf) => Some(zipf.draw()),
            Self::Trace { keys, .. } => fastrand::choice(keys).copied(),
        }
    }
}

/// Products 1 to n, the k-th with a probability in proportion to 1/k.
#[derive(Debug)]
pub(crate) struct Zipf {
    cumulated: Vec<f64>,
}

impl Zipf {
    pub(crate) fn new(products: u32) -> Self {
        let mut sum = 0.0;
        let weight = |rank| {
            sum += 1.0 / f64::from(rank);
            sum
        };
        Self { cumulated: (1..=products).map(weight).collect() }
    }

    fn draw(&self) -> u32 {
        let at = fastrand::f64() * self.cumulated.last().copied().unwrap_or_default();
        let rank = self.cumulated.partition_point(|sum| *sum <= at);
        rank.min(self.cumulated.len() - 1) as u32 + 1
    }
}

/// A recorded sequence of requests. Its keys are numbered from 1 in the order of their first appearance, so
/// their byte order does not matter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Trace {
    pub(crate) keys: Vec<u32>,
    pub(crate) products: u32,
}

impl Trace {
    /// Reads a file of 32-bit keys, with or without xz.
    pub(crate) fn read(path: &Path) -> Result<Self, String> {
        let what = |error: std::io::Error| format!("cannot read the trace {}: {error}", path.display());
        let file = BufReader::new(File::open(path).map_err(what)?);
        let limit = 4 * MAX_REQUESTS as u64 + 4;
        let mut bytes = Vec::new();
        if path.extension().is_some_and(|extension| extension == "xz") {
            XzDecoder::new(file).take(limit).read_to_end(&mut bytes).map_err(what)?;
        } else {
            file.take(limit).read_to_end(&mut bytes).map_err(what)?;
        }
        Self::parse(&bytes).map_err(|wrong| format!("the trace {} {wrong}", path.display()))
    }

    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let (words, rest) = bytes.as_chunks::<4>();
        if words.is_empty() {
            return Err("holds no keys".into());
        }
        if !rest.is_empty() {
            return Err(format!("is no sequence of 4-byte keys: it has {} bytes", bytes.len()));
        }
        if words.len() > MAX_REQUESTS {
            return Err(format!("has more than {MAX_REQUESTS} requests"));
        }
        let mut numbers = HashMap::new();
        let mut number = |word: &[u8; 4]| {
            let fresh = numbers.len() as u32 + 1;
            *numbers.entry(*word).or_insert(fresh)
        };
        let keys = words.iter().map(&mut number).collect();
        Ok(Self { keys, products: numbers.len() as u32 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_byte_order_plays_no_part() {
        let keys: Vec<u32> = (0..2000).map(|i| 70_000 + i * 37 % 1000).collect();
        let big: Vec<u8> = keys.iter().flat_map(|key| key.to_be_bytes()).collect();
        let little: Vec<u8> = keys.iter().flat_map(|key| key.to_le_bytes()).collect();
        let trace = Trace::parse(&big).unwrap();
        assert_eq!(trace, Trace::parse(&little).unwrap());
        assert_eq!((trace.products, trace.keys.len()), (1000, 2000));
        assert_eq!((&trace.keys[..3], trace.keys[1000]), (&[1, 2, 3][..], 1));
    }

    #[test]
    fn what_is_no_trace_is_refused() {
        assert!(Trace::parse(&[]).unwrap_err().contains("no keys"));
        assert!(Trace::parse(&[1, 2, 3, 4, 5]).unwrap_err().contains("5 bytes"));
    }

    #[test]
    fn every_request_falls_to_one_instance() {
        let trace = Trace { keys: (1..=10).collect(), products: 10 };
        let mut all: Vec<u32> = (0..3)
            .flat_map(|index| {
                let keys = Keys::share_of(&trace, index, 3);
                std::iter::from_fn(move || keys.next()).collect::<Vec<_>>()
            })
            .collect();
        all.sort_unstable();
        assert_eq!(all, trace.keys);
    }

    #[test]
    fn the_first_product_is_asked_for_most() {
        let zipf = Zipf::new(100);
        let mut counts = [0; 101];
        (0..50_000).for_each(|_| counts[zipf.draw() as usize] += 1);
        // Expected: 9,640 and 4,820 and 96; bounds are ten standard deviations away.
        assert!((8_700..10_600).contains(&counts[1]), "{}", counts[1]);
        assert!((4_100..5_500).contains(&counts[2]), "{}", counts[2]);
        assert!(counts[0] == 0 && counts[100] < 200);
    }
}
