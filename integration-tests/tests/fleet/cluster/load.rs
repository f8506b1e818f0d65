//! Reads and changes of rows, from both nodes, until they are stopped.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use integration_tests::fleet::Cache;
use tokio::task::JoinHandle;

use super::table::Table;

/// Tasks that panic at an error of a lookup, and at an answer that is too old.
pub(super) struct Load {
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Load {
    /// Two tasks of each node read all keys. One of the first node changes those in `written`.
    pub(super) fn begin(
        [a, b]: [&Cache; 2],
        table: &Table,
        keys: &[String],
        written: &[String],
        bound: Duration,
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut tasks = Vec::new();
        for node in [a, b, a, b] {
            let (node, table, stop) = (node.clone(), table.clone(), Arc::clone(&stop));
            let keys = [keys, written].concat();
            tasks.push(tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    for key in &keys {
                        table.get(&node, key, bound).await;
                    }
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }));
        }
        let (node, writer, stopped, written) =
            (a.clone(), table.clone(), Arc::clone(&stop), written.to_vec());
        tasks.push(tokio::spawn(async move {
            while !stopped.load(Ordering::Relaxed) {
                for key in &written {
                    writer.write(&node, key).await;
                    // On its own node a change counts at once.
                    writer.get(&node, key, Duration::ZERO).await;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }));
        Self { stop, tasks }
    }

    pub(super) async fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.unwrap();
        }
    }
}
