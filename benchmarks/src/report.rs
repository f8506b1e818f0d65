//! Figures, tables of figures, and their output.

use std::fmt::Write as _;

use serde::Serialize;

/// Everything measured in one run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    machine: Vec<(String, String)>,
    pub(crate) tables: Vec<Table>,
}

/// The figure of one side in one case.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Figure {
    pub(crate) side: String,
    pub(crate) median: Option<f64>,
    /// First and third quartile of the rounds.
    pub(crate) spread: Option<(f64, f64)>,
    /// The reason why there is no figure.
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

/// A case, and every side's figure. The first side is ours.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) case: String,
    pub(crate) figures: Vec<Figure>,
    /// The name of the side that is the limit, if there is one.
    pub(crate) limit: Option<String>,
}

impl Row {
    pub(crate) fn figure(&self, side: &str) -> Option<&Figure> {
        self.figures.iter().find(|figure| figure.side == side)
    }

    fn ours(&self) -> Option<f64> {
        self.figures.first().and_then(|figure| figure.median)
    }

    /// Our figure ÷ the limit.
    fn ratio(&self) -> Option<f64> {
        let limit = self.limit.as_deref().and_then(|side| self.figure(side)).and_then(|figure| figure.median);
        Some(self.ours()? / limit?)
    }
}

/// Which of two figures is the better one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Better {
    Less,
    More,
}

/// Whether the figures of a case are divided by the first one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ratios {
    Shown,
    Meaningless,
}

/// One job.
#[derive(Debug, Serialize)]
pub(crate) struct Table {
    pub(crate) title: String,
    pub(crate) unit: String,
    pub(crate) better: Better,
    pub(crate) rows: Vec<Row>,
    pub(crate) notes: Vec<String>,
    #[serde(skip)]
    ratios: Ratios,
}

/// With more sides than this, each line shows a side instead of a case.
const WIDEST: usize = 5;

impl Table {
    /// A table of costs: lower is better.
    pub(crate) fn new(title: &str, unit: &str) -> Self {
        let (title, unit) = (title.to_owned(), unit.to_owned());
        let (rows, notes) = (Vec::new(), Vec::new());
        Self { title, unit, better: Better::Less, rows, notes, ratios: Ratios::Shown }
    }

    pub(crate) fn more_is_better(mut self) -> Self {
        self.better = Better::More;
        self
    }

    /// Leaves out the ratios, because the sides do different things.
    pub(crate) fn without_ratios(mut self) -> Self {
        self.ratios = Ratios::Meaningless;
        self
    }

    pub(crate) fn row(&mut self, case: impl Into<String>, limit: Option<&str>, figures: Vec<Figure>) {
        self.rows.push(Row { case: case.into(), figures, limit: limit.map(ToOwned::to_owned) });
    }

    pub(crate) fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// The unit, and which direction is better.
    pub(crate) fn scale(&self) -> String {
        let better = if self.better == Better::More { "more" } else { "less" };
        format!("{}; {better} is better", self.unit)
    }

    /// Every side that has a figure, in the order of the first case that has it.
    pub(crate) fn sides(&self) -> Vec<&str> {
        let mut sides: Vec<&str> = Vec::new();
        for figure in self.rows.iter().flat_map(|row| &row.figures) {
            if figure.median.is_some() && !sides.contains(&figure.side.as_str()) {
                sides.push(&figure.side);
            }
        }
        sides
    }

    pub(crate) fn markdown(&self) -> String {
        let sides = self.sides();
        let cell = |row: &Row, side| self.cell(row.figure(side), row.ours());
        let limited = self.rows.iter().any(|row| row.ratio().is_some());
        let ratio = |row: &Row| row.ratio().map_or_else(String::new, |ratio| format!("**{ratio:.2}**"));
        let mut lines: Vec<Vec<String>> = Vec::new();
        if sides.len() <= WIDEST {
            lines.push(std::iter::once("case").chain(sides.iter().copied()).map(str::to_owned).collect());
            for row in &self.rows {
                lines.push(vec![row.case.clone()]);
                lines.last_mut().expect("pushed").extend(sides.iter().map(|side| cell(row, side)));
            }
            if limited {
                lines[0].push("ours ÷ limit".to_owned());
                lines[1..].iter_mut().zip(&self.rows).for_each(|(line, row)| line.push(ratio(row)));
            }
        } else {
            let titled = |title: &str, cell: &dyn Fn(&Row) -> String| {
                std::iter::once(title.to_owned()).chain(self.rows.iter().map(cell)).collect()
            };
            lines.push(titled("side", &|row| row.case.clone()));
            lines.extend(sides.iter().map(|side| titled(side, &|row| cell(row, side))));
            if limited {
                lines.push(titled("**ours ÷ limit**", &ratio));
            }
        }
        let mut out = format!("## {} ({})\n\n", self.title, self.scale());
        for (at, line) in lines.iter().enumerate() {
            writeln!(out, "| {} |", line.join(" | ")).expect("a string");
            if at == 0 {
                writeln!(out, "|---|{}", "---:|".repeat(line.len() - 1)).expect("a string");
            }
        }
        for (side, why) in self.absences() {
            write!(out, "\n* {side}: {why}").expect("a string");
        }
        self.notes.iter().for_each(|note| write!(out, "\n* {note}").expect("a string"));
        out
    }

    /// The sides without figures, and the reasons.
    fn absences(&self) -> Vec<(String, &str)> {
        let mut absences: Vec<(Vec<&str>, &str)> = Vec::new();
        for figure in self.rows.iter().flat_map(|row| &row.figures) {
            let Some(why) = figure.absent.as_deref() else { continue };
            match absences.iter_mut().find(|(_, reason)| *reason == why) {
                Some((sides, _)) if sides.contains(&&*figure.side) => {}
                Some((sides, _)) => sides.push(&figure.side),
                None => absences.push((vec![&figure.side], why)),
            }
        }
        absences.into_iter().map(|(sides, why)| (sides.join(", "), why)).collect()
    }

    /// Median, half the distance of the quartiles, and the ratio to ours.
    fn cell(&self, figure: Option<&Figure>, ours: Option<f64>) -> String {
        let Some((median, (low, high))) = figure.and_then(|figure| Some((figure.median?, figure.spread?)))
        else {
            return "—".to_owned();
        };
        let spread = if high > low { format!(" ±{}", number((high - low) / 2.0)) } else { String::new() };
        match ours {
            Some(ours)
                if ours > 0.0 && (median - ours).abs() > f64::EPSILON && self.ratios == Ratios::Shown =>
            {
                format!("{}{spread} ({:.2}×)", number(median), median / ours)
            }
            _ => format!("{}{spread}", number(median)),
        }
    }
}

pub(crate) fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 1000.0 => thousands(value),
        size if size >= 100.0 || size.fract() == 0.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

fn thousands(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut out = if value < 0.0 { "-".to_owned() } else { String::new() };
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
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
