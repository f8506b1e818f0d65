//! Sides that take turns: every round runs each of them once, so that what else the machine does
//! falls on all alike.

use crate::report::Figure;

/// One side of a contest. A call is a round, and gives its figure; `Err` says why there is none.
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
