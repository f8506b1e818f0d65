//! What a node tells when its L1 stops answering: each cause, once, and what became of what it held.

use std::time::Duration;

use async_cache_core::testing::{ms, until};
use async_cache_core::{Event, EventStream, Resumed, SuspendCause};
use futures_util::{FutureExt, StreamExt};

use crate::stage::Stage;
use crate::tier;

pub(crate) fn told(events: &mut EventStream) -> Vec<Event> {
    std::iter::from_fn(|| events.next().now_or_never().flatten()).collect()
}

async fn next(events: &mut EventStream) -> Event {
    let next = tokio::time::timeout(Duration::from_secs(10), events.next());
    next.await.expect("something is told").expect("the node is there")
}

/// 1. an invalidation is lost on the way; 2. the next one arrives.
#[tokio::test(start_paused = true)]
async fn a_message_that_is_missing() {
    let tier = tier();
    let (stage, other) = (Stage::on(&tier), Stage::on(&tier).node().await);
    let node = stage.node().await;
    let mut events = node.subscribe();
    stage.hold_events();
    other.invalidate("a").await.unwrap();
    until("it is on the way", || stage.held_events() > 0).await;
    stage.lose_held_events();
    other.invalidate("b").await.unwrap();
    assert_eq!(next(&mut events).await, Event::L1Suspended { cause: SuspendCause::Missed });
    assert_eq!(next(&mut events).await, Event::L1Resumed { held: Resumed::InDoubt });
}

/// 1. a server takes the place of another, and the bus does not tell; 2. a get is answered by it.
#[tokio::test(start_paused = true)]
async fn an_answer_of_another_server() {
    let stage = Stage::on(&tier());
    let node = stage.node().await;
    let mut events = node.subscribe();
    stage.another_server_answers();
    node.get("k").await.unwrap();
    assert_eq!(next(&mut events).await, Event::L1Suspended { cause: SuspendCause::ServerChanged });
    assert_eq!(next(&mut events).await, Event::L1Resumed { held: Resumed::Kept });
}

/// Nothing arrives any more, and nothing ends.
#[tokio::test(start_paused = true)]
async fn silence() {
    let stage = Stage::on(&tier());
    let node = stage.node().await;
    let mut events = node.subscribe();
    stage.hold_events();
    tokio::time::sleep(ms(1500)).await;
    assert_eq!(told(&mut events), [Event::L1Suspended { cause: SuspendCause::Silence }]);
    stage.let_events_go();
    assert_eq!(next(&mut events).await, Event::L1Resumed { held: Resumed::Kept });
}

/// L2 cannot be reached any more, and then can: each is told once.
#[tokio::test(start_paused = true)]
async fn an_outage_and_its_end() {
    let stage = Stage::on(&tier());
    let node = stage.node().await;
    let mut events = node.subscribe();
    stage.goes_away();
    for _ in 0..3 {
        node.get("k").await.unwrap_err();
    }
    assert_eq!(next(&mut events).await, Event::L2Lost);
    stage.comes_back();
    assert_eq!(next(&mut events).await, Event::L2Regained);
    tokio::time::sleep(ms(2_000)).await;
    assert_eq!(told(&mut events), [], "neither is told again");
}
