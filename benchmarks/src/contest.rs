//! Lets sides take turns. Every round runs each side once, so that other load on the machine
//! affects all sides equally.

use std::cell::RefCell;

use crate::report::Figure;

/// One side of a contest. Each call is a round and returns its figure; `Err` says why there is none.
pub(crate) struct Side<'a> {
    name: String,
    round: Box<dyn FnMut() -> Result<f64, String> + 'a>,
}

impl<'a> Side<'a> {
    pub(crate) fn new(name: impl Into<String>, mut round: impl FnMut() -> f64 + 'a) -> Self {
        Self::fallible(name, move || Ok(round()))
    }

    pub(crate) fn fallible(name: impl Into<String>, round: impl FnMut() -> Result<f64, String> + 'a) -> Self {
        Self { name: name.into(), round: Box::new(round) }
    }
}

/// Runs every side once to warm up, then `rounds` times in turn.
pub(crate) fn contest(rounds: usize, mut sides: Vec<Side<'_>>) -> Vec<Figure> {
    let mut samples: Vec<Result<Vec<f64>, String>> =
        sides.iter_mut().map(|side| (side.round)().map(|_| Vec::new())).collect();
    for round in 0..rounds {
        for turn in 0..sides.len() {
            let at = (round + turn) % sides.len();
            if let Ok(taken) = &mut samples[at] {
                match (sides[at].round)() {
                    Ok(figure) => taken.push(figure),
                    Err(why) => samples[at] = Err(why),
                }
            }
        }
    }
    sides.into_iter().zip(samples).map(|(side, samples)| Figure::of(side.name, samples)).collect()
}

/// Counts that sides return beside the time (loads, batches), as the maximum over all rounds.
#[derive(Default)]
pub(crate) struct Most(RefCell<Vec<(String, u64)>>);

impl Most {
    pub(crate) fn note(&self, side: &str, count: u64) {
        let mut counts = self.0.borrow_mut();
        match counts.iter_mut().find(|(name, _)| name == side) {
            Some((_, most)) => *most = count.max(*most),
            None => counts.push((side.to_owned(), count)),
        }
    }

    pub(crate) fn figures(self) -> Vec<Figure> {
        self.0.into_inner().into_iter().map(|(side, most)| Figure::one(side, most as f64)).collect()
    }
}
