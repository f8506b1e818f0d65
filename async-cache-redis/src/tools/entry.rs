//! What Redis has under one key.

use std::time::Duration;

use async_cache_core::Result;
use async_cache_core::backend::{NodeId, Token};
use async_cache_core::key::Key;
use bytes::Bytes;

use crate::commands::region::RedisRegion;
use crate::limits::Purpose;

/// Everything that Redis has under one key, as of one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoredEntry {
    /// The server's clock, in milliseconds of its own epoch. The times in a value's header are on this clock.
    pub time_ms: u64,
    /// The number of the last change of the key's partition.
    pub seq: u64,
    /// Values of the partition below this number are void.
    pub floor: u64,
    /// The value.
    pub value: StoredValue,
    /// How long Redis keeps the value. `None` if there is none, or if it has no limit.
    pub kept_for: Option<Duration>,
    /// The right to load the key.
    pub lease: LeaseState,
    /// The nodes that wait for the load, at most 4,096 of them.
    pub waiters: Vec<NodeId>,
}

/// What is stored as the value of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoredValue {
    /// Nothing.
    Nothing,
    /// Something that is not a string: another program stored it.
    OtherType,
    /// Seal and frame, or foreign bytes, and whether they may answer.
    Bytes(Bytes, Verdict),
    /// The server has been replaced or restarted since a node asked it last. Whatever is stored is void, and was not
    /// looked at.
    Replaced,
}

/// Whether a stored value may answer, by the rules that Redis keeps. The value's own expiry is not among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// It may answer.
    Valid,
    /// A change has expired it: it is a fallback only.
    Expired,
    /// It has no seal: another program stored it, or it is damaged.
    Unsealed,
    /// It is below the floor: the namespace was cleared, or the server was replaced, after it was stored.
    BelowFloor,
    /// One of its tags was invalidated after it was stored.
    TagInvalidated,
}

/// The right to load a key.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum LeaseState {
    /// No node has it.
    Free,
    /// It was broken a moment ago, and is not granted yet.
    Cooling,
    /// A node loads.
    Held {
        /// The acquisition. It names the node.
        token: Token,
        /// The number of the last change at the grant.
        seq: u64,
        /// When the lease ends, unless it is renewed.
        left: Option<Duration>,
    },
    /// A node began to load before a clear. Its value will be refused.
    Void,
    /// Bytes that no node has written.
    Foreign,
}

impl StoredEntry {
    /// The entry of a server that has been replaced.
    pub(super) fn replaced() -> Self {
        Self {
            time_ms: 0,
            seq: 0,
            floor: 0,
            value: StoredValue::Replaced,
            kept_for: None,
            lease: LeaseState::Free,
            waiters: Vec::new(),
        }
    }
}

const DOING: &str = "inspecting a key";

/// The answer of `inspect.lua`.
type Answer = ((u64, u64, u64), (Option<Vec<u8>>, String, i64), (Option<Vec<u8>>, bool, i64), Vec<String>);

/// Reads everything that Redis has under a key.
pub(super) async fn read(region: &RedisRegion, key: &Key) -> Result<StoredEntry> {
    let checkout = region.checkout(Purpose::Read, DOING).await?;
    let script = &checkout.link.lua.inspect;
    let call = region.key_call(&checkout, script, key);
    let answer: Answer = region.script(DOING, &checkout, script, &call).await?;
    entry_of(region, answer)
}

/// Reads it where the nodes know the server by a token in their scripts. Returns `None` if the server does not know
/// these scripts, or if the token has been replaced.
pub(super) async fn read_with_token(
    region: &RedisRegion,
    key: &Key,
    token: &[u8],
) -> Result<Option<StoredEntry>> {
    // A connection that has agreed on a token may have installed a new one.
    let checkout = region.checkout_without_scripts(Purpose::Read, DOING).await?;
    let link = &checkout.link;
    let reading = async {
        let Some(scripts) = link.known_scripts(token).await? else { return Ok(None) };
        link.inspect::<Answer>(&scripts, |script| region.marked_call(script, key)).await
    };
    let answer = checkout.answer(reading).await.map_err(|failure| region.error(DOING, failure))?;
    answer.map(|answer| entry_of(region, answer)).transpose()
}

fn entry_of(region: &RedisRegion, answer: Answer) -> Result<StoredEntry> {
    let (now, value, lease, waiters) = answer;
    let (time_ms, seq, floor) = now;
    let (bytes, rule, kept_ms) = value;
    let value = match (bytes, &*rule) {
        (Some(bytes), "valid") => StoredValue::Bytes(bytes.into(), Verdict::Valid),
        (Some(bytes), "expired") => StoredValue::Bytes(bytes.into(), Verdict::Expired),
        (Some(bytes), "floor") => StoredValue::Bytes(bytes.into(), Verdict::BelowFloor),
        (Some(bytes), "tag") => StoredValue::Bytes(bytes.into(), Verdict::TagInvalidated),
        (Some(bytes), "foreign") => StoredValue::Bytes(bytes.into(), Verdict::Unsealed),
        (None, "") => StoredValue::Nothing,
        (_, "type") => StoredValue::OtherType,
        _ => return Err(region.unexpected_reply(DOING)),
    };
    let waiters = waiters.iter().filter_map(|node| u64::from_str_radix(node, 16).ok().map(NodeId)).collect();
    let (text, held, left_ms) = lease;
    let lease = lease_state(text, held, left_ms);
    Ok(StoredEntry { time_ms, seq, floor, value, kept_for: left(kept_ms), lease, waiters })
}

/// What PTTL says: it is negative if there is no key, or no limit.
fn left(ms: i64) -> Option<Duration> {
    u64::try_from(ms).ok().map(Duration::from_millis)
}

fn lease_state(text: Option<Vec<u8>>, held: bool, left_ms: i64) -> LeaseState {
    let Some(text) = text else { return LeaseState::Free };
    if text == b"~" {
        return LeaseState::Cooling;
    }
    let parse = || {
        let (token, seq) = std::str::from_utf8(&text).ok()?.rsplit_once(':')?;
        let (node, counter) = token.split_once('-')?;
        let number = |digits| u64::from_str_radix(digits, 16).ok();
        let token = Token { node: NodeId(number(node)?), counter: number(counter)? };
        Some((token, seq.parse().ok()?))
    };
    match parse() {
        Some((token, seq)) if held => LeaseState::Held { token, seq, left: left(left_ms) },
        Some(_) => LeaseState::Void,
        None => LeaseState::Foreign,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lease_is_read_as_the_scripts_write_it() {
        let state = |text: &str, held| lease_state(Some(text.as_bytes().to_vec()), held, 50);
        let token = Token { node: NodeId(0xAB), counter: 0x1F };
        let left = Some(Duration::from_millis(50));
        assert_eq!(state(&format!("{token}:77"), true), LeaseState::Held { token, seq: 77, left });
        assert_eq!(state(&format!("{token}:77"), false), LeaseState::Void);
        assert_eq!(state("~", false), LeaseState::Cooling);
        assert_eq!(state("hello", false), LeaseState::Foreign);
        assert_eq!(lease_state(None, false, -2), LeaseState::Free);
    }
}
