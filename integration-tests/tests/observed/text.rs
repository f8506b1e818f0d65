//! The text that Prometheus scrapes.

use std::collections::BTreeMap;
use std::time::Duration;

use async_cache::testing::{No, until};
use integration_tests::fleet::Fleet;
use integration_tests::observed::exporter::{address, get};

use crate::described;

/// A line with a figure.
#[derive(Debug)]
pub(crate) struct Series {
    pub(crate) name: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) value: f64,
}

/// The metrics in the text: their kinds by name, and all series.
#[derive(Debug, Default)]
pub(crate) struct Scraped {
    pub(crate) kinds: BTreeMap<String, String>,
    pub(crate) helps: BTreeMap<String, String>,
    pub(crate) series: Vec<Series>,
}

/// Reads the text format. A line that it does not allow is an error.
pub(crate) fn parse(text: &str) -> Result<Scraped, String> {
    let mut scraped = Scraped::default();
    for line in text.lines().filter(|line| !line.is_empty()) {
        let wrong = || format!("a line that is none: {line:?}");
        if let Some(comment) = line.strip_prefix("# ") {
            let mut words = comment.splitn(3, ' ');
            let (Some(what), Some(name), Some(rest)) = (words.next(), words.next(), words.next()) else {
                return Err(wrong());
            };
            let into = match what {
                "HELP" => &mut scraped.helps,
                "TYPE" => &mut scraped.kinds,
                _ => return Err(wrong()),
            };
            into.insert(name.to_owned(), rest.to_owned());
            continue;
        }
        let (series, value) = line.rsplit_once(' ').ok_or_else(wrong)?;
        let (name, labels) = match series.split_once('{') {
            Some((name, labels)) => (name, labels.strip_suffix('}').ok_or_else(wrong)?),
            None => (series, ""),
        };
        let is_name = |name: &str| {
            let mut bytes = name.bytes();
            bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
                && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        };
        let mut parsed = BTreeMap::new();
        for label in labels.split(',').filter(|label| !label.is_empty()) {
            let (key, value) = label.split_once('=').ok_or_else(wrong)?;
            let value =
                value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).ok_or_else(wrong)?;
            if !is_name(key) {
                return Err(wrong());
            }
            parsed.insert(key.to_owned(), value.to_owned());
        }
        let value = value.parse().map_err(|_| wrong())?;
        if !is_name(name) {
            return Err(wrong());
        }
        scraped.series.push(Series { name: name.to_owned(), labels: parsed, value });
    }
    Ok(scraped)
}

impl Scraped {
    /// The figure with these labels.
    fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let fits = |series: &&Series| {
            series.name == name
                && labels.iter().all(|(key, value)| series.labels.get(*key).is_some_and(|has| has == value))
        };
        self.series.iter().find(fits).map(|series| series.value)
    }
}

/// Two nodes on Redis, some of every operation, and one scrape.
#[tokio::test]
async fn every_metric_is_in_it_with_its_kind_its_help_and_few_labels() {
    let address = address();
    let fleet = Fleet::redis();
    let node = fleet.node_with(|builder| builder.namespace("scraped")).await;
    let other = fleet.node_with(|builder| builder.namespace("scraped")).await;
    for key in ["a", "b"] {
        node.get_or_load(key, || async { Ok::<_, No>(1) }).tag("t").await.unwrap();
        node.get(key).await.unwrap();
    }
    let slow = || async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        Ok::<_, No>(1)
    };
    let (first, second, third) =
        tokio::join!(node.get_or_load("c", slow), node.get_or_load("c", slow), other.get_or_load("c", slow));
    let _ = (first.unwrap(), second.unwrap(), third.unwrap());
    node.insert("d", 2).await.unwrap();
    node.invalidate("a").await.unwrap();
    node.invalidate_tag("t").await.unwrap();
    node.invalidate_all().await.unwrap();
    other.shutdown().await;
    let hits = node.stats().l1_hits;
    let scrape = || parse(&get(address, "/metrics").expect("the exporter answers")).expect("the text format");
    let ours = [("namespace", "scraped")];
    until("the counts are published", || {
        let scraped = scrape();
        scraped.value("async_cache_l1_hits_total", &ours) == Some(hits as f64)
            && scraped
                .value("async_cache_invalidation_lag_seconds_count", &ours)
                .is_some_and(|count| count > 2.0)
    })
    .await;

    let scraped = scrape();
    for (name, metric) in described() {
        assert_eq!(scraped.kinds.get(&name).map(String::as_str), Some(metric.kind), "{name}");
        assert!(
            scraped.helps.get(&name).is_some_and(|help| help.len() > 20),
            "{name}: {:?}",
            scraped.helps.get(&name)
        );
    }
    for series in scraped.series.iter().filter(|series| series.name.starts_with("async_cache_")) {
        assert!(series.labels.contains_key("namespace"), "{series:?}");
        let known = ["namespace", "command", "for", "le"];
        assert!(series.labels.keys().all(|label| known.contains(&label.as_str())), "{series:?}");
        assert!(series.value >= 0.0, "{series:?}");
    }
    for (name, label, value) in [
        ("l2_read", "command", "lease"),
        ("l2_read", "command", "read"),
        ("l2_write", "command", "fill"),
        ("l2_write", "command", "put"),
        ("l2_write", "command", "invalidate"),
        ("l2_write", "command", "invalidate_tags"),
        ("l2_write", "command", "clear"),
        ("wait", "for", "flight"),
        ("wait", "for", "lease"),
    ] {
        let name = format!("async_cache_{name}_seconds_count");
        let count = scraped.value(&name, &[ours[0], (label, value)]);
        assert!(count.is_some_and(|count| count >= 1.0), "{name} {value}: {count:?}");
    }
}
