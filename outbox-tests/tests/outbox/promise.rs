//! A committed change is invalidated; a change that is not committed is not.

use async_cache::testing::until;
use async_cache_outbox::Change;
use integration_tests::fleet::Cache;
use outbox_tests::scene::two_nodes;
use outbox_tests::{Scene, TestDatabase};

/// Stores a value under a number, on all nodes.
async fn store(cache: &Cache, id: i64) {
    cache.insert(id.to_string().as_str(), 0).tag(format!("tag:{id}")).await.unwrap();
}

async fn is_cached(cache: &Cache, id: i64) -> bool {
    cache.contains(id.to_string().as_str()).await.unwrap()
}

/// Waits until a node has forgotten a key.
async fn forgotten(cache: &Cache, id: i64) {
    let key = id.to_string();
    while cache.contains(key.as_str()).await.unwrap() {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
}

async fn a_committed_change_is_invalidated_on_every_node<DB: TestDatabase>() {
    let (scene, (_l2, [here, there])) = (Scene::<DB>::new().await, two_nodes().await);
    for id in 0..8 {
        store(&here, id).await;
        assert!(is_cached(&there, id).await);
    }
    let relay = scene.relay(&here).await;
    let mut tx = scene.begin().await;
    scene.change(&mut tx, &here, 0).await;
    scene.outbox.invalidate_many(&mut tx, &here, ["1", "2"]).await.unwrap();
    scene.outbox.invalidate_tag(&mut tx, &here, "tag:3").await.unwrap();
    scene.outbox.invalidate_tag(&mut tx, "rows", "tag:4").await.unwrap();
    scene.outbox.write(&mut tx, [Change::key("rows", "5").unwrap()]).await.unwrap();
    tx.commit().await.unwrap();
    scene.drained().await;
    for id in 0..6 {
        forgotten(&there, id).await;
        assert!(!is_cached(&here, id).await, "{id}");
    }
    assert!(is_cached(&there, 6).await && is_cached(&here, 7).await, "the others stay");
    until("the rows are counted", || relay.stats().applied == 6).await;

    let mut tx = scene.begin().await;
    scene.outbox.invalidate_all(&mut tx, &here).await.unwrap();
    tx.commit().await.unwrap();
    scene.drained().await;
    forgotten(&there, 7).await;
}

async fn a_change_that_is_rolled_back_leaves_nothing<DB: TestDatabase>() {
    let (scene, (_l2, [here, there])) = (Scene::<DB>::new().await, two_nodes().await);
    store(&here, 1).await;
    let relay = scene.relay(&there).await;
    let mut tx = scene.begin().await;
    scene.change(&mut tx, &here, 1).await;
    tx.rollback().await.unwrap();
    // Dropped without a commit.
    let mut tx = scene.begin().await;
    scene.change(&mut tx, &here, 1).await;
    drop(tx);
    scene.commit(&here, 2).await;
    scene.drained().await;
    until("the committed one is counted", || relay.stats().applied > 0).await;
    assert_eq!(relay.stats().applied, 1);
    assert!(is_cached(&here, 1).await && is_cached(&there, 1).await);
}

async fn nothing_is_applied_before_its_commit<DB: TestDatabase>() {
    let (scene, (_l2, [here, there])) = (Scene::<DB>::new().await, two_nodes().await);
    store(&here, 1).await;
    let relay = scene.relay(&there).await;
    let mut tx = scene.begin().await;
    scene.change(&mut tx, &here, 1).await;
    for _ in 0..20 {
        relay.wake_up();
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        assert!(is_cached(&there, 1).await);
    }
    assert_eq!(relay.stats().applied, 0);
    tx.commit().await.unwrap();
    scene.drained().await;
    forgotten(&there, 1).await;
}

async fn a_row_with_a_lower_id_that_commits_later_is_applied<DB: TestDatabase>() {
    let (scene, (_l2, [here, there])) = (Scene::<DB>::new().await, two_nodes().await);
    store(&here, 1).await;
    let relay = scene.relay(&there).await;
    let mut early = scene.begin().await;
    scene.change(&mut early, &here, 1).await;
    for id in 2..10 {
        scene.commit(&here, id).await;
    }
    until("the later rows are applied", || relay.stats().applied == 8).await;
    assert!(is_cached(&there, 1).await);
    early.commit().await.unwrap();
    scene.drained().await;
    forgotten(&there, 1).await;
}

outbox_tests::on_every_database!(
    a_committed_change_is_invalidated_on_every_node,
    a_change_that_is_rolled_back_leaves_nothing,
    nothing_is_applied_before_its_commit,
);

mod servers {
    use super::a_row_with_a_lower_id_that_commits_later_is_applied;
    outbox_tests::on_every_server!(a_row_with_a_lower_id_that_commits_later_is_applied);
}
