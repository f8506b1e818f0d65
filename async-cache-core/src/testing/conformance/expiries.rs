//! Expiries: the older value stays, and says that it is not fresh.

use bytes::Bytes;

use crate::backend::{Accept, Acquire, Acquired, Announce, BusEvent, Check, Fill, Filled, Renewed, Token};
use crate::format::frame::{ENDS_OFFSET, SEAL_LEN, expired, seal};
use crate::format::key::Key;
use crate::format::tags::Tags;
use crate::testing::conformance::rig::{Bench, LIFE, Node, granted, holds, key, same};
use crate::testing::conformance::tags::{tagged, tags};
use crate::testing::conformance::{Checked, clauses};

clauses! {
    an_expired_value_stays_and_says_so:
        "`expire` leaves the value stored until its end, with the seal of an expired value",
    an_expired_value_is_not_confirmed:
        "`acquire` sends a value that has been expired whole, even to a caller that knows its token",
    without_time_as_a_fallback_it_is_gone:
        "`expire` removes a value whose header has no time as a fallback",
    an_expiry_breaks_the_lease:
        "`expire` breaks the key's lease and wakes its waiters",
    an_expiry_is_heard:
        "an expiry is published as what it is, in the order of its number",
    an_expired_tag_expires_older_values:
        "a value is expired whose frame has a tag that was expired after it was granted, and no other",
    an_expired_tag_refuses_older_loads:
        "`fill` stores nothing if a tag of the frame was expired after the lease was granted, and wakes",
    the_baseline_knows_the_expired_tags:
        "`baseline` gives for each tag the number of its last expiry beside that of its last invalidation",
}

/// Whether a value has time as a fallback.
#[derive(Clone, Copy)]
enum Kept {
    No,
    Yes,
}

/// A frame whose header has ends.
fn frame(token: Token, tags: &Tags, kept: Kept) -> Bytes {
    let mut frame = tagged(token, tags, b"v").to_vec();
    let ends = match kept {
        Kept::No => 1_000_u64,
        Kept::Yes => 2_000,
    };
    let at = ENDS_OFFSET - SEAL_LEN;
    frame[at..at + 8].copy_from_slice(&1_000_u64.to_be_bytes());
    frame[at + 8..at + 16].copy_from_slice(&ends.to_be_bytes());
    frame.into()
}

/// Puts a value. Returns its token, and the value as it is stored.
async fn put(node: &Node, key: &Key, tags: &Tags, kept: Kept) -> Checked<(Token, Bytes)> {
    let token = node.token();
    let frame = frame(token, tags, kept);
    let seqs = node.region.put(&[(key.clone(), frame.clone())], LIFE, u64::MAX >> 12).await?;
    let seq = seqs.first().copied().unwrap_or_default();
    Ok((token, [&seal(seq)[..], &frame].concat().into()))
}

async fn expire(node: &Node, key: &Key) -> Checked<u64> {
    let seqs = node.region.expire(std::slice::from_ref(key)).await?;
    Ok(seqs.first().copied().unwrap_or_default())
}

async fn valid(node: &Node, key: &Key) -> Checked<Option<Bytes>> {
    Ok(node.region.read_one(key, Check::Valid).await?.value)
}

async fn an_expired_value_stays_and_says_so(bench: &Bench<'_>) -> Checked {
    let (a, b) = bench.two().await?;
    let k = key("k");
    let (_, value) = put(&a, &k, &Tags::NONE, Kept::Yes).await?;
    let before = a.seq(&k).await?;
    same("the number", expire(&b, &k).await?, before + 1)?;
    let left = expired(&value);
    same("what a plain read finds", a.read(&k).await?, left.clone())?;
    same("what is valid", valid(&a, &k).await?, left.clone())?;
    expire(&a, &k).await?;
    same("after another", b.read(&k).await?, left)?;
    let (_, value) = put(&b, &k, &Tags::NONE, Kept::Yes).await?;
    same("a later value is fresh", a.read(&k).await?, Some(value))
}

async fn an_expired_value_is_not_confirmed(bench: &Bench<'_>) -> Checked {
    let (a, b) = bench.two().await?;
    let k = key("k");
    let (token, value) = put(&a, &k, &Tags::NONE, Kept::Yes).await?;
    expire(&b, &k).await?;
    let left = expired(&value).unwrap_or_default();
    let asks = |accept| Acquire { accept, ..a.ask() };
    same("any", a.acquire(&k).await?, Acquired::Value(left.clone()))?;
    let known = a.region.acquire_one(&k, asks(Accept::Known(token))).await?;
    same("the known one", known, Acquired::Value(left))?;
    granted(a.region.acquire_one(&k, asks(Accept::Other(token))).await?).map(drop)
}

async fn without_time_as_a_fallback_it_is_gone(bench: &Bench<'_>) -> Checked {
    let (a, b) = bench.two().await?;
    let (k, other) = (key("k"), key("other"));
    put(&a, &k, &Tags::NONE, Kept::No).await?;
    let (_, value) = put(&a, &other, &Tags::NONE, Kept::No).await?;
    expire(&b, &k).await?;
    same("what is stored", a.read(&k).await?, None)?;
    same("others stay as they are", a.read(&other).await?, Some(value))?;
    expire(&b, &key("unknown")).await?;
    a.lease(&k).await.map(drop)
}

async fn an_expiry_breaks_the_lease(bench: &Bench<'_>) -> Checked {
    let (a, b) = bench.two().await?;
    let k = key("k");
    let lease = a.lease(&k).await?;
    b.queue(&k).await?;
    expire(&a, &k).await?;
    same("the broken lease's fill", a.fill(&k, lease, b"old").await?, Filled::Refused)?;
    same("its renewal", a.region.renew_one(&k, lease, LIFE).await?, Renewed::Lost)?;
    b.settle(&k).await?;
    same("woken", b.heard.woken(&k), vec![None])
}

async fn an_expiry_is_heard(bench: &Bench<'_>) -> Checked {
    let (a, b) = bench.two().await?;
    let (k, partition) = (key("k"), a.partition(&key("k")));
    put(&a, &k, &Tags::NONE, Kept::Yes).await?;
    let names = tags(&["a:1", "\u{1F512}"])?;
    let of_key = expire(&a, &k).await?;
    let of_tags = a.region.expire_tags(partition, &names).await?;
    same("the numbers", of_tags, of_key + 1)?;
    for node in [&a, &b] {
        node.settle(&k).await?;
        let bytes = Bytes::copy_from_slice(k.as_bytes());
        let (heard, tags) = (node.heard.events(), names.clone());
        holds("of the key", heard.contains(&BusEvent::Expired { partition, seq: of_key, key: bytes }))?;
        holds("of the tags", heard.contains(&BusEvent::TagsExpired { partition, seq: of_tags, tags }))?;
        same("in order", node.heard.changes(partition), vec![of_key - 1, of_key, of_tags])?;
    }
    Ok(())
}

async fn an_expired_tag_expires_older_values(bench: &Bench<'_>) -> Checked {
    let (a, b) = bench.two().await?;
    let (k, partition) = (key("k"), a.partition(&key("k")));
    let t = tags(&["t"])?;
    for (has, is_over) in
        [(&["t"][..], true), (&["x", "t"], true), (&["x"], false), (&["tt"], false), (&[], false)]
    {
        let (token, value) = put(&a, &k, &tags(has)?, Kept::Yes).await?;
        b.region.expire_tags(partition, &t).await?;
        let left = if is_over { expired(&value) } else { Some(value) };
        same(&format!("with {has:?}"), valid(&a, &k).await?, left.clone())?;
        let ask = Acquire { accept: Accept::Known(token), ..a.ask() };
        let known = a.region.acquire_one(&k, ask).await?;
        holds("only a fresh one is confirmed", matches!(known, Acquired::Unchanged { .. }) != is_over)?;
        let (_, younger) = put(&a, &k, &tags(has)?, Kept::Yes).await?;
        same("a younger value", valid(&b, &k).await?, Some(younger))?;
    }
    put(&a, &k, &t, Kept::No).await?;
    b.region.expire_tags(partition, &t).await?;
    same("without time as a fallback", valid(&a, &k).await?, None)?;
    put(&a, &k, &t, Kept::Yes).await?;
    b.region.expire_tags(partition, &t).await?;
    b.region.invalidate_tags(partition, &t).await?;
    same("invalidated after that", valid(&a, &k).await?, None)?;
    put(&a, &k, &t, Kept::Yes).await?;
    b.region.invalidate_tags(partition, &t).await?;
    b.region.expire_tags(partition, &t).await?;
    same("invalidated before that", valid(&a, &k).await?, None)
}

async fn an_expired_tag_refuses_older_loads(bench: &Bench<'_>) -> Checked {
    let (a, b) = bench.two().await?;
    let k = key("k");
    let t = tags(&["t"])?;
    let lease = a.lease(&k).await?;
    b.queue(&k).await?;
    b.region.expire_tags(b.partition(&k), &t).await?;
    let frame = frame(lease.token, &t, Kept::Yes);
    let fill = Fill { key: k.clone(), lease, frame, life: LIFE, announce: Announce::No };
    same("fill", a.region.fill_one(fill).await?, Filled::Refused)?;
    same("what is stored", a.read(&k).await?, None)?;
    b.settle(&k).await?;
    same("woken", b.heard.woken(&k), vec![None])
}

async fn the_baseline_knows_the_expired_tags(bench: &Bench<'_>) -> Checked {
    let (a, b) = bench.two().await?;
    let partition = a.partition(&key("k"));
    same("none at first", b.region.baseline(partition, None).await?.expired_tags, vec![])?;
    let void = a.region.invalidate_tags(partition, &tags(&["t"])?).await?;
    let first = a.region.expire_tags(partition, &tags(&["t", "u"])?).await?;
    let second = a.region.expire_tags(partition, &tags(&["u"])?).await?;
    let baseline = b.region.baseline(partition, None).await?;
    let last = |of: &[(Bytes, u64)], tag: &str| {
        of.iter().filter(|(name, _)| name == tag.as_bytes()).map(|(_, seq)| *seq).max()
    };
    let expired = |tag| last(&baseline.expired_tags, tag);
    same("the expiries", (expired("t"), expired("u"), expired("x")), (Some(first), Some(second), None))?;
    same("the invalidations", (last(&baseline.tags, "t"), last(&baseline.tags, "u")), (Some(void), None))?;
    let asked = b.region.baseline(partition, Some(&tags(&["t"])?)).await?.expired_tags;
    same("the tag that is asked for", asked, vec![(Bytes::from_static(b"t"), first)])?;
    same("the tag floor", baseline.tag_floor, 0)
}
