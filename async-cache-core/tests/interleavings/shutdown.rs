//! Shutting down with changes that have not reached the shared tier.

use std::time::Duration;

use async_cache_core::{CacheGroup, ErrorKind, Shutdown};
use tokio::time::Instant;

use crate::stage::Stage;
use crate::{Change, tier};

/// 1. a change fails, and is to be retried; 2. the tier is back; 3. at once the node is shut down.
#[tokio::test(start_paused = true)]
async fn a_shutdown_sends_what_is_pending() {
    for change in Change::ALL {
        let tier = tier();
        let (stage, other) = (Stage::on(&tier), Stage::on(&tier).node().await);
        let node = stage.node().await;
        other.insert("k", 1).tag("t").await.unwrap();
        change.fail(&stage, &node).await;
        stage.changes_go_through();
        assert_eq!(node.stats().pending_invalidations, 1, "{change:?}");
        let left = node.shutdown().await;
        assert_eq!(left, Shutdown::default(), "{change:?}");
        assert_eq!(other.get("k").await.unwrap(), None, "{change:?}");
    }
}

/// 1. a change is under way; 2. the node is being shut down; 3. the change fails; 4. the tier is back.
#[tokio::test(start_paused = true)]
async fn a_shutdown_sends_what_fails_meanwhile() {
    for change in Change::ALL {
        let tier = tier();
        let (stage, other) = (Stage::on(&tier), Stage::on(&tier).node().await);
        let node = stage.node().await;
        other.insert("k", 1).tag("t").await.unwrap();
        let changing = change.get_stuck(&stage, &node).await;
        let ending = tokio::spawn({
            let node = node.clone();
            async move { node.shutdown().await }
        });
        tokio::time::sleep(Duration::from_millis(50)).await;
        stage.changes_go_through();
        stage.time_out();
        changing.await.unwrap().unwrap_err();
        assert_eq!(ending.await.unwrap(), Shutdown::default(), "{change:?}");
        assert_eq!(other.get("k").await.unwrap(), None, "{change:?}");
    }
}

/// It does not wait for a tier that stays away, and tells what it leaves.
#[tokio::test(start_paused = true)]
async fn a_shutdown_ends_in_an_outage_and_tells_what_is_left() {
    for change in Change::ALL {
        let stage = Stage::on(&tier());
        let node = stage.node().await;
        change.fail(&stage, &node).await;
        let begun = Instant::now();
        assert_eq!(node.shutdown().await.pending_invalidations, 1, "{change:?}");
        assert!(begun.elapsed() <= Duration::from_millis(3_010), "{change:?}: {:?}", begun.elapsed());
        // Whoever asks again is told the same.
        assert_eq!(node.shutdown().await.pending_invalidations, 1, "{change:?}");
    }
}

/// The caches of a group are shut down at the same time, and what all of them leave is added up.
#[tokio::test(start_paused = true)]
async fn the_caches_of_a_group_end_together() {
    let (users, teams) = (Stage::on(&tier()), Stage::on(&tier()));
    let (here, there) = (users.node().await, teams.node().await);
    let group = CacheGroup::new().with(&here).with(&there);
    group.ready().await.unwrap();
    for stage in [(&users, &here), (&teams, &there)] {
        Change::ALL[0].fail(stage.0, stage.1).await;
    }
    let begun = Instant::now();
    assert_eq!(group.shutdown().await.pending_invalidations, 2);
    assert!(begun.elapsed() <= Duration::from_millis(3_010), "{:?}", begun.elapsed());
    assert_eq!(group.ready().await.unwrap_err().kind(), ErrorKind::Shutdown);
}

/// What is refused is not tried until the limit: it does not help.
#[tokio::test(start_paused = true)]
async fn a_shutdown_does_not_insist_on_what_is_refused() {
    let stage = Stage::on(&tier());
    let node = stage.node().await;
    stage.changes_are_refused(true);
    node.invalidate("k").await.unwrap_err();
    let begun = Instant::now();
    assert_eq!(node.shutdown().await.pending_invalidations, 1);
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
}
