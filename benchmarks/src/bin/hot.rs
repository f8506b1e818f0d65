//! The hot paths, each run a given number of times and nothing else: what is to be counted.

use std::future::IntoFuture;
use std::hint::black_box;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use async_cache::{MemoryBackend, TieredCache};
use quick_cache::sync::Cache;

const KEYS: usize = 1000;
type Value = [u64; 12];
type Bare<K> = Cache<K, Arc<Value>, quick_cache::UnitWeighter, foldhash::quality::RandomState>;

fn value(i: usize) -> Value {
    [i as u64; 12]
}

#[inline(never)]
fn measured(n: usize, mut f: impl FnMut(usize)) {
    let mut at = 0;
    for _ in 0..n {
        f(at);
        at += 1;
        if at == KEYS {
            at = 0;
        }
    }
}

#[inline(always)]
fn now<F: IntoFuture>(future: F) -> F::Output {
    let mut future = pin!(future.into_future());
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("not a hit"),
    }
}

fn bare<K: std::hash::Hash + Eq>() -> Bare<K> {
    Bare::with(KEYS * 2, KEYS as u64 * 2, quick_cache::UnitWeighter, Default::default(), Default::default())
}

fn main() {
    let mut args = std::env::args().skip(1);
    let (case, n) = (args.next().unwrap(), args.next().unwrap().parse().unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _inside = runtime.enter();
    let l1 = || MemoryBackend::new(KEYS as u64 * 2);
    let texts: Vec<String> = (0..KEYS).map(|i| format!("user:{i:05}")).collect();
    let loader = |i: usize| move || async move { Ok::<_, std::io::Error>(value(i)) };
    match &*case {
        "bare_str" => {
            let cache = bare();
            for (i, text) in texts.iter().enumerate() {
                cache.insert(text.clone(), Arc::new(value(i)));
            }
            measured(n, |i| {
                black_box(cache.get(texts[i].as_str()));
            });
        }
        "bare_u64" => {
            let cache = bare();
            for i in 0..KEYS {
                cache.insert(i as u64, Arc::new(value(i)));
            }
            measured(n, |i| {
                black_box(cache.get(&(i as u64)));
            });
        }
        "get_str" | "get_or_load_str" => {
            let cache: TieredCache<String, Value> = TieredCache::builder().l1(l1()).build().unwrap();
            for (i, text) in texts.iter().enumerate() {
                runtime.block_on(cache.insert(text.as_str(), value(i)).into_future()).unwrap();
            }
            if case == "get_str" {
                measured(n, |i| {
                    black_box(now(cache.get(texts[i].as_str())).unwrap());
                });
            } else {
                measured(n, |i| {
                    black_box(now(cache.get_or_load(texts[i].as_str(), loader(i))).unwrap());
                });
            }
        }
        "get_u64" | "get_or_load_u64" => {
            let cache: TieredCache<u64, Value> = TieredCache::builder().l1(l1()).build().unwrap();
            for i in 0..KEYS {
                runtime.block_on(cache.insert(&(i as u64), value(i)).into_future()).unwrap();
            }
            if case == "get_u64" {
                measured(n, |i| {
                    black_box(now(cache.get(&(i as u64))).unwrap());
                });
            } else {
                measured(n, |i| {
                    black_box(now(cache.get_or_load(&(i as u64), loader(i))).unwrap());
                });
            }
        }
        "miss_fill" => {
            let cache: TieredCache<u64, Value> = TieredCache::builder().l1(l1()).build().unwrap();
            let mut next = 0;
            measured(n, |i| {
                next += 1;
                black_box(runtime.block_on(cache.get_or_load(&next, loader(i))).unwrap());
            });
        }
        "l2_get" => {
            let cache: TieredCache<u64, Value> =
                TieredCache::builder().l2(MemoryBackend::new(KEYS as u64 * 2)).build().unwrap();
            for i in 0..KEYS {
                runtime.block_on(cache.insert(&(i as u64), value(i)).into_future()).unwrap();
            }
            measured(n, |i| {
                black_box(runtime.block_on(cache.get(&(i as u64))).unwrap());
            });
        }
        _ => panic!("no such case"),
    }
}
