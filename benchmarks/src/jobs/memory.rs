//! Memory per entry, including key and value: the memory that the process takes from the system.

use std::hint::black_box;
use std::process::Command;
use std::sync::Arc;

use async_cache::{Engine, MemoryBackend, TieredCache};
use quick_cache::sync::Cache as QuickCache;

use super::runtime;
use crate::report::{Figure, Table};

const ENTRIES: usize = 500_000;
type Value = [u8; 100];

pub(crate) fn run() -> Table {
    let mut table = Table::new("Memory per L1 entry: key of 12 B, value of 100 B", "bytes");
    let figures = ["async-cache", "async-cache on moka", "quick_cache", "moka"].map(|side| {
        let output = Command::new(std::env::current_exe().expect("this program"))
            .args(["--child", "memory", side])
            .output()
            .expect("a copy of this program");
        let said = String::from_utf8_lossy(&output.stdout).trim().parse();
        Figure::one(side, said.expect("a number of bytes"))
    });
    table.row("500,000 entries", Some("quick_cache"), figures.into());
    table
}

/// The memory of this process in bytes.
fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    text.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0) * 4096
}

pub(crate) fn child(args: &[String]) {
    let runtime = runtime();
    let _inside = runtime.enter();
    let name = |i: usize| format!("user:{i:07}");
    let before = resident();
    let engine = |engine| {
        let l1 = MemoryBackend::builder().max_capacity(ENTRIES as u64).engine(engine).build();
        let cache: TieredCache<String, Value> = TieredCache::builder().l1(l1).build().expect("a cache");
        for i in 0..ENTRIES {
            runtime.block_on(cache.insert(&name(i), [0; 100]).into_future()).expect("an insert");
        }
        cache
    };
    let after = match args[0].as_str() {
        "async-cache" => {
            let kept = engine(Engine::Quick);
            (resident(), black_box(kept)).0
        }
        "async-cache on moka" => {
            let kept = engine(Engine::Moka);
            (resident(), black_box(kept)).0
        }
        "quick_cache" => {
            let cache = QuickCache::<String, Arc<Value>>::new(ENTRIES);
            (0..ENTRIES).for_each(|i| cache.insert(name(i), Arc::new([0; 100])));
            (resident(), black_box(cache)).0
        }
        "moka" => {
            let cache = moka::sync::Cache::<String, Arc<Value>>::new(ENTRIES as u64);
            (0..ENTRIES).for_each(|i| cache.insert(name(i), Arc::new([0; 100])));
            cache.run_pending_tasks();
            (resident(), black_box(cache)).0
        }
        other => panic!("no such side: {other}"),
    };
    println!("{}", (after - before) as f64 / ENTRIES as f64);
}
