//! Draws the tables as bars.

use std::path::Path;

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::report::{Report, Table, number};

const WIDTH: u32 = 960;
/// The start of the bars, and their room.
const LEFT: i32 = 270;
const SPACE: i32 = 560;
const TOP: i32 = 76;
const LINE: i32 = 18;
const GREY: RGBColor = RGBColor(120, 120, 120);
const OURS: RGBColor = RGBColor(200, 60, 30);
const OTHERS: RGBColor = RGBColor(110, 140, 180);

/// Draws every table into `folder`, one file each.
pub(crate) fn draw(report: &Report, folder: &Path) {
    std::fs::create_dir_all(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    for table in &report.tables {
        let path = folder.join(format!("{}.svg", file_name(&table.title)));
        if let Err(error) = bars(table, &path) {
            eprintln!("{} was not drawn: {error}", path.display());
        }
    }
}

fn file_name(title: &str) -> String {
    let words = title.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join("-").to_lowercase()
}

/// A line of the picture.
enum Line<'a> {
    Case(&'a str),
    Bar { side: &'a str, value: f64, spread: (f64, f64) },
    Gap,
}

fn lines(table: &Table) -> Vec<Line<'_>> {
    let mut lines = Vec::new();
    for row in &table.rows {
        lines.push(Line::Case(&row.case));
        for figure in &row.figures {
            // A logarithmic scale has no zero.
            if let (Some(value), Some(spread)) = (figure.median.filter(|value| *value > 0.0), figure.spread) {
                lines.push(Line::Bar { side: &figure.side, value, spread });
            }
        }
        lines.push(Line::Gap);
    }
    lines
}

/// The scale starts at zero if the figures are close to each other. Otherwise it is logarithmic.
#[derive(Clone, Copy)]
enum Scale {
    Linear { high: f64 },
    Logarithmic { low: f64, high: f64 },
}

impl Scale {
    fn around(lines: &[Line<'_>]) -> Option<Self> {
        let values = || {
            lines.iter().filter_map(|line| match line {
                Line::Bar { value, spread, .. } => Some((*value, spread.1)),
                _ => None,
            })
        };
        let least = values().map(|(value, _)| value).min_by(f64::total_cmp)?;
        let most = values().map(|(_, highest)| highest).max_by(f64::total_cmp)?;
        if most < least * 10.0 {
            return Some(Self::Linear { high: most });
        }
        // The bar of the smallest value must be visible.
        let low = rounds(least / 20.0).filter(|round| *round <= least / 1.5).last()?;
        Some(Self::Logarithmic { low, high: rounds(most).find(|round| *round >= most)? })
    }

    fn x(self, value: f64) -> i32 {
        let share = match self {
            Self::Linear { high } => value / high,
            Self::Logarithmic { low, high } => (value / low).ln() / (high / low).ln(),
        };
        LEFT + (f64::from(SPACE) * share.clamp(0.0, 1.0)) as i32
    }

    /// The positions of grid lines, few enough to be distinguished.
    fn ticks(self) -> Vec<f64> {
        match self {
            Self::Linear { high } => {
                let step = rounds(high / 100.0).find(|step| high / step <= 6.0).unwrap_or(high);
                (0..=(high / step) as u32).map(|tick| f64::from(tick) * step).collect()
            }
            Self::Logarithmic { low, high } => {
                let decades = (high / low).log10();
                let whole = |round: &f64| (round.log10() - round.log10().round()).abs() < 1e-6;
                let all = rounds(low).filter(|round| (low..=high).contains(round));
                all.filter(|round| decades < 3.0 || whole(round)).collect()
            }
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Linear { .. } => "",
            Self::Logarithmic { .. } => "Logarithmic scale. ",
        }
    }
}

/// Round numbers: 1, 2, 5 and so on, from the decade of `from` upwards, for ten decades.
fn rounds(from: f64) -> impl Iterator<Item = f64> {
    let first = from.log10().floor() as i32;
    (first..first + 10).flat_map(|decade| [1.0, 2.0, 5.0].map(|step| step * 10_f64.powi(decade)))
}

fn aligned(size: i32, at: HPos, colour: &RGBColor) -> TextStyle<'_> {
    TextStyle::from(("sans-serif", size).into_font()).pos(Pos::new(at, VPos::Center)).color(colour)
}

/// A bar for each side, below its case. Sides of this project have another colour.
fn bars(table: &Table, path: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let lines = lines(table);
    let Some(scale) = Scale::around(&lines) else { return Ok(()) };
    let height = TOP + LINE * lines.len() as i32 + 10;
    let root = SVGBackend::new(path, (WIDTH, height as u32)).into_drawing_area();
    root.fill(&WHITE)?;
    root.draw(&Text::new(table.title.clone(), (10, 18), aligned(20, HPos::Left, &BLACK)))?;
    let scale_text = format!("{}. {}Thin: quartiles of the rounds", table.scale(), scale.name());
    root.draw(&Text::new(scale_text, (10, 40), aligned(13, HPos::Left, &GREY)))?;
    for tick in scale.ticks() {
        let x = scale.x(tick);
        root.draw(&PathElement::new([(x, TOP - 6), (x, height - 10)], RGBColor(225, 225, 225)))?;
        root.draw(&Text::new(number(tick), (x, TOP - 14), aligned(12, HPos::Center, &GREY)))?;
    }
    for (at, line) in lines.iter().enumerate() {
        let y = TOP + LINE * at as i32 + LINE / 2;
        match line {
            Line::Gap => {}
            Line::Case(case) => {
                root.draw(&Text::new((*case).to_owned(), (10, y), aligned(14, HPos::Left, &BLACK)))?;
            }
            Line::Bar { side, value, spread } => {
                let ours = *side == "async-cache" || side.starts_with("async-cache on ");
                let colour = if ours { OURS } else { OTHERS };
                let (end, far) = (scale.x(*value), scale.x(spread.1));
                root.draw(&Text::new((*side).to_owned(), (LEFT - 8, y), aligned(12, HPos::Right, &BLACK)))?;
                root.draw(&Rectangle::new([(LEFT, y - 6), (end, y + 6)], colour.filled()))?;
                root.draw(&PathElement::new([(scale.x(spread.0), y), (far, y)], BLACK))?;
                let label = (end.max(far) + 6, y);
                root.draw(&Text::new(number(*value), label, aligned(12, HPos::Left, &BLACK)))?;
            }
        }
    }
    root.present()?;
    Ok(())
}
