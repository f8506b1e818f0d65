//! A Prometheus that belongs to the test.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::observed::exporter::get;
use crate::ports::free_port;

/// The time in which all alerts must fire. They take about ten seconds.
const PATIENCE: Duration = Duration::from_secs(120);

/// The labels that say what an alert is about.
const SUBJECTS: [&str; 3] = ["namespace", "table", "slot"];

/// A server that scrapes the exporter every 200 ms. It is killed when this is dropped.
#[derive(Debug)]
pub struct Prometheus {
    process: Child,
    address: SocketAddr,
    _directory: TempDir,
}

/// An alert that fires.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Firing {
    /// Its name.
    pub alert: String,
    /// The namespace, table or slot.
    pub about: String,
}

/// The rules with short times: what takes minutes in operation takes seconds here. `limits` are changed, too.
///
/// # Panics
///
/// If the rules lack a limit.
#[must_use]
pub fn hurried(rules: &str, limits: &[(&str, &str)]) -> String {
    let mut text = rules.replace("[5m]", "[5s]").replace("[10m]", "[10s]");
    for wait in ["15s", "30s", "1m", "2m", "5m"] {
        text = text.replace(&format!("for: {wait}"), "for: 1s");
    }
    for (limit, here) in limits {
        assert!(text.contains(limit), "the rules lack `{limit}`");
        text = text.replace(limit, here);
    }
    text
}

impl Prometheus {
    /// Starts a server with rules.
    ///
    /// # Panics
    ///
    /// If Prometheus is not installed or does not start.
    #[must_use]
    pub fn start(target: SocketAddr, rules: &str) -> Self {
        let directory = TempDir::with_prefix("async-cache-prometheus-").expect("a temporary directory");
        let config = format!(
            "global: {{scrape_interval: 200ms, scrape_timeout: 200ms, evaluation_interval: 200ms}}\n\
             rule_files: [rules.yml]\n\
             scrape_configs: [{{job_name: async-cache, static_configs: [{{targets: ['{target}']}}]}}]\n"
        );
        std::fs::write(directory.path().join("rules.yml"), rules).expect("a file");
        let file = directory.path().join("prometheus.yml");
        std::fs::write(&file, config).expect("a file");
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let mut command = Command::new("prometheus");
        command.arg(format!("--config.file={}", file.display()));
        command.arg(format!("--storage.tsdb.path={}", directory.path().join("data").display()));
        command.args([format!("--web.listen-address={address}"), "--log.level=error".to_owned()]);
        let process = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        let process = process.expect("prometheus is needed: apt-get install prometheus");
        let server = Self { process, address, _directory: directory };
        let start = Instant::now();
        while let Err(error) = get(address, "/-/ready") {
            assert!(start.elapsed() < Duration::from_secs(30), "prometheus did not start: {error}");
            std::thread::sleep(Duration::from_millis(20));
        }
        server
    }

    /// The alerts that fire now.
    ///
    /// # Panics
    ///
    /// If the server does not answer.
    #[must_use]
    pub fn firing(&self) -> Vec<Firing> {
        let answer: Value =
            serde_json::from_str(&get(self.address, "/api/v1/alerts").expect("an answer")).expect("JSON");
        let alerts = answer["data"]["alerts"].as_array().expect("alerts").iter();
        let about = |alert: &Value| {
            SUBJECTS.iter().find_map(|label| alert["labels"][label].as_str().map(ToOwned::to_owned))
        };
        let firing = alerts.filter(|alert| alert["state"] == "firing").map(|alert| Firing {
            alert: alert["labels"]["alertname"].as_str().expect("a name").to_owned(),
            about: about(alert).unwrap_or_default(),
        });
        firing.collect()
    }

    /// Waits until each of these alerts has fired, and gives every alert that fires meanwhile to `allowed`.
    ///
    /// # Panics
    ///
    /// If one does not fire in two minutes, or one fires that is not allowed.
    pub async fn fires(&self, expected: &[(&str, &str)], allowed: impl Fn(&Firing) -> bool) {
        let firing =
            |(alert, about): &(&str, &str)| Firing { alert: (*alert).to_owned(), about: (*about).to_owned() };
        let mut missing: BTreeSet<Firing> = expected.iter().map(firing).collect();
        let start = Instant::now();
        while !missing.is_empty() {
            for firing in self.firing() {
                assert!(allowed(&firing), "{firing:?}: nothing is wrong there");
                if missing.remove(&firing) {
                    println!("{:5.1} s: {firing:?}", start.elapsed().as_secs_f64());
                }
            }
            let late = start.elapsed() >= PATIENCE;
            assert!(!late, "not within {PATIENCE:?}: {missing:?}; others: {:?}", self.firing());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Asks the queries of a dashboard.
    ///
    /// # Panics
    ///
    /// If one is refused or returns nothing.
    pub fn answers(&self, queries: &[String]) {
        for query in queries {
            let mut query = query.replace("$__rate_interval", "30s");
            for variable in SUBJECTS {
                query = query.replace(&format!("${variable}"), ".*");
            }
            let path = format!("/api/v1/query?query={}", encoded(&query));
            let answer = get(self.address, &path).unwrap_or_else(|error| panic!("{query}: {error}"));
            let answer: Value = serde_json::from_str(&answer).expect("JSON");
            let series = answer["data"]["result"].as_array().expect("a result");
            assert!(!series.is_empty(), "{query} returns nothing");
        }
    }
}

/// The text in a URL.
fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    text.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
