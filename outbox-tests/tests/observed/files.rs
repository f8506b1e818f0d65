//! The files in `ops`: they name only metrics that there are. And the descriptions of these metrics.

use std::collections::BTreeMap;

use async_cache_outbox::{ChangeLog, Outbox};
use integration_tests::observed::files::check_with_promtool;
use integration_tests::observed::{Metric, described};
use metrics::Unit;
use outbox_tests::scene::two_nodes;
use sqlx::{PgPool, Sqlite, SqlitePool};

use crate::FILES;

/// The metrics of a relay and a log reader. They need no database for that.
fn of_the_outbox() -> BTreeMap<String, Metric> {
    let mut described = described(async || {
        let (_l2, [here, _]) = two_nodes().await;
        let pool = SqlitePool::connect_lazy("sqlite::memory:").expect("a URL");
        let relay = Outbox::<Sqlite>::new().relay(&pool).cache(&here).start();
        let pool = PgPool::connect_lazy("postgres://nobody@127.0.0.1:1/none").expect("a URL");
        let log = ChangeLog::new("log").expect("a valid name");
        let reader = log.reader(&pool).cache(&here).table("items", &here, |_, _| Ok(())).start();
        let _ = (relay.expect("a valid relay"), reader.expect("a valid reader"));
    });
    described
        .retain(|name, _| ["async_cache_outbox_", "async_cache_log_"].iter().any(|of| name.starts_with(of)));
    described
}

#[test]
fn every_metric_is_described_with_its_unit() {
    let described = of_the_outbox();
    assert_eq!(described.len(), 18, "{described:?}");
    for (name, Metric { kind, unit, text }) in described {
        let expected = match name.rsplit('_').next() {
            Some("seconds") => Unit::Seconds,
            Some("bytes") => Unit::Bytes,
            _ => Unit::Count,
        };
        assert_eq!(unit, Some(expected), "{name}");
        assert_eq!(name.ends_with("_total"), kind == "counter", "{name}");
        assert!(text.ends_with('.') && text.len() > 20, "{name}: {text}");
    }
}

/// Whoever adds a metric decides where it is shown.
#[test]
fn alerts_and_dashboard_name_only_metrics_that_there_are_and_the_dashboard_shows_each() {
    let (in_rules, in_dashboard) = (FILES.in_rules(), FILES.in_dashboard());
    assert!(in_rules.len() >= 13 && in_dashboard.len() >= 18, "{in_rules:?} {in_dashboard:?}");
    FILES.check(&of_the_outbox());
}

#[test]
fn prometheus_accepts_the_rules() {
    check_with_promtool("rules", FILES.rules);
}
