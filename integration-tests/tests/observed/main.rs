//! What operators see: the text that Prometheus scrapes, the alerts, and the dashboard. The exporter is real, and so is
//! the Prometheus.

mod alerts;
mod causes;
mod exporter;
mod files;
mod prometheus;
mod text;
