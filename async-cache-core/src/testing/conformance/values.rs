//! Stored values, and how they are read.

use std::time::Duration;

use bytes::Bytes;

use crate::backend::{Accept, Acquire, Acquired, Announce, Check, Fill, Filled};
use crate::error::ErrorKind;
use crate::format::frame::ends_of;
use crate::format::key::Key;
use crate::testing::conformance::rig::{
    Bench, LIFE, SHORT, eventually, frame, granted, holds, key, same, stored,
};
use crate::testing::conformance::{Checked, clauses};

clauses! {
    a_filled_value_is_sealed_with_its_lease:
        "`fill` stores the frame behind the seal of the lease's sequence number",
    a_put_value_is_sealed_with_its_own_number:
        "`put` stores the frame behind the seal of the change's own sequence number",
    an_announced_fill_is_sealed_with_its_own_number:
        "with `Announce::Yes`, `fill` seals with the number of the change it is",
    a_stored_value_answers:
        "`acquire` returns the valid value, or that it is the known one, unless none is accepted",
    an_expired_value_makes_room:
        "`acquire` treats the value that has expired for the caller as absent, and returns any other",
    a_plain_read_looks_at_nothing_else:
        "`get` reads without regard to floor or lease",
    many_are_read_in_order:
        "`get_many` answers one per key, in that order",
    answers_name_one_server:
        "every answer carries the run of the server that has the partition, the same while it lives",
    values_end_with_their_life:
        "a value is stored for `life`",
    keys_and_frames_are_any_bytes:
        "keys and frames are opaque bytes",
    namespaces_are_apart:
        "a region is one namespace",
    another_record_is_refused:
        "a node that brings another record is refused with `Config`",
    no_such_partition:
        "a partition that does not exist is an error",
    the_clock_goes_on:
        "`time_ms` is the clock that expires values",
}

async fn a_filled_value_is_sealed_with_its_lease(bench: &Bench<'_>) -> Checked {
    let (a, b) = bench.two().await?;
    let k = key("k");
    let lease = a.lease(&k).await?;
    // A change of another key. The seal still has the number of the lease.
    b.invalidate(&key("other")).await?;
    same("fill", a.fill(&k, lease, b"v").await?, Filled::Stored { seq: lease.seq })?;
    same("what is stored", b.read(&k).await?, Some(stored(lease.seq, &frame(lease.token, b"v"))))
}

async fn a_put_value_is_sealed_with_its_own_number(bench: &Bench<'_>) -> Checked {
    let (a, b) = bench.two().await?;
    let (_, seq, value) = a.put(&key("k"), b"v").await?;
    same("the sequence", b.seq(&key("k")).await?, seq)?;
    same("what is stored", b.read(&key("k")).await?, Some(value))
}

async fn an_announced_fill_is_sealed_with_its_own_number(bench: &Bench<'_>) -> Checked {
    let node = bench.node().await?;
    let k = key("k");
    let lease = node.lease(&k).await?;
    let frame = frame(lease.token, b"v");
    let filled = node
        .region
        .fill_one(Fill { key: k.clone(), lease, frame: frame.clone(), life: LIFE, announce: Announce::Yes })
        .await?;
    same("fill", filled, Filled::Stored { seq: lease.seq + 1 })?;
    same("the sequence", node.seq(&k).await?, lease.seq + 1)?;
    same("what is stored", node.read(&k).await?, Some(stored(lease.seq + 1, &frame)))
}

async fn a_stored_value_answers(bench: &Bench<'_>) -> Checked {
    let (a, b) = bench.two().await?;
    let k = key("k");
    let (token, _, value) = a.put(&k, b"both ends, and a payload").await?;
    same("asked", b.acquire(&k).await?, Acquired::Value(value.clone()))?;
    let ask = async |accept| b.region.acquire_one(&k, Acquire { accept, ..b.ask() }).await;
    let unchanged = Acquired::Unchanged { seq: b.seq(&k).await?, ends: ends_of(&value) };
    same("knowing it", ask(Accept::Known(token)).await?, unchanged)?;
    same("knowing another", ask(Accept::Known(b.token())).await?, Acquired::Value(value.clone()))?;
    let lease = granted(b.reload(&k).await?)?;
    same("asked while it is reloaded", a.acquire(&k).await?, Acquired::Value(value))?;
    b.region.release_one(&k, lease).await?;
    granted(ask(Accept::Nothing).await?).map(drop)
}

async fn an_expired_value_makes_room(bench: &Bench<'_>) -> Checked {
    let (a, b) = bench.two().await?;
    let k = key("k");
    let (token, _, value) = a.put(&k, b"v").await?;
    let ask = async |accept| b.region.acquire_one(&k, Acquire { accept, ..b.ask() }).await;
    same("wanting another", ask(Accept::Other(b.token())).await?, Acquired::Value(value.clone()))?;
    granted(ask(Accept::Other(token)).await?)?;
    same("it is still there", b.read(&k).await?, Some(value))
}

async fn a_plain_read_looks_at_nothing_else(bench: &Bench<'_>) -> Checked {
    let node = bench.node().await?;
    let k = key("k");
    let (_, _, value) = node.put(&k, b"v").await?;
    granted(node.reload(&k).await?)?;
    same("under a lease", node.read(&k).await?, Some(value.clone()))?;
    node.region.clear(node.partition(&k)).await?;
    same("below the floor", node.read(&k).await?, Some(value))
}

async fn many_are_read_in_order(bench: &Bench<'_>) -> Checked {
    let node = bench.node().await?;
    let names: Vec<Key> = (0..40).map(|n| key(&format!("k{n}"))).collect();
    for name in names.iter().step_by(3) {
        node.put(name, name.as_bytes()).await?;
    }
    let mut asked = names.clone();
    asked.reverse();
    asked.push(names[0].clone());
    let mut singly = Vec::new();
    for name in &asked {
        singly.push(node.read(name).await?);
    }
    same("values found", singly.iter().flatten().count(), 15)?;
    same("many", node.region.read(&asked, Check::Plain).await?.values.to_vec(), singly)?;
    same("none", node.region.read(&[], Check::Plain).await?.values.to_vec(), vec![])
}

async fn answers_name_one_server(bench: &Bench<'_>) -> Checked {
    let (a, b) = bench.two().await?;
    let k = key("k");
    let partition = a.partition(&k);
    let run = a.region.state(partition).await?.run;
    same("state", b.region.state(partition).await?.run, run)?;
    same("get", b.region.read_one(&k, Check::Plain).await?.run, run)?;
    same("get_many", b.region.read(std::slice::from_ref(&k), Check::Plain).await?.run, run)?;
    for read in b.region.read_each(&[k.clone(), k], Check::Plain).await {
        same("each", read?.run, run)?;
    }
    same("heartbeat", b.region.heartbeat(partition, 1).await?.run, run)
}

async fn values_end_with_their_life(bench: &Bench<'_>) -> Checked {
    let node = bench.node().await?;
    let (put, filled, kept) = (key("put"), key("filled"), key("kept"));
    node.region.put(&[(put.clone(), frame(node.token(), b"v"))], SHORT, u64::MAX >> 12).await?;
    let lease = node.lease(&filled).await?;
    node.region
        .fill_one(Fill {
            key: filled.clone(),
            lease,
            frame: frame(lease.token, b"v"),
            life: SHORT,
            announce: Announce::No,
        })
        .await?;
    node.put(&kept, b"v").await?;
    for short in [&put, &filled] {
        let gone = async || Ok(node.read(short).await?.is_none().then_some(()));
        eventually("a value of a short life is gone", gone).await?;
        granted(node.acquire(short).await?)?;
    }
    holds("a value of a long life stays", node.read(&kept).await?.is_some())
}

async fn keys_and_frames_are_any_bytes(bench: &Bench<'_>) -> Checked {
    let (a, b) = bench.two().await?;
    let every: Vec<u8> = (0..=255).collect();
    let long = vec![b'x'; crate::format::key::MAX_KEY_BYTES];
    let names: [&[u8]; 6] = [b"", b"\0", b" \r\n:{}*", &every, &long, "\u{1F512}".as_bytes()];
    for name in names {
        let k = Key::from_encoded(name);
        for bytes in [&b""[..], b"\0\r\n", &every] {
            let frame = Bytes::copy_from_slice(bytes);
            let seqs = a.region.put(&[(k.clone(), frame.clone())], LIFE, u64::MAX >> 12).await?;
            let wanted = stored(seqs[0], &frame);
            same("read", b.read(&k).await?, Some(wanted.clone()))?;
            same("acquired", b.acquire(&k).await?, Acquired::Value(wanted))?;
        }
        a.invalidate(&k).await?;
        same("invalidated", b.read(&k).await?, None)?;
        let lease = a.lease(&k).await?;
        b.queue(&k).await?;
        a.fill(&k, lease, &every).await?;
        let wanted = Some(stored(lease.seq, &frame(lease.token, &every)));
        b.settle(&k).await?;
        same("woken", b.heard.woken(&k), vec![wanted])?;
    }
    Ok(())
}

async fn namespaces_are_apart(bench: &Bench<'_>) -> Checked {
    let (node, beside) = (bench.node().await?, bench.neighbour().await?);
    let k = key("k");
    let (_, _, value) = node.put(&k, b"v").await?;
    same("read beside", beside.read(&k).await?, None)?;
    beside.lease(&k).await?;
    beside.region.clear(beside.partition(&k)).await?;
    beside.invalidate(&k).await?;
    same("after changes beside", node.acquire(&k).await?, Acquired::Value(value))?;
    node.settle(&k).await?;
    same("changes heard", node.heard.changes(node.partition(&k)).len(), 1)
}

async fn another_record_is_refused(bench: &Bench<'_>) -> Checked {
    let node = bench.node().await?;
    node.put(&key("k"), b"v").await?;
    let before = node.region.state(0).await?;
    let refused = bench.stranger().await;
    holds("a node of another record is refused", refused.is_err())?;
    same("the sequence", node.region.state(0).await?.seq, before.seq)
}

async fn no_such_partition(bench: &Bench<'_>) -> Checked {
    let node = bench.node().await?;
    let count = node.region.info().partitions;
    holds("there is a partition", count > 0)?;
    let temporary = |kind| kind == ErrorKind::Backend;
    for beyond in [count, u16::MAX] {
        let state = node.region.state(beyond).await.map(drop);
        let clear = node.region.clear(beyond).await.map(drop);
        let heartbeat = node.region.heartbeat(beyond, 1).await.map(drop);
        for (what, outcome) in [("state", state), ("clear", clear), ("heartbeat", heartbeat)] {
            let lasting = outcome.is_err_and(|error| !temporary(error.kind()));
            holds(&format!("{what} of partition {beyond} of {count} is a lasting error"), lasting)?;
        }
    }
    Ok(())
}

async fn the_clock_goes_on(bench: &Bench<'_>) -> Checked {
    let node = bench.node().await?;
    let first = node.region.state(0).await?.time_ms;
    tokio::time::sleep(Duration::from_millis(30)).await;
    let second = node.region.heartbeat(0, 1).await?.time_ms;
    holds("thirty milliseconds later it shows more", second >= first + 25)?;
    holds("it does not run away", second < first + 60_000)
}
