//! Changes that L2 refuses: told, kept, and tried again at a pace that costs nobody anything.

use std::time::Duration;

use async_cache_core::testing::{Mutant, until};
use async_cache_core::{ErrorKind, Event, TieredCache};
use async_cache_memory::MemoryBackend;
use futures_util::StreamExt;

use crate::stage::Stage;

/// How often a refused change is tried in a minute.
async fn attempts_in_a_minute(mutant: Option<Mutant>) -> usize {
    let stage = Stage::on(&MemoryBackend::new(100));
    let builder = TieredCache::<String, u64>::builder().namespace("rows").l1(MemoryBackend::new(100));
    let builder = builder.l2(stage.clone());
    let builder = match mutant {
        Some(mutant) => builder.mutant(mutant),
        None => builder,
    };
    let node = builder.build().unwrap();
    stage.changes_are_refused(true);
    node.invalidate("a").await.unwrap_err();
    tokio::time::sleep(Duration::from_secs(60)).await;
    stage.refusals()
}

#[tokio::test(start_paused = true)]
async fn a_refused_change_is_tried_less_and_less_often() {
    let attempts = attempts_in_a_minute(None).await;
    assert!((2..=12).contains(&attempts), "{attempts}");
    let mutated = attempts_in_a_minute(Some(Mutant::RefusalsRetriedLikeOutages)).await;
    assert!(mutated > 100, "the proof objects to a retry like an outage's: {mutated}");
}

#[tokio::test(start_paused = true)]
async fn a_refused_change_is_told_and_lands_once_it_is_permitted() {
    let tier = MemoryBackend::new(100);
    let stage = Stage::on(&tier);
    let (node, other) = (stage.node().await, Stage::on(&tier).node().await);
    for name in ["key", "tagged", "insert", "clear"] {
        other.insert("a", 1).tag("t").await.unwrap();
        assert_eq!(node.get("a").await.unwrap().as_deref(), Some(&1));
        let mut events = node.subscribe();
        stage.changes_are_refused(true);
        let refused = match name {
            "key" => node.invalidate("a").await.unwrap_err(),
            "tagged" => node.invalidate_tag("t").await.unwrap_err(),
            "insert" => node.insert("a", 2).await.unwrap_err(),
            _ => node.invalidate_all().await.unwrap_err(),
        };
        assert_eq!(refused.kind(), ErrorKind::Config, "{name}: {refused}");
        assert!(refused.to_string().contains("the user may not PUBLISH"), "{name}: {refused}");
        let served = node.get("a").await.ok().flatten();
        assert_ne!(served.as_deref(), Some(&1), "{name}: not served from what it was to void");
        assert_eq!(other.get("a").await.unwrap().as_deref(), Some(&1), "{name}: nothing was changed");
        assert_eq!(events.next().await, Some(Event::InvalidationPending { pending: 1 }), "{name}");
        stage.changes_are_refused(false);
        until("it lands", || node.stats().pending_invalidations == 0).await;
        assert_eq!(other.get("a").await.unwrap(), None, "{name}");
    }
}
