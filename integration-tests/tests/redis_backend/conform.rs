//! The contract of a backend, on a real server.

use std::sync::Arc;

use async_cache_core::Backend;
use async_cache_core::testing::conformance::{self, Hook, Subject};
use integration_tests::listen::PATIENCE;
use integration_tests::{Data, RedisServer};

use crate::rig::patient;

struct Server {
    server: RedisServer,
    partitions: u16,
}

#[async_trait::async_trait]
impl Subject for Server {
    async fn handle(&self) -> Arc<dyn Backend> {
        // Enough time for a busy machine.
        // The answer with a full tag table is long.
        let builder = patient(self.server.url()).command_timeout(2 * PATIENCE).partitions(self.partitions);
        Arc::new(builder.connect().await.expect("the server answers"))
    }

    async fn lose_memory(&self) -> Hook {
        self.server.restart(Data::Drop);
        Hook::Done
    }

    async fn stop(&self) -> Hook {
        self.server.pause();
        Hook::Done
    }

    async fn go_on(&self) {
        self.server.resume();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_one_partition() {
    conformance::run(&Server { server: RedisServer::start(), partitions: 1 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_many_partitions() {
    conformance::run(&Server { server: RedisServer::start(), partitions: 7 }).await;
}
