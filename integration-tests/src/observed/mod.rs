//! What operators see: an exporter, a Prometheus, and the files in `ops`.

pub mod exporter;
pub mod files;
pub mod prometheus;

pub use exporter::{Metric, described};
pub use files::Files;
pub use prometheus::{Firing, Prometheus};
