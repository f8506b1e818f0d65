//! The lease: granted once, ended in several ways.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;

use crate::backend::{
    Accept, Acquire, Acquired, Announce, BusEvent, Fill, Filled, Lease, Renewed, Token, WAKE_INLINE,
};
use crate::testing::conformance::rig::{
    Bench, LIFE, SHORT, eventually, frame, granted, holds, key, same, stored,
};
use crate::testing::conformance::{Checked, clauses};

clauses! {
    one_of_many_is_granted:
        "`acquire` grants one lease per key, and tells the others how long it lasts",
    a_grant_carries_the_sequence:
        "a lease carries the partition's sequence number at the grant, and its own token",
    only_its_lease_fills:
        "`fill` stores if the lease still holds; the lease is this acquisition's alone",
    only_its_lease_is_renewed_or_released:
        "`renew` and `release` act on the lease they are given, and on no other",
    a_lapsed_lease_is_gone:
        "a lease that is not renewed lapses after its `ttl`",
    a_renewed_lease_lives_on:
        "`renew` extends the lease to `ttl` from now",
    a_fill_ends_the_lease:
        "`fill` ends the lease",
    a_release_ends_the_lease:
        "`release` ends the lease, at once and without cooling",
    a_fill_wakes_with_small_values:
        "waking brings the value, if it was filled and has at most `WAKE_INLINE` bytes; else it says that it is stored",
    a_release_wakes:
        "`release` wakes the waiters, without a value",
    only_those_who_wait_are_woken:
        "waking goes to each node that was told `Busy`, once, and to no other",
    who_waits_outlasts_the_lease:
        "a node that was told `Busy` is woken by the next lease's end, if the one it waited for has lapsed or is void",
    many_at_once_are_as_one_by_one:
        "`acquire`, `fill`, `renew` and `release` of many keys do what one at a time does, in order",
}

async fn one_of_many_is_granted(bench: &Bench<'_>) -> Checked {
    let (a, b) = bench.two().await?;
    let k = key("k");
    let asks = (0..16).map(|n| if n % 2 == 0 { &a } else { &b }).map(|node| node.acquire(&k));
    let mut grants = 0;
    for answer in join_all(asks).await {
        match answer? {
            Acquired::Granted(_) => grants += 1,
            Acquired::Busy(left) => {
                holds("others wait as long as the lease lasts", left <= LIFE && left > LIFE / 2)?;
            }
            other => same("an answer about nothing", Some(other), None)?,
        }
    }
    same("grants", grants, 1)
}

async fn a_grant_carries_the_sequence(bench: &Bench<'_>) -> Checked {
    let node = bench.node().await?;
    for name in ["one", "two"] {
        node.invalidate(&key("other")).await?;
        let ask = node.ask();
        let lease = granted(node.region.acquire_one(&key(name), ask).await?)?;
        let seq = node.seq(&key(name)).await?;
        same("the lease", lease, Lease { token: ask.token, seq })?;
    }
    Ok(())
}

async fn only_its_lease_fills(bench: &Bench<'_>) -> Checked {
    let (a, b) = bench.two().await?;
    let k = key("k");
    let never = Lease { token: b.token(), seq: a.seq(&k).await? };
    same("without any lease", b.fill(&k, never, b"x").await?, Filled::Refused)?;
    let lease = a.lease(&k).await?;
    let other = Token { counter: lease.token.counter + 1, ..lease.token };
    for wrong in [never, Lease { token: other, ..lease }] {
        same("under another's lease", b.fill(&k, wrong, b"x").await?, Filled::Refused)?;
        same("what is stored", b.read(&k).await?, None)?;
    }
    same("by its holder", a.fill(&k, lease, b"v").await?, Filled::Stored { seq: lease.seq })?;
    same("a second time", a.fill(&k, lease, b"x").await?, Filled::Refused)?;
    same("what is stored", b.read(&k).await?, Some(stored(lease.seq, &frame(lease.token, b"v"))))
}

async fn only_its_lease_is_renewed_or_released(bench: &Bench<'_>) -> Checked {
    let (a, b) = bench.two().await?;
    let k = key("k");
    let lease = a.lease(&k).await?;
    let wrong = Lease { token: b.token(), ..lease };
    b.region.release_one(&k, wrong).await?;
    same("renewing another's", b.region.renew_one(&k, wrong, LIFE).await?, Renewed::Lost)?;
    b.queue(&k).await?;
    same("renewing one's own", a.region.renew_one(&k, lease, LIFE).await?, Renewed::Held)?;
    same("renewing where none is", a.region.renew_one(&key("other"), lease, LIFE).await?, Renewed::Lost)
}

async fn a_lapsed_lease_is_gone(bench: &Bench<'_>) -> Checked {
    let (a, b) = bench.two().await?;
    let k = key("k");
    let lease = granted(a.region.acquire_one(&k, Acquire { ttl: SHORT, ..a.ask() }).await?)?;
    let next = eventually("the lease lapses", async || match b.acquire(&k).await? {
        Acquired::Granted(lease) => Ok(Some(lease)),
        _ => Ok(None),
    });
    let next = next.await?;
    same("renewing it", a.region.renew_one(&k, lease, LIFE).await?, Renewed::Lost)?;
    same("filling under it", a.fill(&k, lease, b"old").await?, Filled::Refused)?;
    a.region.release_one(&k, lease).await?;
    a.queue(&k).await?;
    same("filling under the next", b.fill(&k, next, b"v").await?, Filled::Stored { seq: next.seq })
}

async fn a_renewed_lease_lives_on(bench: &Bench<'_>) -> Checked {
    let (a, b) = bench.two().await?;
    let k = key("k");
    let ttl = Duration::from_secs(2);
    let lease = granted(a.region.acquire_one(&k, Acquire { ttl, ..a.ask() }).await?)?;
    holds("it lapses in time", b.queue(&k).await? <= ttl)?;
    same("renewing", a.region.renew_one(&k, lease, LIFE).await?, Renewed::Held)?;
    let left = b.queue(&k).await?;
    holds("it lasts as long as renewed", left <= LIFE && left > LIFE / 2)
}

async fn a_fill_ends_the_lease(bench: &Bench<'_>) -> Checked {
    let (a, b) = bench.two().await?;
    let k = key("k");
    let lease = a.lease(&k).await?;
    a.fill(&k, lease, b"v").await?;
    same("renewing", a.region.renew_one(&k, lease, LIFE).await?, Renewed::Lost)?;
    granted(b.reload(&k).await?).map(drop)
}

async fn a_release_ends_the_lease(bench: &Bench<'_>) -> Checked {
    let (a, b) = bench.two().await?;
    let k = key("k");
    let lease = a.lease(&k).await?;
    a.region.release_one(&k, lease).await?;
    b.lease(&k).await?;
    same("filling", a.fill(&k, lease, b"x").await?, Filled::Refused)
}

async fn a_fill_wakes_with_small_values(bench: &Bench<'_>) -> Checked {
    let (a, b) = bench.two().await?;
    let header = stored(0, &frame(a.token(), b"")).len();
    for (name, size) in [("small", WAKE_INLINE), ("large", WAKE_INLINE + 1)] {
        let k = key(name);
        let lease = a.lease(&k).await?;
        b.queue(&k).await?;
        let payload = vec![7; size - header];
        a.fill(&k, lease, &payload).await?;
        b.settle(&k).await?;
        let of = Bytes::copy_from_slice(k.as_bytes());
        let told = match size <= WAKE_INLINE {
            true => {
                BusEvent::Woken { key: of, value: Some(stored(lease.seq, &frame(lease.token, &payload))) }
            }
            false => BusEvent::Stored { key: of },
        };
        same("woken", b.heard.wakes(&k), vec![told])?;
    }
    Ok(())
}

async fn a_release_wakes(bench: &Bench<'_>) -> Checked {
    let (a, b) = bench.two().await?;
    let k = key("k");
    let lease = a.lease(&k).await?;
    b.queue(&k).await?;
    a.region.release_one(&k, lease).await?;
    b.settle(&k).await?;
    same("woken", b.heard.woken(&k), vec![None])
}

async fn only_those_who_wait_are_woken(bench: &Bench<'_>) -> Checked {
    let (a, b) = bench.two().await?;
    let c = bench.node().await?;
    let (k, other) = (key("k"), key("other"));
    let lease = a.lease(&k).await?;
    b.queue(&k).await?;
    b.queue(&k).await?;
    c.lease(&other).await?;
    a.fill(&k, lease, b"v").await?;
    a.region.release_one(&k, lease).await?;
    for (node, times) in [(&a, 0), (&b, 1), (&c, 0)] {
        node.settle(&k).await?;
        same("times woken", node.heard.woken(&k).len(), times)?;
    }
    Ok(())
}

async fn who_waits_outlasts_the_lease(bench: &Bench<'_>) -> Checked {
    let (a, b) = bench.two().await?;
    let c = bench.node().await?;
    let k = key("k");
    a.lease(&k).await?;
    b.queue(&k).await?;
    a.region.clear(a.partition(&k)).await?;
    let lease = c.lease(&k).await?;
    c.region.release_one(&k, lease).await?;
    b.settle(&k).await?;
    same("woken", b.heard.woken(&k), vec![None])
}

async fn many_at_once_are_as_one_by_one(bench: &Bench<'_>) -> Checked {
    let (a, b) = bench.two().await?;
    let names = ["one", "two", "one"].map(key);
    let asks: Vec<_> = names.iter().map(|name| (name.clone(), a.ask())).collect();
    let mut leases = Vec::new();
    for (at, answer) in a.region.acquire(&asks).await.into_iter().enumerate() {
        match answer? {
            Acquired::Granted(lease) if at < 2 => leases.push((names[at].clone(), lease)),
            Acquired::Busy(_) if at == 2 => {}
            other => same("an answer out of order", Some(other), None)?,
        }
    }
    let seqs: Vec<u64> = leases.iter().map(|(_, lease)| lease.seq).collect();
    same("renewing", a.region.renew(&leases, LIFE).await?, vec![Renewed::Held; 2])?;
    let fill = |(key, lease): &(crate::format::key::Key, Lease)| {
        let frame = frame(lease.token, key.as_bytes());
        Fill { key: key.clone(), lease: *lease, frame, life: LIFE, announce: Announce::No }
    };
    let fills: Vec<Fill> = leases.iter().map(fill).collect();
    for (filled, seq) in a.region.fill(&fills).await.into_iter().zip(seqs) {
        same("filling", filled?, Filled::Stored { seq })?;
    }
    for (name, lease) in &leases {
        let value = Some(stored(lease.seq, &frame(lease.token, name.as_bytes())));
        same("what is stored", b.read(name).await?, value)?;
    }
    same("renewing", a.region.renew(&leases, LIFE).await?, vec![Renewed::Lost; 2])?;
    let asks = names[..2].iter().map(|name| (name.clone(), Acquire { accept: Accept::Nothing, ..a.ask() }));
    let mut again = Vec::new();
    for ((name, _), answer) in leases.iter().zip(a.region.acquire(&asks.collect::<Vec<_>>()).await) {
        again.push((name.clone(), granted(answer?)?));
    }
    a.region.release(&again).await?;
    for name in &names[..2] {
        granted(b.reload(name).await?)?;
    }
    Ok(())
}
