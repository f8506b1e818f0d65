//! The search by kind: a second cache, which holds lists of ids. The products themselves are in the first.

use std::collections::HashMap;
use std::sync::Arc;

use async_cache::{Backend, Bincode, Error, MemoryBackend, Result, TieredCache};

use crate::catalogue::{Catalogue, Product};

/// Finds the products of a kind.
#[derive(Debug, Clone)]
pub(crate) struct Search {
    kinds: TieredCache<String, Vec<u32>>,
    catalogue: Catalogue,
}

impl Search {
    /// On the same shared tier as the catalogue, in a namespace of its own.
    pub(crate) fn open(
        namespace: &str,
        shared: Option<Arc<dyn Backend>>,
        catalogue: Catalogue,
    ) -> Result<Self> {
        let builder =
            TieredCache::builder().namespace(format!("{namespace}-kinds")).l1(MemoryBackend::new(64));
        let builder = match shared {
            Some(shared) => builder.l2_with(shared, Bincode),
            None => builder,
        };
        Ok(Self { kinds: builder.build()?, catalogue })
    }

    /// The first products of a kind: one lookup for their ids, and one for all products.
    pub(crate) async fn of_kind(&self, kind: &str) -> Result<Vec<Arc<Product>>> {
        let (database, wanted) = (self.catalogue.database().clone(), kind.to_owned());
        let ids =
            self.kinds.get_or_load(kind, move || async move { database.ids_of_kind(wanted).await }).await?;
        let database = self.catalogue.database().clone();
        let load = |missing: Vec<u32>| async move {
            let rows = database.products(&missing).await?;
            Ok::<HashMap<_, _>, rusqlite::Error>(rows.into_iter().map(|row| (row.id, row)).collect())
        };
        let found = self.catalogue.cache().get_many_or_load(ids.iter(), load).await?;
        Ok(found.into_iter().flatten().collect())
    }

    /// Drops all lists: those of an earlier run belong to another database.
    pub(crate) async fn forget(&self) -> Result<(), Error> {
        self.kinds.invalidate_all().await.map(drop)
    }
}
