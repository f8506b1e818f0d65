//! The service: a product catalogue with a cache in front of its database.
//!
//! A service needs to write only this. The rest of the crate drives it and measures it.

use std::sync::Arc;

use async_cache::{Error, MemoryBackend, Result, TieredCache, TieredCacheBuilder};
use serde::{Deserialize, Serialize};

use crate::database::Database;

/// A row of the catalogue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Product {
    pub(crate) id: u32,
    pub(crate) name: String,
    pub(crate) price_cents: u32,
    pub(crate) stock: u32,
    /// Every write raises it, so it distinguishes an old row from a new one.
    pub(crate) version: u32,
}

/// One instance of the service.
#[derive(Debug, Clone)]
pub(crate) struct Catalogue {
    cache: TieredCache<u32, Product>,
    database: Database,
}

impl Catalogue {
    /// `tiers` sets the shared tier, which differs between the modes of the demo.
    pub(crate) fn open(
        namespace: &str,
        l1_entries: u64,
        database: Database,
        tiers: impl FnOnce(TieredCacheBuilder<u32, Product>) -> TieredCacheBuilder<u32, Product>,
    ) -> Result<Self> {
        let builder = TieredCache::builder().namespace(namespace).l1(MemoryBackend::new(l1_entries));
        Ok(Self { cache: tiers(builder).build()?, database })
    }

    /// Returns a product from the nearest place that has it, or `None` if the id does not exist.
    pub(crate) async fn get(&self, id: u32) -> Result<Option<Arc<Product>>> {
        let database = self.database.clone();
        self.cache.get_or_load_optional(&id, move || async move { database.product(id).await }).await
    }

    /// Sells one piece: changes the database first, and invalidates the product in every cache after the
    /// commit.
    pub(crate) async fn sell(&self, id: u32) -> Result<Option<u32>, ServiceError> {
        let version = self.database.sell(id).await.map_err(ServiceError::NotWritten)?;
        self.cache.invalidate(&id).await.map_err(ServiceError::NotInvalidated)?;
        Ok(version)
    }

    pub(crate) fn cache(&self) -> &TieredCache<u32, Product> {
        &self.cache
    }

    /// This service with another handle on its database.
    pub(crate) fn with_database(&self, database: Database) -> Self {
        Self { cache: self.cache.clone(), database }
    }

    pub(crate) fn database(&self) -> &Database {
        &self.database
    }
}

/// Why a write failed.
#[derive(Debug)]
pub(crate) enum ServiceError {
    /// Nothing has changed.
    NotWritten(rusqlite::Error),
    /// The row has changed. Other instances may learn of it late, and the cache goes on trying.
    NotInvalidated(Error),
}

impl std::fmt::Display for ServiceError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotWritten(error) => write!(f, "the product was not written: {error}"),
            Self::NotInvalidated(error) => {
                write!(f, "the product was written, but not every instance knows yet: {error}")
            }
        }
    }
}
