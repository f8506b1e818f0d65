//! The lookups and their timing. They equal the driver's, so the figures are comparable.

use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::runtime::Handle;

use crate::order;

pub const KEYS: u64 = 1000;

/// The row of the driver.
#[derive(Debug, Clone, Serialize, Deserialize, hitbox_fn::CacheableResponse)]
pub struct Row {
    pub id: u64,
    pub text: String,
}

impl Row {
    pub fn new(id: u64, bytes: u64) -> Self {
        Self { id, text: "x".repeat(bytes as usize) }
    }
}

pub fn number(ask: &Value, name: &str) -> u64 {
    ask[name].as_u64().unwrap_or_else(|| panic!("the driver says {name}"))
}

pub fn text<'a>(ask: &'a Value, name: &str) -> &'a str {
    ask[name].as_str().unwrap_or_else(|| panic!("the driver says {name}"))
}

/// A future that is ready at once, as a hit is. It avoids the cost of entering a runtime.
pub fn ready<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("not ready at once"),
    }
}

/// Runs `lookup` over the order on a number of threads, inside the runtime. Returns ns per lookup.
pub fn per_lookup(threads: usize, order: &[u32], runtime: &Handle, lookup: impl Fn(usize) + Sync) -> f64 {
    order::timed(threads, order, || runtime.enter(), lookup)
}

/// Runs `operations` in `tasks` tasks. Returns operations per second.
pub async fn per_second<F>(tasks: u64, operations: u64, operate: impl Fn(u64) -> F) -> f64
where
    F: Future<Output = ()> + Send + 'static,
{
    let each = (operations / tasks).max(1);
    let start = Instant::now();
    let running: Vec<_> = (0..tasks).map(|task| tokio::spawn(operate(task * each))).collect();
    for task in running {
        task.await.expect("a task");
    }
    (tasks * each) as f64 / start.elapsed().as_secs_f64()
}

/// The median time of sequential `operations`, in µs. They run in a task, as in a server.
pub fn median<F>(runtime: &Handle, operations: u64, mut operate: impl FnMut(u64) -> F + Send + 'static) -> f64
where
    F: Future<Output = ()> + Send,
{
    let task = async move {
        let mut samples = Vec::with_capacity(operations as usize);
        for i in 0..operations {
            let start = Instant::now();
            operate(i).await;
            samples.push(start.elapsed().as_nanos() as f64 / 1000.0);
        }
        samples.sort_by(f64::total_cmp);
        samples[samples.len() / 2]
    };
    runtime.block_on(runtime.spawn(task)).expect("a task")
}

/// A key that no earlier case had: another address may lead to the same server.
pub fn fresh() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Waits for the moment at which all processes of a fleet begin.
pub fn wait_until(at_ms: u64) {
    let at = UNIX_EPOCH + Duration::from_millis(at_ms);
    std::thread::sleep(at.duration_since(SystemTime::now()).unwrap_or_default());
}
