//! `GET /metrics`, in the text format of Prometheus.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;

use crate::serve::hub::Hub;
use crate::serve::pulse::{Pulse, View};

/// The counters and gauges as of the last pulse.
pub(crate) async fn metrics(State(hub): State<Arc<Hub>>) -> impl IntoResponse {
    let pulse = Arc::clone(&hub.pulse.borrow());
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text(&pulse))
}

/// A line of a metric: its labels and its value.
type Line = (String, f64);

fn text(pulse: &Pulse) -> String {
    let mut out = String::new();
    let mut family = |name: &str, kind: &str, help: &str, lines: Vec<Line>| {
        let _ = writeln!(out, "# HELP catalogue_{name} {help}\n# TYPE catalogue_{name} {kind}");
        for (labels, value) in lines {
            let _ = writeln!(out, "catalogue_{name}{labels} {value}");
        }
    };
    let each = |value: fn(&View) -> Option<f64>| {
        let line = |view: &View| Some((format!("{{instance=\"{}\"}}", view.instance), value(view)?));
        pulse.instances.iter().filter_map(line).collect::<Vec<_>>()
    };
    let requests = pulse.instances.iter().flat_map(requests).collect();
    family("requests_total", "counter", "Requests of the traffic, by the source of the answer.", requests);
    family("loads_total", "counter", "Loads that began.", each(|view| Some(view.loads as f64)));
    for (name, help, value) in GAUGES {
        family(name, "gauge", help, each(value));
    }
    let promise = &pulse.promise;
    for (name, help, count) in [
        ("database_queries_total", "Queries for a row.", pulse.queries),
        ("checked_reads_total", "Reads that were checked against the promise.", promise.checked),
        ("stale_reads_total", "Reads older than the promise.", promise.stale),
    ] {
        family(name, "counter", help, vec![(String::new(), count as f64)]);
    }
    if let Some(outbox) = &pulse.outbox {
        let alone = |value| vec![(String::new(), value)];
        let at_work = outbox.at_work.map(|instance| (format!("{{instance=\"{instance}\"}}"), 1.0));
        family(
            "outbox_at_work",
            "gauge",
            "1 for the instance whose relay is at work.",
            at_work.into_iter().collect(),
        );
        family("outbox_rows", "gauge", "Rows that wait in the outbox.", alone(outbox.rows as f64));
        family("outbox_oldest_seconds", "gauge", "The age of the oldest of them.", alone(outbox.oldest_s));
        family("outbox_applied_total", "counter", "Rows that were applied.", alone(outbox.applied as f64));
    }
    out
}

/// Its name, its help, and its value for an instance.
type Gauge = (&'static str, &'static str, fn(&View) -> Option<f64>);

/// The gauges of each instance. One without a value has no line.
const GAUGES: [Gauge; 5] = [
    ("up", "1 while the instance runs.", |view| Some(flag(view.alive))),
    ("l1_serves", "1 while the instance's own memory answers.", |view| Some(flag(view.l1_serves))),
    ("l1_entries", "Entries in the instance's own memory.", |view| Some(view.l1_entries as f64)),
    ("pending_invalidations", "Changes that have not reached the shared tier.", |view| {
        Some(view.pending_invalidations as f64)
    }),
    ("invalidation_lag_seconds", "Median time until another's write was shown, over 2 s.", |view| {
        view.lag_ms.map(|lag| lag / 1000.0)
    }),
];

fn flag(is: bool) -> f64 {
    f64::from(u8::from(is))
}

fn requests(view: &View) -> [Line; 6] {
    let (totals, instance) = (view.totals, view.instance);
    [
        ("l1", totals.l1),
        ("l2", totals.l2),
        ("waited", totals.waited),
        ("loaded", totals.loaded),
        ("stale", totals.stale),
        ("failed", totals.failed),
    ]
    .map(|(answer, count)| (format!("{{instance=\"{instance}\",answer=\"{answer}\"}}"), count as f64))
}
