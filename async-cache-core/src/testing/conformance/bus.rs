//! The bus: which events arrive, at which nodes, and in which order.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::try_join_all;

use crate::backend::{Announce, BusEvent, Fill};
use crate::format::frame::unseal;
use crate::testing::conformance::rig::{Bench, LIFE, eventually, frame, holds, key, same};
use crate::testing::conformance::{Checked, clauses};

clauses! {
    changes_are_heard_by_everyone_in_order:
        "each change is published to every subscribed node, the one that made it too, in the order of its number",
    what_is_heard_can_be_read:
        "a change is never published before it can be read",
    each_change_is_heard_as_what_it_is:
        "`put`, `invalidate` and an announced `fill` are `Invalidated`, `clear` is `Cleared`",
    an_echo_comes_behind_every_change:
        "an `Echo` is delivered behind every change executed before it, with the sequence of then",
    an_echo_is_for_one_node:
        "an `Echo` goes to the node that sent the heartbeat, with its number",
    a_dropped_region_hears_no_more:
        "dropping the region ends its subscription, and disturbs nobody",
    a_dropped_listener_is_skipped:
        "a listener that has been dropped is skipped",
}

async fn changes_are_heard_by_everyone_in_order(bench: &Bench<'_>) -> Checked {
    let (a, b) = bench.two().await?;
    let k = key("k");
    let before = a.seq(&k).await?;
    let changes = (0..40).map(|n| (if n % 2 == 0 { &a } else { &b }, n)).map(|(node, n)| async move {
        match n % 5 {
            0 => node.put(&key("k"), b"v").await.map(|(_, seq, _)| seq),
            1 => Ok(node.region.clear(node.partition(&key("k"))).await?),
            _ => node.invalidate(&key("k")).await,
        }
    });
    let mut answered = try_join_all(changes).await?;
    answered.sort_unstable();
    let dense: Vec<u64> = (before + 1..=before + 40).collect();
    same("numbers answered", answered, dense.clone())?;
    for node in [&a, &b] {
        node.settle(&k).await?;
        same("numbers heard", node.heard.changes(node.partition(&k)), dense.clone())?;
    }
    Ok(())
}

async fn what_is_heard_can_be_read(bench: &Bench<'_>) -> Checked {
    let (a, b) = bench.two().await?;
    let k = key("k");
    for round in 0..20 {
        let wait = b.heard.events().len();
        let change = async {
            if round % 2 == 0 { a.put(&k, b"v").await.map(drop) } else { a.invalidate(&k).await.map(drop) }
        };
        let read = async {
            let event = eventually("a change is heard", async || Ok(b.heard.events().get(wait).cloned()));
            let Ok(BusEvent::Invalidated { seq, .. }) = event.await else {
                return holds("an invalidation is heard", false);
            };
            match b.read(&k).await? {
                Some(value) => holds("a put can be read once it is heard", unseal(&value) >= Some(seq)),
                None => same("put, heard and not there: in round", round % 2, 1),
            }
        };
        let (changed, read) = tokio::join!(change, read);
        changed?;
        read?;
    }
    Ok(())
}

async fn each_change_is_heard_as_what_it_is(bench: &Bench<'_>) -> Checked {
    let (a, b) = bench.two().await?;
    let k = key("k");
    let partition = a.partition(&k);
    let bytes = Bytes::copy_from_slice(k.as_bytes());
    let invalidated = |seq| BusEvent::Invalidated { partition, seq, key: bytes.clone() };
    let (_, put, _) = a.put(&k, b"v").await?;
    let invalidate = a.invalidate(&k).await?;
    let clear = a.region.clear(partition).await?;
    let lease = a.lease(&k).await?;
    a.region
        .fill_one(Fill {
            key: k.clone(),
            lease,
            frame: frame(lease.token, b"v"),
            life: LIFE,
            announce: Announce::Yes,
        })
        .await?;
    b.settle(&k).await?;
    let mut heard = b.heard.events();
    heard.retain(|event| {
        !matches!(event, BusEvent::Subscribed | BusEvent::PartitionSubscribed { .. } | BusEvent::Echo { .. })
    });
    let cleared = BusEvent::Cleared { partition, seq: clear };
    same("heard", heard, vec![invalidated(put), invalidated(invalidate), cleared, invalidated(clear + 1)])
}

async fn an_echo_comes_behind_every_change(bench: &Bench<'_>) -> Checked {
    let (a, b) = bench.two().await?;
    let k = key("k");
    let partition = a.partition(&k);
    for beat in 1..=10 {
        let seq = a.invalidate(&k).await?;
        b.region.heartbeat(partition, beat).await?;
        b.heard.event(&BusEvent::Echo { partition, seq, beat }).await?;
        same("heard by then", b.heard.changes(partition).last().copied(), Some(seq))?;
    }
    Ok(())
}

async fn an_echo_is_for_one_node(bench: &Bench<'_>) -> Checked {
    let (a, b) = bench.two().await?;
    let beats: Vec<u64> = vec![7, u64::MAX >> 12, 1];
    for beat in &beats {
        a.region.heartbeat(0, *beat).await?;
    }
    let heard = |event: BusEvent| match event {
        BusEvent::Echo { partition: 0, beat, .. } if beat < 1 << 40 || beat == u64::MAX >> 12 => Some(beat),
        _ => None,
    };
    let k = key("k");
    a.settle(&k).await?;
    b.settle(&k).await?;
    // The echo of another partition may come from another server.
    a.heard.wait("the last echo", |event| heard(event.clone()).filter(|beat| *beat == 1)).await?;
    same("by the one", a.heard.events().into_iter().filter_map(heard).collect(), beats)?;
    same("by the other", b.heard.events().into_iter().filter_map(heard).count(), 0)
}

async fn a_dropped_region_hears_no_more(bench: &Bench<'_>) -> Checked {
    let (a, b) = bench.two().await?;
    let k = key("k");
    a.invalidate(&k).await?;
    b.settle(&k).await?;
    let ear = Arc::clone(&b.heard);
    drop(b);
    let c = bench.node().await?;
    // A node that receives events asynchronously may still receive those under way.
    let heard = eventually("a change is not heard", async || {
        let before = ear.events().len();
        a.invalidate(&k).await?;
        a.settle(&k).await?;
        c.settle(&k).await?;
        Ok((ear.events().len() == before).then_some(()))
    });
    heard.await?;
    holds("others go on", !c.heard.changes(c.partition(&k)).is_empty())
}

async fn a_dropped_listener_is_skipped(bench: &Bench<'_>) -> Checked {
    let (a, b) = bench.two().await?;
    let k = key("k");
    let region = Arc::clone(&b.region);
    drop(b);
    a.invalidate(&k).await?;
    region.heartbeat(0, 1).await?;
    a.settle(&k).await?;
    same("heard by the other", a.heard.changes(a.partition(&k)).len(), 1)
}
