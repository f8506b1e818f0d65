//! The service: a product catalogue with a cache in front of its database.
//!
//! A service needs to write only this. The rest of the crate drives it and measures it.

use std::sync::Arc;

use async_cache::{Error, Result, TieredCache, TieredCacheBuilder, Traced};
use serde::{Deserialize, Serialize};

use crate::database::Database;

/// A row of the catalogue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Product {
    pub(crate) id: u32,
    pub(crate) name: String,
    /// The kind of thing: products are searched by it.
    pub(crate) kind: String,
    pub(crate) price_cents: u32,
    pub(crate) stock: u32,
    /// Every write raises it, so it distinguishes an old row from a new one.
    pub(crate) version: u32,
    pub(crate) origin: Origin,
}

/// Where a copy of a row comes from. The dashboard shows it; a service needs none of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Origin {
    /// When the row arrived, by [`clock::now`](crate::clock::now).
    pub(crate) read_at: u64,
    /// The instance that read it.
    pub(crate) instance: u16,
    /// Whether it has stayed in the process that read it. It is not stored, so a copy that was decoded has `false`.
    #[serde(skip)]
    pub(crate) at_home: bool,
}

/// One instance of the service.
#[derive(Debug, Clone)]
pub(crate) struct Catalogue {
    cache: TieredCache<u32, Product>,
    database: Database,
}

impl Catalogue {
    /// `tiers` sets the tiers and the lifetimes, which differ between the modes of the demo.
    pub(crate) fn open(
        namespace: &str,
        database: Database,
        tiers: impl FnOnce(TieredCacheBuilder<u32, Product>) -> TieredCacheBuilder<u32, Product>,
    ) -> Result<Self> {
        let builder = TieredCache::builder().namespace(namespace);
        Ok(Self { cache: tiers(builder).build()?, database })
    }

    /// Returns a product from the nearest place that has it, and says which. `None` if the id does not exist.
    pub(crate) async fn get(&self, id: u32) -> Result<Traced<Option<Arc<Product>>>> {
        let database = self.database.clone();
        self.cache.get_or_load_optional(&id, move || async move { database.product(id).await }).traced().await
    }

    /// Changes a product: the database first, and after the commit the product is invalidated in every cache.
    pub(crate) async fn change(&self, id: u32, change: Change) -> Result<Option<u32>, ServiceError> {
        let version = self.database.change(id, change).await.map_err(ServiceError::NotWritten)?;
        if let Some(version) = version {
            self.cache
                .invalidate(&id)
                .await
                .map_err(|cause| ServiceError::NotInvalidated { version, cause })?;
        }
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

/// A change to a product.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Change {
    /// One piece is sold.
    Sell,
    /// Fields are set. Those that are `None` stay as they are.
    Set { name: Option<String>, price_cents: Option<u32>, stock: Option<u32> },
}

/// Why a write failed.
#[derive(Debug)]
pub(crate) enum ServiceError {
    /// Nothing has changed.
    NotWritten(rusqlite::Error),
    /// The row has this version now. Other instances may learn of it late, and the cache goes on trying.
    NotInvalidated { version: u32, cause: Error },
}

impl std::fmt::Display for ServiceError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotWritten(error) => write!(f, "the product was not written: {error}"),
            Self::NotInvalidated { cause, .. } => {
                write!(f, "the product was written, but not every instance knows yet: {cause}")
            }
        }
    }
}
