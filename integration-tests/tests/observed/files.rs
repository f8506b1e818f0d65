//! The files in `ops`: they name only metrics that there are.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::exporter::described;

/// A file in `ops`.
pub(crate) fn ops(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../ops").join(name)
}

/// The names of metrics in a text.
fn names(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words.filter(|word| word.starts_with("async_cache_")).map(ToOwned::to_owned).collect()
}

/// The names that Prometheus stores for the metrics of the library.
fn stored() -> BTreeSet<String> {
    let described = described().into_iter();
    let all = described.flat_map(|(name, kind)| match kind {
        "histogram" => ["_bucket", "_sum", "_count"].map(|suffix| name.clone() + suffix).to_vec(),
        _ => vec![name],
    });
    all.collect()
}

/// The queries of the dashboard.
fn queries() -> Vec<String> {
    let text = std::fs::read_to_string(ops("grafana/dashboards/async-cache.json")).expect("the dashboard");
    let dashboard: Value = serde_json::from_str(&text).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().expect("targets"));
    targets.map(|target| target["expr"].as_str().expect("a query").to_owned()).collect()
}

#[test]
fn alerts_and_dashboard_name_only_metrics_that_there_are() {
    let stored = stored();
    let rules = std::fs::read_to_string(ops("prometheus/rules.yml")).expect("the rules");
    let (in_rules, in_dashboard) = (names(&rules), names(&queries().join("\n")));
    assert!(in_rules.len() >= 15 && in_dashboard.len() >= 25, "{in_rules:?} {in_dashboard:?}");
    let unknown: Vec<_> = in_rules.union(&in_dashboard).filter(|name| !stored.contains(*name)).collect();
    assert!(unknown.is_empty(), "{unknown:?} are not among {stored:?}");
}

/// Whoever adds a metric decides where it is shown.
#[test]
fn the_dashboard_shows_every_metric() {
    let shown = names(&queries().join("\n"));
    for (name, kind) in described() {
        let name = if kind == "histogram" { name + "_bucket" } else { name };
        assert!(shown.contains(&name), "{name} is not on the dashboard");
    }
}

#[test]
fn prometheus_accepts_its_files() {
    for arguments in
        [["check", "config", "prometheus/prometheus.yml"], ["check", "rules", "prometheus/rules.yml"]]
    {
        let [check, what, file] = arguments;
        let checked = Command::new("promtool").args([check, what]).arg(ops(file)).output();
        let checked = checked.expect("promtool is needed: apt-get install prometheus");
        assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    }
}
