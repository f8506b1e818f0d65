//! The figures as a table for people.

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{Cell, CellAlignment, ContentArrangement, Table};
use indicatif::HumanCount;

use crate::figures::{Figures, Quantiles};

/// The narrowest terminal in use, in columns.
const WIDTH: u16 = 80;

/// The figures as a table with explanations.
pub(crate) fn render(figures: &Figures) -> String {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    table.set_content_arrangement(ContentArrangement::Dynamic).set_width(WIDTH);
    for [what, figure, meaning] in rows(figures) {
        table.add_row([
            Cell::new(what),
            Cell::new(figure).set_alignment(CellAlignment::Right),
            Cell::new(meaning),
        ]);
    }
    let products = plural(figures.products.into(), "product", "products");
    format!("{products} in SQLite; {}\n{table}", figures.mode)
}

fn rows(f: &Figures) -> Vec<[String; 3]> {
    let row = |what: &str, figure: String, meaning: String| [what.to_owned(), figure, meaning];
    let share = |what: &str, part: u64, latency: &Quantiles| {
        let share = if f.requests == 0 { 0.0 } else { 100.0 * part as f64 / f.requests as f64 };
        row(what, format!("{share:.1} %"), format!("{}; {}", HumanCount(part), took(latency)))
    };
    let (lag, cold) = (&f.invalidation_lag, &f.cold_key);
    let failed =
        |count: u64| if count == 0 { String::new() } else { format!("; {} FAILED", HumanCount(count)) };
    vec![
        row(
            "Requests",
            count(f.requests),
            format!(
                "{}/s over {:.1} s{}",
                count(f.requests_per_second as u64),
                f.traffic_seconds,
                failed(f.failed_requests)
            ),
        ),
        share("  answered by the instance's own memory (L1)", f.l1_hits, &f.latency.l1_hit),
        share("  answered by the shared tier (L2)", f.l2_hits, &f.latency.l2_hit),
        share("  answered by waiting for another's query", f.waits, &f.latency.wait),
        share("  answered by a query of their own", f.loads, &f.latency.load),
        row(
            "Database queries",
            count(f.database_queries),
            format!("{} saved ({:.1} %)", count(f.database_queries_saved), f.database_queries_saved_percent),
        ),
        row(
            "  for one product at the same time, at most",
            count(f.max_concurrent_loads_of_one_key as u64),
            format!(
                "over all instances; only a write may cause a second: {} came without one",
                count(f.duplicate_loads)
            ),
        ),
        row(
            "One cold product, asked for at once",
            plural(cold.loads, "query", "queries"),
            format!(
                "by {} tasks; the slowest had it after {:.0} ms, of which the query took {:.0}{}",
                count(cold.tasks.into()),
                cold.slowest_caller_ms,
                cold.loader_ms,
                failed(cold.failed_tasks.into())
            ),
        ),
        row(
            "Writes",
            count(f.writes),
            format!("each: SQL UPDATE, commit, then invalidate{}", failed(f.failed_writes)),
        ),
        row(
            "  until the other instances show them",
            format!("{:.2} ms", lag.p50_ms),
            format!("p50; p99 {:.2} ms, max {:.2} ms ({} seen)", lag.p99_ms, lag.max_ms, count(lag.count)),
        ),
        row(
            "Reads checked",
            count(f.checked_reads),
            format!("{} of a product written less than 10 s before", count(f.at_risk_reads)),
        ),
        row(
            "  not the newest version, within the promise",
            count(f.behind_reads),
            format!("the furthest behind by {:.2} ms", f.furthest_behind_ms),
        ),
        row(
            "  older than the promise",
            count(f.stale_reads),
            format!(
                "promised: at most {:.0} s, and not at all where it was written",
                f.max_staleness_ms / 1000.0
            ),
        ),
    ]
}

fn count(number: u64) -> String {
    HumanCount(number).to_string()
}

fn plural(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { many })
}

fn took(latency: &Quantiles) -> String {
    if latency.count == 0 {
        return "none".into();
    }
    format!("p50 {}, p99 {}", time(latency.p50_ms), time(latency.p99_ms))
}

fn time(ms: f64) -> String {
    if ms < 0.1 { format!("{:.1} µs", ms * 1000.0) } else { format!("{ms:.2} ms") }
}
