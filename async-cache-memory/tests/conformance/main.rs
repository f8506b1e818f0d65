//! The in-process tier keeps the contract of a backend; a tier that breaks it is found out.

mod broken;
mod found;

use std::sync::Arc;

use async_cache_core::Backend;
use async_cache_core::testing::conformance::{self, Subject};
use async_cache_memory::MemoryBackend;

struct Memory(MemoryBackend);

#[async_trait::async_trait]
impl Subject for Memory {
    async fn handle(&self) -> Arc<dyn Backend> {
        Arc::new(self.0.clone())
    }

    #[cfg(feature = "testing")]
    async fn lose_memory(&self) -> conformance::Hook {
        self.0.restart(None);
        conformance::Hook::Done
    }
}

#[tokio::test(start_paused = true)]
async fn with_one_partition() {
    conformance::run(&Memory(MemoryBackend::new(1000))).await;
}

#[tokio::test(start_paused = true)]
async fn with_many_partitions() {
    conformance::run(&Memory(MemoryBackend::builder().partitions(7).build())).await;
}
