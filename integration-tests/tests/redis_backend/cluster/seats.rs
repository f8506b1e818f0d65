//! A partition goes from one server to another.

use std::sync::{Arc, mpsc};
use std::time::Duration;

use async_cache_core::backend::{Backend as _, BusEvent, Check, Listener, NodeId, RegionSpec};
use async_cache_redis::RedisBackend;
use integration_tests::older::OlderCluster;
use integration_tests::{Recorder, eventually};
use parking_lot::Mutex;
use tokio::task::spawn_blocking;

use crate::rig::{LIFE, Node, RECORD, frame, key};

/// Longer than a busy machine takes.
const LONG: Duration = Duration::from_secs(30);

/// A listener that takes its time when it is told of a loss.
struct Slow {
    heard: Arc<Recorder>,
    entered: mpsc::SyncSender<()>,
    /// Closed when it may go on.
    gate: Mutex<mpsc::Receiver<()>>,
}

impl Listener for Slow {
    fn notify(&self, event: BusEvent) {
        if matches!(event, BusEvent::PartitionLost { .. }) {
            let _ = self.entered.try_send(());
            let _ = self.gate.lock().recv_timeout(LONG);
        }
        self.heard.notify(event);
    }
}

/// A cluster before Redis 7.0, because such a one does not tell the loss before the map does.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn operations_find_the_new_server_while_the_loss_of_the_old_one_is_told() {
    let OlderCluster { cluster, urls, .. } = &OlderCluster::start().await;
    let backend = RedisBackend::builder().cluster(urls).command_timeout(LONG).connect().await.unwrap();
    let writer = Node::unsubscribed(backend.clone(), "ns", RECORD);
    let (k, stored) = (key("k"), frame(writer.token(), b"v"));
    writer.region.put(&[(k.clone(), stored)], LIFE, u64::MAX >> 12).await.unwrap();
    drop(writer);

    let (entered, is_told) = mpsc::sync_channel(1);
    let (go_on, gate) = mpsc::channel();
    let heard = Recorder::new();
    let slow: Arc<dyn Listener> =
        Arc::new(Slow { heard: Arc::clone(&heard), entered, gate: Mutex::new(gate) });
    let region =
        backend.open(RegionSpec::new("ns", NodeId::random(), RECORD), Arc::downgrade(&slow)).unwrap();
    let partition = k.partition(64);
    heard.heard(&BusEvent::PartitionSubscribed { partition }).await;

    let slot = cluster.slot_of(&format!("{{ns:{partition}}}"));
    let from = cluster.owner_of(slot).unwrap();
    cluster.move_slot(slot, (from + 1) % 3);
    // This one finds out that the slot has moved.
    let (first, k1) = (Arc::clone(&region), k.clone());
    let first = tokio::spawn(async move { first.read_one(&k1, Check::Plain).await });
    spawn_blocking(move || is_told.recv_timeout(LONG).expect("the loss is told")).await.unwrap();
    let read = region.read_one(&k, Check::Plain).await.expect("the new server is asked");
    assert!(read.value.is_some(), "it has the value");
    assert!(!heard.events().contains(&BusEvent::PartitionLost { partition }), "that is still being told");
    drop(go_on);
    first.await.unwrap().unwrap();
    let again = || {
        let events = heard.events();
        let lost = events.iter().position(|event| *event == BusEvent::PartitionLost { partition })?;
        events[lost..].contains(&BusEvent::PartitionSubscribed { partition }).then_some(())
    };
    eventually("the new subscription begins after the loss", again).await;
}
