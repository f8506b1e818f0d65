//! What operators see of relays and log readers: the alerts and the dashboard. The exporter is real, and so is the
//! Prometheus.

mod alerts;
mod files;
mod logs;
mod tables;

use std::future::pending;

use integration_tests::observed::Files;
use tokio::task::JoinSet;

const FILES: Files =
    Files { rules: "prometheus/outbox.yml", dashboard: "grafana/dashboards/async-cache-outbox.json" };

/// Keeps these things until the tasks end.
fn keep(tasks: &mut JoinSet<()>, things: impl Send + 'static) {
    tasks.spawn(async move {
        let _things = things;
        pending::<()>().await;
    });
}
