//! One load in the fleet across processes, and the death of the loading process.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use integration_tests::RedisServer;
use integration_tests::process::NodeProcess;

const NODE: &str = env!("CARGO_BIN_EXE_node");

struct Done {
    loads: usize,
    errors: usize,
}

/// Reads the output of a node until its tasks are done.
async fn done(node: &mut NodeProcess) -> Done {
    loop {
        let line = node.hear().await;
        if let Some(figures) = line.strip_prefix("done ") {
            let figures: Vec<usize> = figures.split(' ').map(|figure| figure.parse().unwrap()).collect();
            println!("{} loads, slowest {} us, {} errors", figures[0], figures[1], figures[2]);
            return Done { loads: figures[0], errors: figures[2] };
        }
        assert_eq!(line, "loading");
    }
}

/// 4 processes × 250 tasks on one cold key: one load, and few commands.
#[tokio::test]
async fn four_processes_load_once() {
    let server = RedisServer::start();
    let mut nodes = Vec::new();
    let mut owner: HashMap<String, usize> = HashMap::new();
    for at in 0..4 {
        nodes.push(NodeProcess::start(NODE, &server.url()).await);
        // Two connections for commands, of which the second is made in the background, and the subscriber.
        let addresses = || Some(server.client_addresses()).filter(|all| all.len() == 3 * (at + 1));
        for address in integration_tests::eventually("the node has its connections", addresses).await {
            owner.entry(address).or_insert(at);
        }
    }
    let monitor = server.monitor();
    for node in &mut nodes {
        node.say("load k 250 100").await;
    }
    let mut loads = 0;
    for node in &mut nodes {
        let done = done(node).await;
        assert_eq!(done.errors, 0);
        loads += done.loads;
    }
    assert_eq!(loads, 1);

    let mut commands = [0; 4];
    for (client, command) in monitor.by_client() {
        // Heartbeats use no key.
        if command.contains("{rows:0}V:k") {
            commands[owner[&client]] += 1;
        }
    }
    println!("commands of each process: {commands:?}");
    assert!(commands.iter().all(|count| (1..=10).contains(count)), "{commands:?}");
}

/// The loading process is killed. The others notice when its lease expires, and one of them loads.
#[tokio::test]
async fn a_killed_loader_costs_one_more_load() {
    let server = RedisServer::start();
    let mut first = NodeProcess::start(NODE, &server.url()).await;
    let mut others =
        vec![NodeProcess::start(NODE, &server.url()).await, NodeProcess::start(NODE, &server.url()).await];
    first.say("load k 1 60000").await;
    assert_eq!(first.hear().await, "loading");
    for other in &mut others {
        other.say("load k 50 20").await;
    }
    // Both wait for the lease of the first node.
    integration_tests::eventually("two nodes wait", || {
        (server.cli::<usize>(&["SCARD", "{rows:0}W:k"]) == 2).then_some(())
    })
    .await;
    let killed = Instant::now();
    first.kill().await;
    let mut loads = 0;
    for other in &mut others {
        let done = done(other).await;
        assert_eq!(done.errors, 0);
        loads += done.loads;
    }
    assert_eq!(loads, 1, "one more load");
    // The lease takes 500 ms here. With the default lease the wait would be far longer than a second.
    println!("the others had their value {:?} after the kill", killed.elapsed());
    assert!(killed.elapsed() < Duration::from_secs(2), "{:?}", killed.elapsed());
}
