//! The files in `ops`: they name only metrics that there are.

use integration_tests::observed::files::check_with_promtool;

use crate::{FILES, described};

/// Whoever adds a metric decides where it is shown.
#[test]
fn alerts_and_dashboard_name_only_metrics_that_there_are_and_the_dashboard_shows_each() {
    let (in_rules, in_dashboard) = (FILES.in_rules(), FILES.in_dashboard());
    assert!(in_rules.len() >= 15 && in_dashboard.len() >= 25, "{in_rules:?} {in_dashboard:?}");
    FILES.check(&described());
}

#[test]
fn prometheus_accepts_its_files() {
    // The configuration names every file of rules.
    check_with_promtool("config", "prometheus/prometheus.yml");
    check_with_promtool("rules", FILES.rules);
}
