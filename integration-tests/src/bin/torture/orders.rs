//! The orders of the parent to a node process, one per line on its standard input. The process ends when the
//! input ends.

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
/// Begin a load on a runtime that ends or stops running.
pub(crate) const END_RUNTIME: &str = "end runtime";

/// A shutdown takes less than this time.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(20);

/// Waits for the end of the parent, and for nothing else.
pub(crate) fn wait_for_the_end() {
    std::thread::sleep(Duration::from_secs(u64::from(u32::MAX)));
}

/// Reads orders on its own thread.
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

/// Shuts down. Either the failed changes have been executed, or the result counts them as pending.
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

/// Begins loads on its own runtime, and then stops running the runtime. At first the runtime still exists, and
/// later it is dropped.
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

/// Begins to load a cold key. The caller is then cancelled.
async fn lead(handle: &Handle, key: usize, (load, how): (Load, u8)) {
    let (id, ahead, cache) = (key as u64, Duration::from_millis(50), handle.lives.clone());
    // If it fails, the key is not cold, which does no harm.
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
