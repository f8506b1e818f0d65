//! The same server process goes on with an older memory, and a node reads from it before its next heartbeat.

use async_cache_core::testing::until;

use crate::stage::Stage;
use crate::tier;

/// 1. the key is invalidated here; 2. a plain read begins; 3. a heartbeat proves that the server has the change;
/// 4. the server goes on with an older memory; 5. the read finds the old value, and L1 stores it; 6. a get carries
///    the stamp of 1, which this node has applied.
async fn an_entry_of_older_memory_does_not_answer_a_stamp(many: bool) {
    let tier = tier();
    let stage = Stage::on(&tier);
    let node = stage.node().await;
    node.insert("k", 1).await.unwrap();
    let before = tier.snapshot();
    let stamp = node.invalidate("k").await.unwrap();
    stage.reads_wait();
    let read = tokio::spawn({
        let node = node.clone();
        async move {
            match many {
                true => node.get_many(["k"]).await.unwrap().remove(0),
                false => node.get("k").await.unwrap(),
            }
        }
    });
    stage.a_read_waits().await;
    let sent = stage.heartbeats();
    until("heartbeats are answered", || stage.heartbeats() > sent + 1).await;
    tier.revert(&before);
    stage.reads_go_on();
    assert_eq!(read.await.unwrap().as_deref(), Some(&1), "it is not known to be old");
    assert_eq!(node.get("k").at_least(&stamp).await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn one_key() {
    an_entry_of_older_memory_does_not_answer_a_stamp(false).await;
}

#[tokio::test(start_paused = true)]
async fn many_keys() {
    an_entry_of_older_memory_does_not_answer_a_stamp(true).await;
}
