//! The files in `ops`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::observed::exporter::Metric;

/// A file in `ops`.
#[must_use]
pub fn ops(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../ops").join(name)
}

fn text(name: &str) -> String {
    std::fs::read_to_string(ops(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Alert rules and a dashboard of the same metrics.
#[derive(Debug, Clone, Copy)]
pub struct Files {
    /// The rules, within `ops`.
    pub rules: &'static str,
    /// The dashboard, within `ops`.
    pub dashboard: &'static str,
}

impl Files {
    /// The text of the rules.
    ///
    /// # Panics
    ///
    /// Without the file.
    #[must_use]
    pub fn rules(&self) -> String {
        text(self.rules)
    }

    /// The names of the alerts.
    #[must_use]
    pub fn alerts(&self) -> BTreeSet<String> {
        let rules = self.rules();
        let alerts = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: "));
        alerts.map(ToOwned::to_owned).collect()
    }

    /// The metrics in the rules.
    #[must_use]
    pub fn in_rules(&self) -> BTreeSet<String> {
        names(&self.rules())
    }

    /// The queries of the dashboard.
    ///
    /// # Panics
    ///
    /// If the file is no dashboard.
    #[must_use]
    pub fn queries(&self) -> Vec<String> {
        let dashboard: Value = serde_json::from_str(&text(self.dashboard)).expect("JSON");
        let panels = dashboard["panels"].as_array().expect("panels");
        let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().expect("targets"));
        targets.map(|target| target["expr"].as_str().expect("a query").to_owned()).collect()
    }

    /// The metrics in the queries of the dashboard.
    #[must_use]
    pub fn in_dashboard(&self) -> BTreeSet<String> {
        names(&self.queries().join("\n"))
    }

    /// Fails if the rules or the dashboard name a metric that there is not, or the dashboard lacks one.
    ///
    /// # Panics
    ///
    /// In these cases.
    pub fn check(&self, described: &BTreeMap<String, Metric>) {
        let (rules, dashboard) = (self.in_rules(), self.in_dashboard());
        let stored: BTreeSet<String> = described.iter().flat_map(stored).collect();
        let unknown: Vec<_> = rules.union(&dashboard).filter(|name| !stored.contains(*name)).collect();
        assert!(unknown.is_empty(), "{unknown:?} are not among {stored:?}");
        for (name, metric) in described {
            let name = if metric.kind == "histogram" { format!("{name}_bucket") } else { name.clone() };
            assert!(dashboard.contains(&name), "{name} is not on the dashboard");
        }
    }
}

/// The names that Prometheus stores for a metric of the library.
fn stored((name, metric): (&String, &Metric)) -> Vec<String> {
    match metric.kind {
        "histogram" => ["_bucket", "_sum", "_count"].map(|suffix| name.clone() + suffix).to_vec(),
        _ => vec![name.clone()],
    }
}

/// The names of metrics in a text.
fn names(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words.filter(|word| word.starts_with("async_cache_")).map(ToOwned::to_owned).collect()
}

/// Lets `promtool` check a file: as `config` or as `rules`.
///
/// # Panics
///
/// If it finds a mistake.
pub fn check_with_promtool(what: &str, file: &str) {
    let checked = Command::new("promtool").args(["check", what]).arg(ops(file)).output();
    let checked = checked.expect("promtool is needed: apt-get install prometheus");
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}
