//! A value reflects the changes of its node that returned before it was loaded. Its number must tell that.

use std::time::Duration;

use async_cache_core::testing::{Source, ms, until};
use async_cache_core::{OutagePolicy, TieredCacheBuilder, Verify};
use tokio::time::sleep;

use super::reports;
use crate::stage::{Cache, Stage};
use crate::tier;

/// Makes a change of the key "k".
async fn change(node: &Cache, kind: &str, version: u64) {
    let done = match kind {
        "invalidation" => node.invalidate("k").await,
        "invalidations" => node.invalidate_many(&["j".to_owned(), "k".to_owned()]).await,
        "expiry" => node.expire("k").await,
        _ => node.insert("k", version).ttl(ms(50)).await,
    };
    done.unwrap();
}

/// 1. A change of this node returns, and its message is late; 2. L2 cannot be asked, so the key is loaded without it, and
///    L1 stores the value; 3. a hit answers with the value, and the verifier looks at it; 4. the message arrives.
#[tokio::test(start_paused = true)]
async fn a_load_after_a_change_of_this_node_reflects_it() {
    for kind in ["invalidation", "invalidations", "expiry", "insert"] {
        let (stage, row) = (Stage::on(&tier()), Source::new());
        let options = |builder: TieredCacheBuilder<String, u64>| {
            let builder = builder.outage(OutagePolicy::Load).max_staleness(Duration::from_secs(10));
            builder.verify(Verify::sample(1.0))
        };
        let node = stage.node_with(options).await;
        let mut events = node.subscribe();
        stage.hold_events();
        row.write();
        change(&node, kind, row.version()).await;
        sleep(ms(60)).await;
        stage.reads_fail();
        let load = row.clone();
        let loaded = node.get_or_load("k", move || load.now()).await.unwrap();
        assert_eq!((*loaded, row.loads()), (row.version(), 1), "{kind}: it is loaded without L2");
        stage.comes_back();
        for hits in 1..=2 {
            assert_eq!(node.get("k").await.unwrap(), Some(loaded.clone()), "{kind}: hit {hits}");
            assert_eq!(node.stats().l1_hits, hits, "{kind}: L1 answers");
            until("the hit was checked", || node.stats().verified_hits == hits).await;
            assert_eq!(reports(&mut events), [], "{kind}: hit {hits}");
            stage.let_events_go();
            until("the message arrives", || node.stats().invalidations_received > 0).await;
        }
    }
}
