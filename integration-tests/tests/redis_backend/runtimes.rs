//! Calls outside a Tokio runtime, or in one that lacks a part.

use async_cache_core::{ErrorKind, Result};
use async_cache_redis::RedisBackend;
use futures_util::FutureExt;
use tokio::runtime::Builder;

const URL: &str = "redis://127.0.0.1:1";

fn refused(connected: Result<RedisBackend>, what: &str) {
    let error = connected.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(error.to_string().contains(what), "{error}");
}

async fn from_pool() -> Result<RedisBackend> {
    let pool = deadpool_redis::Config::from_url(URL).builder().unwrap().build().unwrap();
    RedisBackend::from_pool(pool, redis::Client::open(URL).unwrap()).await
}

/// Every way to connect. Each ends at its first poll.
fn every_way(what: &str) {
    let at_once = "it ends at once";
    refused(RedisBackend::connect(URL).now_or_never().expect(at_once), what);
    refused(RedisBackend::connect_lazy(URL).now_or_never().expect(at_once), what);
    refused(from_pool().now_or_never().expect(at_once), what);
}

#[test]
fn connecting_outside_a_runtime_is_an_error() {
    every_way("outside a Tokio runtime");
}

#[test]
fn connecting_in_a_runtime_without_timers_or_io_is_an_error() {
    let (mut nothing, mut io, mut timers) =
        (Builder::new_current_thread(), Builder::new_current_thread(), Builder::new_current_thread());
    for (runtime, what) in
        [(&mut nothing, "no timers"), (io.enable_io(), "no timers"), (timers.enable_time(), "no I/O")]
    {
        runtime.build().unwrap().block_on(async { every_way(what) });
    }
}
