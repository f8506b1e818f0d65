//! Tags: the values that their invalidation voids, the fills that L2 refuses, and the events.

use bytes::Bytes;

use crate::backend::{
    Accept, Acquire, Acquired, Announce, Baseline, BusEvent, Check, Fill, Filled, TAG_TABLE, Token,
};
use crate::format::frame::{HEADER_LEN, SEAL_LEN, TAGS_EXTENSION, TOKEN_OFFSET, token_of};
use crate::format::key::Key;
use crate::format::tags::{MAX_TAGS, Tags};
use crate::testing::conformance::rig::{Bench, LIFE, Node, granted, holds, key, same};
use crate::testing::conformance::{Checked, clauses};

clauses! {
    a_tag_voids_older_values:
        "a value is void whose frame has a tag that was invalidated after it was granted, and no other",
    every_tag_of_a_change_counts:
        "`invalidate_tags` is one change of all the tags it is given",
    a_void_value_is_not_answered:
        "`acquire`, and `read` of valid values, never return a void value",
    a_tag_refuses_older_loads:
        "`fill` stores nothing if a tag of the frame was invalidated after the lease was granted, and wakes",
    a_tag_refuses_older_refreshes:
        "with `Announce::Yes`, too: the lease's number counts, not the new one",
    a_tag_change_is_heard:
        "an invalidation of tags is published as what it is, in the order of its number",
    the_baseline_knows_the_tags:
        "`baseline` gives the state, and for each tag the number of its last invalidation, or a higher tag floor",
    a_full_table_forgets_nothing:
        "the tag table holds at most `TAG_TABLE` tags; what makes room is covered by the tag floor",
}

pub(super) fn tags(tags: &[&str]) -> Checked<Tags> {
    Ok(Tags::new(tags)?)
}

/// A frame with token and tags where a stored value has them.
pub(super) fn tagged(token: Token, tags: &Tags, payload: &[u8]) -> Bytes {
    let mut frame = vec![b'h'; HEADER_LEN - SEAL_LEN];
    frame[TOKEN_OFFSET - SEAL_LEN..][..Token::LEN].copy_from_slice(&token.to_bytes());
    let packed = tags.packed();
    let extension = [&[TAGS_EXTENSION][..], &(packed.len() as u16).to_be_bytes(), packed].concat();
    let length = if packed.is_empty() { 0 } else { extension.len() };
    frame[HEADER_LEN - SEAL_LEN - 4..].copy_from_slice(&(length as u32).to_be_bytes());
    frame.extend_from_slice(&extension[..length]);
    frame.extend_from_slice(payload);
    frame.into()
}

async fn put(node: &Node, key: &Key, tags: &Tags) -> Checked<u64> {
    let entry = [(key.clone(), tagged(node.token(), tags, b"v"))];
    Ok(node.region.put(&entry, LIFE, u64::MAX >> 12).await?[0])
}

async fn valid(node: &Node, key: &Key) -> Checked<bool> {
    Ok(node.region.read_one(key, Check::Valid).await?.value.is_some())
}

/// Invalidates in the partition of this key.
async fn invalidate(node: &Node, key: &Key, tags: &Tags) -> Checked<u64> {
    Ok(node.region.invalidate_tags(node.partition(key), tags).await?)
}

async fn a_tag_voids_older_values(bench: &Bench<'_>) -> Checked {
    let (a, b) = bench.two().await?;
    let k = key("k");
    for (has, void) in
        [(&["t"][..], true), (&["x", "t"], true), (&["x"], false), (&["tt"], false), (&[], false)]
    {
        let seq = put(&a, &k, &tags(has)?).await?;
        same("the change's number", invalidate(&b, &k, &tags(&["t"])?).await?, seq + 1)?;
        same(&format!("void with {has:?}"), valid(&a, &k).await?, !void)?;
        put(&a, &k, &tags(has)?).await?;
        holds("a younger value is not", valid(&b, &k).await?)?;
    }
    let lease = granted(a.reload(&k).await?)?;
    let frame = tagged(lease.token, &tags(&["t"])?, b"v");
    let filled =
        a.region.fill_one(Fill { key: k.clone(), lease, frame, life: LIFE, announce: Announce::No }).await?;
    same("a load begun since", filled, Filled::Stored { seq: lease.seq })?;
    holds("its value is valid", valid(&b, &k).await?)
}

async fn every_tag_of_a_change_counts(bench: &Bench<'_>) -> Checked {
    let node = bench.node().await?;
    let k = key("k");
    let all: Vec<String> = (0..MAX_TAGS).map(|n| format!("{n:->128}")).collect();
    for tag in &all {
        let seq = put(&node, &k, &tags(&[tag])?).await?;
        same("one number", invalidate(&node, &k, &Tags::new(&all)?).await?, seq + 1)?;
        holds("void", !valid(&node, &k).await?)?;
    }
    Ok(())
}

async fn a_void_value_is_not_answered(bench: &Bench<'_>) -> Checked {
    let (a, b) = bench.two().await?;
    let (tagged, plain) = (key("tagged"), key("plain"));
    put(&a, &tagged, &tags(&["t"])?).await?;
    put(&a, &plain, &Tags::NONE).await?;
    invalidate(&b, &tagged, &tags(&["t"])?).await?;
    for k in [&tagged, &plain] {
        b.region.clear(b.partition(&plain)).await?;
        holds("a plain read looks at nothing", b.read(k).await?.is_some())?;
        holds("one valid value", !valid(&b, k).await?)?;
        let many = b.region.read(&[k.clone(), key("nothing")], Check::Valid).await?;
        same("many valid values", many.values.to_vec(), vec![None, None])?;
        let stored = b.read(k).await?.unwrap_or_default();
        let accept = token_of(&stored).map_or(Accept::Any, Accept::Known);
        granted(b.region.acquire_one(k, Acquire { accept, ..b.ask() }).await?)?;
    }
    let (first, second) = (key("first"), key("second"));
    put(&a, &first, &tags(&["t"])?).await?;
    put(&a, &second, &tags(&["u"])?).await?;
    let wanted = vec![b.read(&first).await?, None, b.read(&second).await?];
    let many = b.region.read(&[first, key("nothing"), second], Check::Valid).await?;
    same("valid ones, in order", many.values.to_vec(), wanted)
}

async fn a_tag_refuses_older_loads(bench: &Bench<'_>) -> Checked {
    let (a, b) = bench.two().await?;
    let (k, other) = (key("k"), key("other"));
    let (lease, unconcerned) = (a.lease(&k).await?, a.lease(&other).await?);
    b.queue(&k).await?;
    let t = tags(&["t"])?;
    invalidate(&b, &k, &t).await?;
    invalidate(&b, &other, &t).await?;
    // The load began before the invalidation. Only its frame shows that the value has the tag.
    let frame = tagged(lease.token, &t, b"old");
    let filled =
        a.region.fill_one(Fill { key: k.clone(), lease, frame, life: LIFE, announce: Announce::No }).await?;
    same("fill", filled, Filled::Refused)?;
    same("what is stored", a.read(&k).await?, None)?;
    b.settle(&k).await?;
    same("woken", b.heard.woken(&k), vec![None])?;
    b.lease(&k).await?;
    let frame = tagged(unconcerned.token, &tags(&["u"])?, b"v");
    let filled = a
        .region
        .fill_one(Fill { key: other.clone(), lease: unconcerned, frame, life: LIFE, announce: Announce::No })
        .await?;
    same("a load with another tag", filled, Filled::Stored { seq: unconcerned.seq })
}

async fn a_tag_refuses_older_refreshes(bench: &Bench<'_>) -> Checked {
    let (a, b) = bench.two().await?;
    let k = key("k");
    let t = tags(&["t"])?;
    put(&a, &k, &t).await?;
    let lease = granted(a.reload(&k).await?)?;
    invalidate(&b, &k, &t).await?;
    let frame = tagged(lease.token, &t, b"old");
    let filled =
        a.region.fill_one(Fill { key: k.clone(), lease, frame, life: LIFE, announce: Announce::Yes }).await?;
    same("fill", filled, Filled::Refused)?;
    holds("nothing valid is stored", !valid(&b, &k).await?)
}

async fn a_tag_change_is_heard(bench: &Bench<'_>) -> Checked {
    let (a, b) = bench.two().await?;
    let k = key("k");
    let (tags, partition) = (tags(&["a:1", "\u{1F512}"])?, a.partition(&k));
    let before = a.invalidate(&k).await?;
    let seq = invalidate(&a, &k, &tags).await?;
    same("the number", seq, before + 1)?;
    for node in [&a, &b] {
        node.settle(&k).await?;
        let change = BusEvent::TagsInvalidated { partition, seq, tags: tags.clone() };
        holds("it is heard as what it is", node.heard.events().contains(&change))?;
        same("in order", node.heard.changes(partition), vec![before, seq])?;
    }
    Ok(())
}

/// The number below which a baseline voids a value with this tag.
fn bound(baseline: &Baseline, tag: &str) -> u64 {
    let numbers = baseline.tags.iter().filter(|(name, _)| name == tag.as_bytes()).map(|(_, seq)| *seq);
    numbers.max().unwrap_or(0).max(baseline.tag_floor)
}

async fn the_baseline_knows_the_tags(bench: &Bench<'_>) -> Checked {
    let (a, b) = bench.two().await?;
    let (k, partition) = (key("k"), a.partition(&key("k")));
    same("none at first", b.region.baseline(partition, None).await?.tags, vec![])?;
    let first = invalidate(&a, &k, &tags(&["t", "u"])?).await?;
    let second = invalidate(&a, &k, &tags(&["t"])?).await?;
    let baseline = b.region.baseline(partition, None).await?;
    same("the state", baseline.state.seq, b.region.state(partition).await?.seq)?;
    same("numbers", (bound(&baseline, "t"), bound(&baseline, "u")), (second, first))?;
    holds("no other tag is void", bound(&baseline, "x") == 0)?;
    let asked = b.region.baseline(partition, Some(&tags(&["u", "x"])?)).await?;
    same("the state beside a tag that is asked for", asked.state.seq, baseline.state.seq)?;
    same("the tag that is asked for", asked.tags, vec![(Bytes::from_static(b"u"), first)])
}

async fn a_full_table_forgets_nothing(bench: &Bench<'_>) -> Checked {
    let node = bench.node().await?;
    let k = key("k");
    let seq = put(&node, &k, &tags(&["first", "x"])?).await?;
    invalidate(&node, &k, &tags(&["first"])?).await?;
    let names: Vec<String> = (0..TAG_TABLE + MAX_TAGS).map(|n| n.to_string()).collect();
    for some in names.chunks(MAX_TAGS) {
        invalidate(&node, &k, &Tags::new(some)?).await?;
        let baseline = node.region.baseline(node.partition(&k), None);
        if some.contains(&names[TAG_TABLE / 3]) || some.contains(&names[TAG_TABLE - 1]) {
            holds("in between", bound(&baseline.await?, "first") > seq)?;
        }
    }
    holds("it is void", !valid(&node, &k).await?)?;
    let baseline = node.region.baseline(node.partition(&k), None).await?;
    holds("the table is bounded", baseline.tags.len() <= TAG_TABLE)?;
    for name in ["first", names[0].as_str(), names[TAG_TABLE].as_str()] {
        holds("the node is told", bound(&baseline, name) > seq)?;
    }
    let younger = put(&node, &k, &tags(&["x"])?).await?;
    holds("younger values are not void", bound(&baseline, "x") <= younger && valid(&node, &k).await?)?;
    match node.acquire(&k).await? {
        Acquired::Value(_) => Ok(()),
        other => same("acquired", Some(other), None),
    }
}
