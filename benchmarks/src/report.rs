//! Figures, tables of them, and how they are shown.

use std::fmt::Write as _;

use serde::Serialize;

/// Everything measured in one run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    machine: Vec<(String, String)>,
    pub(crate) tables: Vec<Table>,
}

/// What one side did in one case.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Figure {
    pub(crate) side: String,
    pub(crate) median: Option<f64>,
    /// First and third quartile of the rounds.
    pub(crate) spread: Option<(f64, f64)>,
    /// Why there is no figure.
    pub(crate) absent: Option<String>,
}

impl Figure {
    pub(crate) fn of(side: String, samples: Result<Vec<f64>, String>) -> Self {
        match samples {
            Ok(mut samples) if !samples.is_empty() => {
                samples.sort_by(f64::total_cmp);
                let at = |share: f64| samples[((samples.len() - 1) as f64 * share).round() as usize];
                Self { side, median: Some(at(0.5)), spread: Some((at(0.25), at(0.75))), absent: None }
            }
            Ok(_) => Self { side, median: None, spread: None, absent: Some("no round".to_owned()) },
            Err(why) => Self { side, median: None, spread: None, absent: Some(why) },
        }
    }

    pub(crate) fn one(side: impl Into<String>, value: f64) -> Self {
        Self::of(side.into(), Ok(vec![value]))
    }
}

/// One line: a case, and every side's figure. The first side is ours.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) case: String,
    pub(crate) figures: Vec<Figure>,
    /// The name of the side that is the limit, as far as there is one.
    pub(crate) limit: Option<String>,
}

/// One job.
#[derive(Debug, Serialize)]
pub(crate) struct Table {
    pub(crate) title: String,
    pub(crate) unit: String,
    pub(crate) rows: Vec<Row>,
    pub(crate) notes: Vec<String>,
}

impl Table {
    pub(crate) fn new(title: &str, unit: &str) -> Self {
        Self { title: title.to_owned(), unit: unit.to_owned(), rows: Vec::new(), notes: Vec::new() }
    }

    pub(crate) fn row(&mut self, case: impl Into<String>, limit: Option<&str>, figures: Vec<Figure>) {
        self.rows.push(Row { case: case.into(), figures, limit: limit.map(ToOwned::to_owned) });
    }

    pub(crate) fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    fn sides(&self) -> Vec<&str> {
        let mut sides: Vec<&str> = Vec::new();
        for figure in self.rows.iter().flat_map(|row| &row.figures) {
            if !sides.contains(&figure.side.as_str()) {
                sides.push(&figure.side);
            }
        }
        sides
    }

    pub(crate) fn markdown(&self) -> String {
        let sides = self.sides();
        let mut out = format!("## {} ({})\n\n| case |", self.title, self.unit);
        sides.iter().for_each(|side| write!(out, " {side} |").expect("a string"));
        out.push_str(" ours ÷ limit |\n|---|");
        sides.iter().for_each(|_| out.push_str("---:|"));
        out.push_str("---:|\n");
        for row in &self.rows {
            write!(out, "| {} |", row.case).expect("a string");
            let find = |side: &str| row.figures.iter().find(|figure| figure.side == side);
            let ours = row.figures.first().and_then(|figure| figure.median);
            for side in &sides {
                out.push_str(&cell(find(side), ours));
            }
            let limit = row.limit.as_deref().and_then(find).and_then(|figure| figure.median);
            match (ours, limit) {
                (Some(ours), Some(limit)) => writeln!(out, " **{:.2}** |", ours / limit),
                _ => writeln!(out, " |"),
            }
            .expect("a string");
        }
        for (side, why) in self.absences() {
            write!(out, "\n* {side}: {why}").expect("a string");
        }
        self.notes.iter().for_each(|note| write!(out, "\n* {note}").expect("a string"));
        out
    }

    fn absences(&self) -> Vec<(&str, &str)> {
        let figures = self.rows.iter().flat_map(|row| &row.figures);
        let mut absences: Vec<_> =
            figures.filter_map(|figure| Some((&*figure.side, figure.absent.as_deref()?))).collect();
        absences.sort_unstable();
        absences.dedup();
        absences
    }
}

/// Median, half the distance of the quartiles, and the ratio to ours.
fn cell(figure: Option<&Figure>, ours: Option<f64>) -> String {
    let Some((median, (low, high))) = figure.and_then(|figure| Some((figure.median?, figure.spread?))) else {
        return " — |".to_owned();
    };
    let spread = if high > low { format!(" ±{}", number((high - low) / 2.0)) } else { String::new() };
    match ours {
        Some(ours) if ours > 0.0 && (median - ours).abs() > f64::EPSILON => {
            format!(" {}{spread} ({:.2}×) |", number(median), median / ours)
        }
        _ => format!(" {}{spread} |", number(median)),
    }
}

fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 1000.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

impl Report {
    pub(crate) fn new(machine: Vec<(String, String)>) -> Self {
        Self { machine, tables: Vec::new() }
    }

    pub(crate) fn head(&self) -> String {
        let mut out = "# Benchmarks\n\n".to_owned();
        for (what, value) in &self.machine {
            writeln!(out, "* {what}: {value}").expect("a string");
        }
        out.push_str(
            "\nMedians of interleaved rounds ± half the distance of their quartiles; in brackets the ratio to async-cache.\n",
        );
        out
    }
}
