//! The contract of a backend, on a real cluster.

use std::sync::Arc;
use std::time::Duration;

use async_cache_core::Backend;
use async_cache_core::testing::conformance::{self, Hook, Subject};
use async_cache_redis::RedisBackend;
use integration_tests::Data;
use integration_tests::cluster::RedisCluster;

struct Cluster(RedisCluster);

#[async_trait::async_trait]
impl Subject for Cluster {
    async fn handle(&self) -> Arc<dyn Backend> {
        // Enough time for a busy machine. Three missed deadlines of a node show that it is away.
        let builder = RedisBackend::builder().command_timeout(Duration::from_millis(1500));
        Arc::new(builder.cluster(self.0.urls()).connect().await.expect("the cluster answers"))
    }

    async fn lose_memory(&self) -> Hook {
        self.0.nodes().iter().for_each(|node| node.restart(Data::Drop));
        self.0.settle();
        Hook::Done
    }

    async fn stop(&self) -> Hook {
        self.0.nodes().iter().for_each(|node| node.pause());
        Hook::Done
    }

    async fn go_on(&self) {
        self.0.nodes().iter().for_each(|node| node.resume());
        self.0.settle();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_whole_contract_holds_on_a_cluster() {
    conformance::run(&Cluster(RedisCluster::start(3))).await;
}
