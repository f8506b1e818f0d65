//! multi-tier-cache: Moka over Redis, or Redis alone. Both use its JSON, the only format without a feature.

use std::sync::Arc;
use std::time::Duration;

use multi_tier_cache::{
    CacheManager, CacheResult, CacheStrategy, CacheTier, L1Cache, L2Cache, MokaCacheConfig,
};

pub const LIFE: CacheStrategy = CacheStrategy::LongTerm;

pub async fn tiered(url: &str, entries: u64) -> CacheResult<CacheManager> {
    let hour = Duration::from_secs(3600);
    let l1 = MokaCacheConfig { max_capacity: entries, time_to_live: hour, time_to_idle: hour };
    CacheManager::new(Arc::new(L1Cache::new(l1)?), Arc::new(L2Cache::with_url(url).await?)).await
}

/// One tier, on Redis: every hit comes from L2.
pub async fn shared(url: &str) -> CacheResult<CacheManager> {
    let redis = Arc::new(L2Cache::with_url(url).await?);
    CacheManager::new_with_tiers(vec![CacheTier::new(redis, 1, false, 1, 1.0)], None)
}
