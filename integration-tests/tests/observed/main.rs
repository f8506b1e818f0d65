//! What operators see: the text that Prometheus scrapes, the alerts, and the dashboard. The exporter is real, and so is
//! the Prometheus.

mod alerts;
mod causes;
mod files;
mod text;

use std::collections::BTreeMap;

use async_cache::{MemoryBackend, TieredCache};
use integration_tests::observed::{self, Files, Metric};

const FILES: Files =
    Files { rules: "prometheus/rules.yml", dashboard: "grafana/dashboards/async-cache.json" };

/// The metrics of a cache.
fn described() -> BTreeMap<String, Metric> {
    observed::described(async || {
        drop(TieredCache::<u64, u64>::builder().l1(MemoryBackend::new(1)).build().expect("a valid cache"));
    })
}
