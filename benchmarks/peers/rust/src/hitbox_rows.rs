//! hitbox: functions memoized on Moka or on Redis. Both use Bincode, its faster format.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hitbox::concurrency::BroadcastConcurrencyManager;
use hitbox::policy::PolicyConfig;
use hitbox_backend::format::BincodeFormat;
use hitbox_fn::{Cache, cached};
use hitbox_moka::MokaBackend;
use hitbox_redis::{ConnectionMode, RedisBackend};

use crate::work::Row;

const LIFE: Duration = Duration::from_secs(3600);

pub type OnMoka = Cache<MokaBackend<BincodeFormat>>;
pub type OnRedis = Cache<RedisBackend>;
type Once = BroadcastConcurrencyManager<Row>;

#[cached(skip(bytes))]
pub async fn named(key: String, bytes: u64) -> Row {
    let _ = key;
    Row::new(0, bytes)
}

#[cached]
pub async fn row(prefix: String, id: u64, bytes: u64) -> Row {
    let _ = prefix;
    Row::new(id, bytes)
}

#[cached(skip(pause, loads))]
pub async fn slow_row(prefix: String, id: u64, pause: Duration, loads: Arc<AtomicUsize>) -> Row {
    let _ = prefix;
    loads.fetch_add(1, Ordering::Relaxed);
    tokio::time::sleep(pause).await;
    Row::new(id, 100)
}

fn moka(entries: u64) -> MokaBackend<BincodeFormat> {
    MokaBackend::builder().max_entries(entries).value_format(BincodeFormat).build()
}

fn redis(url: &str) -> Result<RedisBackend, String> {
    let mode = ConnectionMode::single(url);
    RedisBackend::builder().connection(mode).build().map_err(|error| error.to_string())
}

fn policy() -> hitbox::policy::PolicyConfigBuilder {
    PolicyConfig::builder().ttl(LIFE)
}

fn once() -> PolicyConfig {
    policy().concurrency(1.try_into().expect("one")).build()
}

pub fn on_moka(entries: u64) -> OnMoka {
    Cache::builder().backend(moka(entries)).policy(policy().build()).build()
}

pub fn on_redis(url: &str) -> Result<OnRedis, String> {
    Ok(Cache::builder().backend(redis(url)?).policy(policy().build()).build())
}

pub fn once_on_moka() -> Cache<MokaBackend<BincodeFormat>, Once> {
    Cache::builder().backend(moka(1000)).policy(once()).concurrency_manager(Once::new()).build()
}

pub fn once_on_redis(url: &str) -> Result<Cache<RedisBackend, Once>, String> {
    Ok(Cache::builder().backend(redis(url)?).policy(once()).concurrency_manager(Once::new()).build())
}
