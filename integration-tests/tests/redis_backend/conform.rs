//! The contract of a backend, on a real server.

use std::sync::Arc;
use std::time::Duration;

use async_cache_core::Backend;
use async_cache_core::testing::conformance::{self, Hook, Subject};
use async_cache_redis::RedisBackend;
use integration_tests::{Data, RedisServer};

struct Server {
    server: RedisServer,
    partitions: u16,
}

#[async_trait::async_trait]
impl Subject for Server {
    async fn handle(&self) -> Arc<dyn Backend> {
        // Enough time for a busy machine.
        let builder = RedisBackend::builder().command_timeout(Duration::from_secs(5));
        let builder = builder.url(self.server.url()).partitions(self.partitions);
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
