//! Connecting to a cluster.

use std::net::TcpListener;
use std::time::Duration;

use async_cache_core::backend::BusEvent;
use async_cache_core::{Error, ErrorKind};
use async_cache_redis::{RedisBackend, RedisConfig};
use integration_tests::RedisServer;
use integration_tests::cluster::RedisCluster;
use tokio::time::timeout;

use crate::rig::{Node, RECORD};

async fn refused(urls: &[&str]) -> Error {
    RedisBackend::builder().cluster(urls.iter().copied()).connect().await.expect_err("it is refused")
}

#[tokio::test(flavor = "multi_thread")]
async fn one_node_that_answers_suffices() {
    let cluster = RedisCluster::with_replicas(2, 1);
    let replica = cluster.node(2).url();
    for urls in [vec!["redis://127.0.0.1:1".to_owned(), cluster.node(1).url()], vec![replica]] {
        RedisBackend::builder().cluster(urls).connect().await.expect("the others are found");
    }
    let config: RedisConfig = toml::from_str(&format!("cluster = [\"{}\"]", cluster.node(0).url())).unwrap();
    RedisBackend::from_config(config).await.expect("a configuration file names nodes, too");
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_hang_do_not_delay_the_connection() {
    let cluster = RedisCluster::start(1);
    let hanging = [(); 7].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let urls = hanging.iter().map(|socket| format!("redis://{}", socket.local_addr().unwrap()));
    let urls: Vec<String> = urls.chain([cluster.node(0).url()]).collect();
    // A node that hangs would delay it for the deadline of a connection.
    let (limit, deadline) = (Duration::from_secs(15), Duration::from_secs(60));
    let builder = || RedisBackend::builder().cluster(&urls).connect_timeout(deadline);
    timeout(limit, builder().connect()).await.expect("it is not delayed").unwrap();
    timeout(limit, builder().connect_lazy()).await.expect("it is not delayed").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_cannot_work_are_errors_that_say_why() {
    let (alone, cluster) = (RedisServer::start(), RedisCluster::start(1));
    let (alone, node) = (alone.url(), cluster.node(0).url());
    for (urls, word) in [
        (vec![], "at least one node"),
        (vec!["redis://:a@h:1", "redis://:b@h:2"], "differ"),
        (vec!["redis://h:1", "redis://h:2/1"], "number 0"),
        (vec!["unix:///tmp/s"], "TCP"),
        (vec![&*alone], "`url` instead"),
    ] {
        let error = refused(&urls).await;
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        assert!(error.to_string().contains(word), "{error}");
    }
    let error = RedisBackend::connect(&node).await.expect_err("it is one node of many");
    assert!(error.to_string().contains(".cluster([..])"), "{error}");
    let both: RedisConfig = toml::from_str("url = \"redis://h\"\ncluster = [\"redis://h\"]").unwrap();
    let error = RedisBackend::from_config(both).await.expect_err("one of them is meant");
    assert!(error.to_string().contains("`cluster`"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lazy_backend_says_what_is_wrong_and_goes_on_when_it_is_mended() {
    let cluster = RedisCluster::start(2);
    let urls = cluster.nodes().iter().map(|node| node.url_as("app"));
    let backend = RedisBackend::builder().cluster(urls).connect_lazy().await.unwrap();
    let node = Node::unsubscribed(backend, "ns", RECORD);
    let error = node.region.state(0).await.expect_err("there is no such user");
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(error.to_string().contains("wrong user name or password"), "{error}");
    assert!(!node.region.info().available);

    cluster.nodes().iter().for_each(|server| server.set_user("app", "~* &* +@all"));
    for partition in 0..64 {
        node.heard.heard(&BusEvent::PartitionSubscribed { partition }).await;
    }
    node.region.state(0).await.unwrap();
    assert!(node.region.info().available);
}
