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

fn text(pulse: &Pulse) -> String {
    let mut out = String::new();
    let mut family = |name: &str, kind: &str, help: &str, lines: Vec<(String, f64)>| {
        let _ = writeln!(out, "# HELP catalogue_{name} {help}\n# TYPE catalogue_{name} {kind}");
        for (labels, value) in lines {
            let _ = writeln!(out, "catalogue_{name}{labels} {value}");
        }
    };
    let answers = |view: &View| {
        let totals = view.totals;
        let number = view.instance;
        [
            ("l1", totals.l1),
            ("l2", totals.l2),
            ("waited", totals.waited),
            ("loaded", totals.loaded),
            ("stale", totals.stale),
            ("failed", totals.failed),
        ]
        .map(|(answer, count)| (format!("{{instance=\"{number}\",answer=\"{answer}\"}}"), count as f64))
    };
    family(
        "requests_total",
        "counter",
        "Requests of the traffic, by the source of the answer.",
        pulse.instances.iter().flat_map(answers).collect(),
    );
    let each = |value: &dyn Fn(&View) -> Option<f64>| {
        let line = |view: &View| Some((format!("{{instance=\"{}\"}}", view.instance), value(view)?));
        pulse.instances.iter().filter_map(line).collect::<Vec<_>>()
    };
    family(
        "loads_total",
        "counter",
        "Loads that began on the instance.",
        each(&|view| Some(view.loads as f64)),
    );
    family("up", "gauge", "1 while the instance runs.", each(&|view| Some(f64::from(u8::from(view.alive)))));
    family(
        "l1_serves",
        "gauge",
        "1 while the instance's own memory answers.",
        each(&|view| Some(f64::from(u8::from(view.l1_serves)))),
    );
    family(
        "l1_entries",
        "gauge",
        "Entries in the instance's own memory.",
        each(&|view| Some(view.l1_entries as f64)),
    );
    family(
        "pending_invalidations",
        "gauge",
        "Changes that have not reached the shared tier.",
        each(&|view| Some(view.pending_invalidations as f64)),
    );
    family(
        "invalidation_lag_seconds",
        "gauge",
        "Median time until the instance showed another's write, over 2 s.",
        each(&|view| view.lag_ms.map(|lag| lag / 1000.0)),
    );
    let promise = &pulse.promise;
    for (name, help, count) in [
        ("database_queries_total", "Queries for a row.", pulse.queries),
        ("checked_reads_total", "Reads that were checked against the promise.", promise.checked),
        ("stale_reads_total", "Reads older than the promise.", promise.stale),
    ] {
        family(name, "counter", help, vec![(String::new(), count as f64)]);
    }
    out
}
