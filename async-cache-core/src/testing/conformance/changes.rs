//! Changes: their numbers, the values that they void, and the leases that they break.

use bytes::Bytes;
use tokio::time::Instant;

use crate::backend::{Acquired, Announce, Fill, Filled, GRANT_PACE, Renewed};
use crate::format::key::Key;
use crate::testing::conformance::rig::{
    Bench, LIFE, Node, eventually, frame, granted, holds, key, same, stored,
};
use crate::testing::conformance::{Checked, clauses};

clauses! {
    each_change_raises_the_sequence_by_one:
        "each change raises its partition's sequence by one, and is answered with the number",
    nothing_else_raises_it:
        "what is no change leaves the sequence alone",
    many_changes_are_answered_in_order:
        "`put` and `invalidate` answer the sequence number of each, in order",
    an_invalidated_value_is_gone:
        "`invalidate` removes the value",
    a_put_breaks_the_lease:
        "`put` breaks the key's lease and wakes its waiters, with the value",
    an_invalidation_breaks_the_lease:
        "`invalidate` breaks the key's lease and wakes its waiters",
    a_broken_key_cools:
        "breaking a held lease leaves its key busy for `GRANT_PACE`, and no longer for being broken again",
    only_a_held_lease_cools:
        "a change that breaks no held lease leaves the key free",
    a_late_put_changes_nothing:
        "`put` is not executed later than `not_after_ms` on the server's clock",
    a_clear_voids_values:
        "`clear` raises the floor to a new sequence number: values below it are void",
    a_clear_voids_leases:
        "a lease granted below the floor does not hold: it fills nothing, delays nobody, and does not cool",
    a_void_fill_wakes:
        "a refused `fill` ends its lease and wakes the waiters",
    a_clear_concerns_one_partition:
        "`clear` voids one partition",
}

async fn each_change_raises_the_sequence_by_one(bench: &Bench<'_>) -> Checked {
    let (a, b) = bench.two().await?;
    let k = key("k");
    let before = a.seq(&k).await?;
    same("put", a.put(&k, b"v").await?.1, before + 1)?;
    same("invalidate", b.invalidate(&k).await?, before + 2)?;
    same("invalidate again", b.invalidate(&k).await?, before + 3)?;
    same("clear", a.region.clear(a.partition(&k)).await?, before + 4)?;
    let lease = b.lease(&k).await?;
    let frame = frame(lease.token, b"v");
    let filled =
        b.region.fill_one(Fill { key: k.clone(), lease, frame, life: LIFE, announce: Announce::Yes }).await?;
    same("announced fill", filled, Filled::Stored { seq: before + 5 })?;
    let state = a.region.state(a.partition(&k)).await?;
    same("sequence and floor", (state.seq, state.floor), (before + 5, before + 4))
}

async fn nothing_else_raises_it(bench: &Bench<'_>) -> Checked {
    let (a, b) = bench.two().await?;
    let k = key("k");
    let before = a.seq(&k).await?;
    let lease = a.lease(&k).await?;
    b.queue(&k).await?;
    a.region.renew_one(&k, lease, LIFE).await?;
    a.region.release_one(&k, lease).await?;
    let lease = a.lease(&k).await?;
    a.fill(&k, lease, b"v").await?;
    a.fill(&k, lease, b"refused").await?;
    a.read(&k).await?;
    a.acquire(&k).await?;
    a.region.heartbeat(a.partition(&k), 1).await?;
    same("the sequence", b.seq(&k).await?, before)?;
    b.settle(&k).await?;
    same("changes heard", b.heard.changes(b.partition(&k)), vec![])
}

async fn many_changes_are_answered_in_order(bench: &Bench<'_>) -> Checked {
    let (a, b) = bench.two().await?;
    let names: Vec<Key> = ["one", "two", "one", "three"].map(key).to_vec();
    let dense = async |seqs: &[u64], before: &[u64]| -> Checked {
        for (at, seq) in seqs.iter().enumerate() {
            let partition = a.partition(&names[at]);
            let earlier = names[..at].iter().filter(|name| a.partition(name) == partition).count();
            same("a number", *seq, before[usize::from(partition)] + earlier as u64 + 1)?;
        }
        same("numbers", seqs.len(), names.len())
    };
    let entries: Vec<(Key, Bytes)> =
        names.iter().enumerate().map(|(at, k)| (k.clone(), frame(a.token(), &[at as u8]))).collect();
    let before = sequences(&a).await?;
    let put = a.region.put(&entries, LIFE, u64::MAX >> 12).await?;
    dense(&put, &before).await?;
    same("the later of two", b.read(&names[0]).await?, Some(stored(put[2], &entries[2].1)))?;
    let before = sequences(&a).await?;
    dense(&a.region.invalidate(&names).await?, &before).await?;
    same("of nothing", a.region.invalidate(&[]).await?, vec![])?;
    same("of nothing", a.region.put(&[], LIFE, u64::MAX >> 12).await?, vec![])
}

async fn sequences(node: &Node) -> Checked<Vec<u64>> {
    let mut seqs = Vec::new();
    for partition in 0..node.region.info().partitions {
        seqs.push(node.region.state(partition).await?.seq);
    }
    Ok(seqs)
}

async fn an_invalidated_value_is_gone(bench: &Bench<'_>) -> Checked {
    let (a, b) = bench.two().await?;
    let (k, other) = (key("k"), key("other"));
    a.put(&k, b"v").await?;
    a.put(&other, b"v").await?;
    b.invalidate(&k).await?;
    same("read", a.read(&k).await?, None)?;
    a.lease(&k).await?;
    holds("others stay", a.read(&other).await?.is_some())
}

async fn a_put_breaks_the_lease(bench: &Bench<'_>) -> Checked {
    let (a, b) = bench.two().await?;
    let k = key("k");
    let lease = a.lease(&k).await?;
    b.queue(&k).await?;
    let (_, _, value) = b.put(&k, b"new").await?;
    same("the broken lease's fill", a.fill(&k, lease, b"old").await?, Filled::Refused)?;
    same("its renewal", a.region.renew_one(&k, lease, LIFE).await?, Renewed::Lost)?;
    same("what is stored", a.read(&k).await?, Some(value.clone()))?;
    b.settle(&k).await?;
    same("woken", b.heard.woken(&k), vec![Some(value)])
}

async fn an_invalidation_breaks_the_lease(bench: &Bench<'_>) -> Checked {
    let (a, b) = bench.two().await?;
    let k = key("k");
    let lease = a.lease(&k).await?;
    b.queue(&k).await?;
    a.invalidate(&k).await?;
    same("the broken lease's fill", a.fill(&k, lease, b"old").await?, Filled::Refused)?;
    same("its renewal", a.region.renew_one(&k, lease, LIFE).await?, Renewed::Lost)?;
    same("what is stored", a.read(&k).await?, None)?;
    b.settle(&k).await?;
    same("woken", b.heard.woken(&k), vec![None])
}

async fn a_broken_key_cools(bench: &Bench<'_>) -> Checked {
    let (a, b) = bench.two().await?;
    let k = key("k");
    let lease = a.lease(&k).await?;
    let breaking = Instant::now();
    b.invalidate(&k).await?;
    let broken = Instant::now();
    match a.acquire(&k).await? {
        Acquired::Busy(left) => holds("it cools for the pace at most", left <= GRANT_PACE)?,
        Acquired::Granted(_) => holds("not granted while it cools", breaking.elapsed() >= GRANT_PACE)?,
        other => same("an answer about nothing", Some(other), None)?,
    }
    let next = eventually("a key that is invalidated all the time is granted", async || {
        b.invalidate(&k).await?;
        Ok(granted(a.acquire(&k).await?).ok())
    });
    let next = next.await?;
    holds("the next lease knows of the changes", next.seq > lease.seq)?;
    // A server may count in milliseconds.
    let pace = GRANT_PACE.saturating_sub(std::time::Duration::from_millis(2));
    holds("it was not granted sooner than the pace", breaking.elapsed() >= pace)?;
    holds("nor much later", broken.elapsed() < std::time::Duration::from_secs(5))
}

async fn only_a_held_lease_cools(bench: &Bench<'_>) -> Checked {
    let (a, b) = bench.two().await?;
    let (k, filled, released) = (key("k"), key("filled"), key("released"));
    let (lease, other) = (a.lease(&filled).await?, a.lease(&released).await?);
    a.fill(&filled, lease, b"v").await?;
    a.region.release_one(&released, other).await?;
    for free in [&k, &filled, &released] {
        b.invalidate(free).await?;
        a.lease(free).await?;
    }
    Ok(())
}

async fn a_late_put_changes_nothing(bench: &Bench<'_>) -> Checked {
    let (a, b) = bench.two().await?;
    let k = key("k");
    let (_, _, value) = a.put(&k, b"v").await?;
    let before = b.region.state(b.partition(&k)).await?;
    let entry = [(k.clone(), frame(a.token(), b"late"))];
    let late = a.region.put(&entry, LIFE, before.time_ms - 1).await;
    holds("it is a temporary error", late.is_err_and(|error| error.is_temporary()))?;
    same("what is stored", b.read(&k).await?, Some(value))?;
    same("the sequence", b.seq(&k).await?, before.seq)?;
    b.settle(&k).await?;
    same("changes heard", b.heard.changes(b.partition(&k)), vec![before.seq])
}

async fn a_clear_voids_values(bench: &Bench<'_>) -> Checked {
    let (a, b) = bench.two().await?;
    let k = key("k");
    a.put(&k, b"old").await?;
    let seq = b.region.clear(b.partition(&k)).await?;
    let state = a.region.state(a.partition(&k)).await?;
    same("sequence and floor", (state.seq, state.floor), (seq, seq))?;
    let lease = a.lease(&k).await?;
    same("a later fill", a.fill(&k, lease, b"new").await?, Filled::Stored { seq })?;
    let value = stored(seq, &frame(lease.token, b"new"));
    same("is valid", b.acquire(&k).await?, Acquired::Value(value))
}

async fn a_clear_voids_leases(bench: &Bench<'_>) -> Checked {
    let (a, b) = bench.two().await?;
    let (filled, held, changed) = (key("filled"), key("held"), key("changed"));
    let (lease, other) = (a.lease(&filled).await?, a.lease(&held).await?);
    a.lease(&changed).await?;
    for k in [&filled, &held, &changed] {
        b.region.clear(b.partition(k)).await?;
    }
    same("its fill", a.fill(&filled, lease, b"old").await?, Filled::Refused)?;
    same("what is stored", b.read(&filled).await?, None)?;
    same("its renewal", a.region.renew_one(&held, other, LIFE).await?, Renewed::Lost)?;
    b.invalidate(&changed).await?;
    for k in [&filled, &held, &changed] {
        b.lease(k).await?;
    }
    Ok(())
}

async fn a_void_fill_wakes(bench: &Bench<'_>) -> Checked {
    let (a, b) = bench.two().await?;
    let k = key("k");
    let lease = a.lease(&k).await?;
    b.queue(&k).await?;
    a.region.clear(a.partition(&k)).await?;
    same("fill", a.fill(&k, lease, b"old").await?, Filled::Refused)?;
    b.settle(&k).await?;
    same("woken", b.heard.woken(&k), vec![None])
}

async fn a_clear_concerns_one_partition(bench: &Bench<'_>) -> Checked {
    let node = bench.node().await?;
    if node.region.info().partitions == 1 {
        return Ok(());
    }
    let cleared = node.partition(&key("k0"));
    let names: Vec<Key> = (0..20).map(|n| key(&format!("k{n}"))).collect();
    for name in &names {
        node.put(name, b"v").await?;
    }
    node.region.clear(cleared).await?;
    for name in &names {
        let void = matches!(node.acquire(name).await?, Acquired::Granted(_));
        same("void", void, node.partition(name) == cleared)?;
    }
    Ok(())
}
