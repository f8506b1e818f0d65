//! A Prometheus that belongs to the test.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use integration_tests::ports::free_port;
use serde_json::Value;
use tempfile::TempDir;

use crate::exporter::get;
use crate::files::ops;

/// A server that scrapes the exporter every 200 ms. It is killed when this is dropped.
pub(crate) struct Prometheus {
    process: Child,
    address: SocketAddr,
    _directory: TempDir,
}

/// An alert that fires.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Firing {
    pub(crate) alert: String,
    pub(crate) namespace: String,
}

/// The rules with short times: what takes minutes in operation takes seconds here. Nothing else changes.
pub(crate) fn hurried(rules: &str) -> String {
    let mut text = rules.replace("[5m]", "[5s]").replace("[10m]", "[10s]");
    for wait in ["15s", "30s", "1m", "5m"] {
        text = text.replace(&format!("for: {wait}"), "for: 1s");
    }
    text.replace("lease_age_seconds > 30", "lease_age_seconds > 3")
}

impl Prometheus {
    /// Starts a server with the rules of `ops`, hurried.
    pub(crate) fn start(target: SocketAddr) -> Self {
        let directory = TempDir::with_prefix("async-cache-prometheus-").expect("a temporary directory");
        let rules = std::fs::read_to_string(ops("prometheus/rules.yml")).expect("the rules");
        let config = format!(
            "global: {{scrape_interval: 200ms, scrape_timeout: 200ms, evaluation_interval: 200ms}}\n\
             rule_files: [rules.yml]\n\
             scrape_configs: [{{job_name: async-cache, static_configs: [{{targets: ['{target}']}}]}}]\n"
        );
        std::fs::write(directory.path().join("rules.yml"), hurried(&rules)).expect("a file");
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
    pub(crate) fn firing(&self) -> Vec<Firing> {
        let answer: Value =
            serde_json::from_str(&get(self.address, "/api/v1/alerts").expect("an answer")).expect("JSON");
        let alerts = answer["data"]["alerts"].as_array().expect("alerts").iter();
        let firing = alerts.filter(|alert| alert["state"] == "firing").map(|alert| Firing {
            alert: alert["labels"]["alertname"].as_str().expect("a name").to_owned(),
            namespace: alert["labels"]["namespace"].as_str().unwrap_or_default().to_owned(),
        });
        firing.collect()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
