//! The jobs. Each prints one or two tables.

mod churn;
mod fanout;
mod growth;
mod l1;
mod l2;
mod loader;
mod memory;
mod stampede;

use std::future::Future;
use std::pin::pin;
use std::task::{Context as Poller, Poll, Waker};
use std::time::Duration;

use async_cache::{CacheKey, TieredCache};
use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;

use crate::report::Table;
use crate::{Context, Job};

pub(crate) fn run(job: Job, context: &mut Context) -> Vec<Table> {
    context.redis.flush();
    match job {
        Job::L1 => vec![l1::run(context)],
        Job::Churn => vec![churn::inserts(context), churn::ratios()],
        Job::L2 => vec![l2::throughput(context), l2::latency(context)],
        Job::Cold => vec![l2::cold(context)],
        Job::Stampede => stampede::run(context),
        Job::Fanout => fanout::run(context, &[1, 4, 16]),
        Job::Loader => loader::run(context),
        Job::Memory => vec![memory::run()],
        Job::Growth => growth::run(context),
    }
}

/// Runs the job that a copy of this program was started for.
pub(crate) fn child(args: &[String]) {
    match args[0].as_str() {
        "memory" => memory::child(&args[1..]),
        "stampede" => stampede::child(&args[1..]),
        other => panic!("no such child: {other}"),
    }
}

/// The value that is cached in the jobs with a codec.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Row {
    id: u64,
    text: String,
}

impl Row {
    fn new(id: u64, bytes: usize) -> Self {
        Self { id, text: "x".repeat(bytes) }
    }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime")
}

/// Waits until the node serves: before that, each read also asks for the state.
async fn settled<K: CacheKey, V: Send + Sync + 'static>(cache: &TieredCache<K, V>) {
    while !cache.is_serving() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A future that is ready at once, as a hit is.
#[inline(always)]
fn ready<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Poller::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("not ready at once"),
    }
}

/// The value below which a `share` of the samples lies.
fn percentile(samples: &mut [f64], share: f64) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[((samples.len() - 1) as f64 * share).round() as usize]
}
