//! What the parent tells a node process, line by line on its standard input; its end is the end of the
//! process.

use std::io::BufRead;
use std::process::exit;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use fastrand::Rng;

use crate::ledger::{Count, now};
use crate::lives;
use crate::load::Load;
use crate::node::Handle;
use crate::promise::{Promise, What};

/// Shut every cache down, then end.
pub(crate) const LEAVE: &str = "leave";
/// Begin a load on a runtime that ends, or is not run any more.
pub(crate) const END_RUNTIME: &str = "end runtime";

/// More than any shutdown may take.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(20);

/// Waits for nothing but the end of the parent.
pub(crate) fn wait_for_the_end() {
    std::thread::sleep(Duration::from_secs(u64::from(u32::MAX)));
}

/// Reads orders, in a thread of their own.
pub(crate) fn obey(handles: &[Arc<Handle>]) {
    let handles = handles.to_vec();
    let runtime = tokio::runtime::Handle::current();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            match line.as_deref() {
                Ok(LEAVE) => {
                    handles.iter().for_each(|handle| handle.leave());
                    runtime.block_on(async {
                        for handle in &handles {
                            shut_down(handle).await;
                        }
                    });
                    exit(0);
                }
                Ok(END_RUNTIME) => {
                    let handle = Arc::clone(&handles[0]);
                    std::thread::spawn(move || end_runtime(&handle));
                }
                _ => break,
            }
        }
        exit(0);
    });
}

/// Shuts down. Changes that had failed have been applied, or it says that they have not.
async fn shut_down(handle: &Handle) {
    let ledger = handle.ledger;
    ledger.add(handle.index, Count::Shutdowns, 1);
    let all = async {
        let left = handle.cache.shutdown().await.pending_invalidations;
        let left = left + handle.lives.shutdown().await.pending_invalidations;
        left + handle.desk.cache.shutdown().await.pending_invalidations
    };
    match tokio::time::timeout(SHUTDOWN_LIMIT, all).await {
        Err(_) => {
            let what = format!("handle {}: shutdown has not ended within {SHUTDOWN_LIMIT:?}", handle.index);
            ledger.accuse(Promise::Liveness, None, what);
        }
        Ok(0) => {
            let at = now();
            for (key, version) in handle.undecided.iter().enumerate() {
                let version = version.load(Ordering::Acquire);
                if version > 0 {
                    ledger.row(key).returned(version, at, 0);
                    ledger.note(key, handle.index, What::Returns, version);
                }
            }
        }
        Ok(left) => ledger.add(handle.index, Count::LeftPending, left),
    }
}

/// Leads loads on a runtime of its own, which nobody runs any more from then on: at first it is only
/// idle, later it is gone.
fn end_runtime(handle: &Arc<Handle>) {
    let mut rng = Rng::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    for _ in 0..6 {
        let key = lives::calm_key(&mut rng);
        handle.touch(key);
        let load = Load::draw(handle, key, lives::life_of(key), &mut rng);
        runtime.block_on(lead(handle, key, (load.anyhow().takes(Duration::from_secs(4)), rng.u8(..4))));
        handle.touch(key);
    }
    std::thread::sleep(Duration::from_secs(rng.u64(1..40)));
    drop(runtime);
}

/// Begins to load a cold key, and goes away.
async fn lead(handle: &Handle, key: usize, (load, how): (Load, u8)) {
    let (id, ahead, cache) = (key as u64, Duration::from_millis(50), handle.lives.clone());
    // Nothing comes of an error: the key is not cold then.
    let _ = tokio::time::timeout(ahead, cache.invalidate(&id)).await;
    let many = move |load: Load| move |keys: Vec<u64>| load.clone().run_many(keys, u64::MAX);
    match how {
        0 => drop(tokio::time::timeout(ahead, cache.refresh(&id, move || load.run())).await),
        1 => {
            let ids = [id];
            let call = async { cache.get_many_or_load(&ids, many(load)).await };
            drop(tokio::time::timeout(ahead, call).await);
        }
        2 => {
            let loader = cache.data_loader(many(load)).build();
            drop(tokio::time::timeout(ahead, loader.load(id)).await);
        }
        _ => drop(tokio::time::timeout(ahead, cache.get_or_load(&id, move || load.run())).await),
    }
}
