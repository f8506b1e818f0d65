//! The tables as bars.

use std::path::Path;

use plotters::prelude::*;

use crate::report::{Report, Table};

/// Draws every table into `folder`, one file each.
pub(crate) fn draw(report: &Report, folder: &Path) {
    std::fs::create_dir_all(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    for table in &report.tables {
        let name: String =
            table.title.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        let path = folder.join(format!("{}.svg", name.to_lowercase()));
        if let Err(error) = bars(table, &path) {
            eprintln!("{} was not drawn: {error}", path.display());
        }
    }
}

/// One horizontal bar for each case and side, on a logarithmic scale.
fn bars(table: &Table, path: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let bars: Vec<(String, f64, usize)> = table
        .rows
        .iter()
        .flat_map(|row| {
            row.figures.iter().enumerate().filter_map(|(side, figure)| {
                let value = figure.median.filter(|value| *value > 0.0)?;
                Some((format!("{} · {}", row.case, figure.side), value, side))
            })
        })
        .collect();
    let (Some(low), Some(high)) = (
        bars.iter().map(|bar| bar.1).min_by(f64::total_cmp),
        bars.iter().map(|bar| bar.1).max_by(f64::total_cmp),
    ) else {
        return Ok(());
    };
    let root = SVGBackend::new(path, (900, 60 + 18 * bars.len() as u32)).into_drawing_area();
    root.fill(&WHITE)?;
    let scale = ((low / 2.0).ln(), (high * 2.0).ln());
    let x = |value: f64| 380 + (440.0 * (value.ln() - scale.0) / (scale.1 - scale.0)) as i32;
    let text = ("sans-serif", 13).into_font();
    root.draw(&Text::new(format!("{} ({})", table.title, table.unit), (10, 10), ("sans-serif", 18)))?;
    for (at, (label, value, side)) in bars.iter().enumerate() {
        let y = 40 + 18 * at as i32;
        let colour = Palette99::pick(*side);
        root.draw(&Text::new(label.clone(), (10, y), text.clone()))?;
        root.draw(&Rectangle::new([(380, y), (x(*value), y + 13)], colour.filled()))?;
        root.draw(&Text::new(format!("{value:.1}"), (x(*value) + 5, y), text.clone()))?;
    }
    root.present()?;
    Ok(())
}
