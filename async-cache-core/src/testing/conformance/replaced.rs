//! The server is replaced, or away.

use std::time::Duration;

use tokio::time::Instant;

use crate::backend::{Acquired, Announce, Check, Fill, Filled};
use crate::error::ErrorKind;
use crate::testing::conformance::rig::{Bench, LIFE, eventually, frame, holds, key, same};
use crate::testing::conformance::{Checked, Hook, clauses};

clauses! {
    lost_memory_is_fenced:
        "after the memory was replaced, sequence and floor are beyond any seen before, and the run is another",
    unreachable_is_an_error_in_time:
        "every operation ends within the command deadline, and at once while the backend is known to be unreachable",
}

async fn lost_memory_is_fenced(bench: &Bench<'_>) -> Checked {
    let node = bench.node().await?;
    let (k, loading) = (key("k"), key("loading"));
    node.put(&k, b"old").await?;
    let lease = node.lease(&loading).await?;
    let seq = node.invalidate(&key("other")).await?;
    let before = node.region.state(node.partition(&k)).await?;
    if bench.subject.lose_memory().await == Hook::Missing {
        return Ok(());
    }
    // The fill may be the first operation that is executed.
    let filled = eventually("the backend answers again", async || {
        let frame = frame(lease.token, b"old");
        Ok(node
            .region
            .fill_one(Fill { key: loading.clone(), lease, frame, life: LIFE, announce: Announce::No })
            .await
            .ok())
    });
    same("an outstanding lease's fill", filled.await?, Filled::Refused)?;
    let after = node.region.state(node.partition(&k)).await?;
    holds("the run is another", after.run != before.run)?;
    holds("the sequence is beyond any before", after.seq > seq.max(before.seq))?;
    holds("and so is the floor", after.floor > seq.max(before.seq))?;
    let acquired = node.acquire(&k).await?;
    holds("what was stored is void", matches!(acquired, Acquired::Granted(_)))?;
    let next = node.lease(&loading).await?;
    same("a later fill", node.fill(&loading, next, b"new").await?, Filled::Stored { seq: next.seq })
}

async fn unreachable_is_an_error_in_time(bench: &Bench<'_>) -> Checked {
    let node = bench.node().await?;
    let k = key("k");
    let limit = node.region.info().deadline;
    let lease = node.lease(&k).await?;
    if bench.subject.stop().await == Hook::Missing {
        return Ok(());
    }
    let outcome = async {
        for round in 0..3 {
            let start = Instant::now();
            let frame = frame(lease.token, b"v");
            let entry = [(k.clone(), frame.clone())];
            let outcomes = tokio::join!(
                async { node.region.read_one(&k, Check::Plain).await.map(drop) },
                async { node.region.state(0).await.map(drop) },
                async { node.region.acquire_one(&k, node.ask()).await.map(drop) },
                async {
                    node.region
                        .fill_one(Fill { key: k.clone(), lease, frame, life: LIFE, announce: Announce::No })
                        .await
                        .map(drop)
                },
                async { node.region.put(&entry, LIFE, u64::MAX >> 12).await.map(drop) },
                async { node.region.invalidate(std::slice::from_ref(&k)).await.map(drop) },
                async { node.region.clear(0).await.map(drop) },
                async { node.region.heartbeat(0, 1).await.map(drop) },
            );
            let (get, state, acquire, fill, put, invalidate, clear, heartbeat) = outcomes;
            for outcome in [get, state, acquire, fill, put, invalidate, clear, heartbeat] {
                same("outcome", outcome.map_err(|error| error.kind()), Err(ErrorKind::Backend))?;
            }
            let took = start.elapsed();
            let slack = limit.max(Duration::from_millis(500));
            holds(&format!("round {round} took {took:?} of {limit:?}"), took <= limit + slack)?;
        }
        eventually("it knows", async || Ok((!node.region.info().available).then_some(()))).await
    };
    let outcome = outcome.await;
    bench.subject.go_on().await;
    outcome?;
    eventually("it answers again", async || Ok(node.region.state(0).await.ok())).await?;
    eventually("it says so", async || Ok(node.region.info().available.then_some(()))).await
}
