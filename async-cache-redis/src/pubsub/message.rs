//! The messages on the channels.
//!
//! | message | channel | meaning |
//! |---|---|---|
//! | `I:<seq>:<key>` | bus | a key was invalidated or overwritten |
//! | `C:<seq>` | bus | the partition was cleared |
//! | `T:<seq>:<tags>` | bus | tags, packed, were invalidated |
//! | `H:<seq>:<beat>` | node | echo of a heartbeat |
//! | `W:<key>` | node | a load has ended, nothing was stored |
//! | `S:<key>` | node | a load has ended, its value is stored and too large to be sent along |
//! | `V:<length of key>:<key><stored value>` | node | a load has ended, with its value |
//!
//! Numbers are decimal; keys, tags and values are raw bytes. Any client can publish, so a message that
//! does not parse is counted and dropped.

use std::time::{SystemTime, UNIX_EPOCH};

use async_cache_core::Tags;
use async_cache_core::backend::BusEvent;
use async_cache_core::frame;
use async_cache_core::key::MAX_KEY_BYTES;
use bytes::Bytes;

/// How far ahead of the clock a sequence is believed to be, in µs: see `epoch.lua`. Twice as far as there,
/// as this is the clock of another machine.
const AHEAD: u64 = 2 * 365 * 24 * 3600 * 1_000_000;

/// The two channels of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Channel {
    /// Heard by every node.
    Bus,
    /// Heard by one node.
    Node,
}

/// Reads a message; `None` if this version does not know it.
pub(crate) fn parse(channel: Channel, partition: u16, message: &Bytes) -> Option<BusEvent> {
    let (letter, rest) = message.split_first_chunk::<2>()?;
    match (channel, letter) {
        (Channel::Bus, b"I:") => {
            let (seq, key) = number_until_colon(rest)?;
            Some(BusEvent::Invalidated { partition, seq: sequence(seq)?, key: key_in(message, key)? })
        }
        (Channel::Bus, b"C:") => Some(BusEvent::Cleared { partition, seq: sequence(number(rest)?)? }),
        (Channel::Bus, b"T:") => {
            let (seq, tags) = number_until_colon(rest)?;
            let tags = Tags::from_packed(tags).filter(|tags| !tags.is_empty())?;
            Some(BusEvent::TagsInvalidated { partition, seq: sequence(seq)?, tags })
        }
        (Channel::Node, b"H:") => {
            let (seq, beat) = number_until_colon(rest)?;
            Some(BusEvent::Echo { partition, seq: sequence(seq)?, beat: number(beat)? })
        }
        (Channel::Node, b"W:") => Some(BusEvent::Woken { key: key_in(message, rest)?, value: None }),
        (Channel::Node, b"S:") => Some(BusEvent::Stored { key: key_in(message, rest)? }),
        (Channel::Node, b"V:") => {
            let (length, rest) = number_until_colon(rest)?;
            let (key, value) = rest.split_at_checked(usize::try_from(length).ok()?)?;
            frame::unseal(value)?;
            Some(BusEvent::Woken { key: key_in(message, key)?, value: Some(message.slice_ref(value)) })
        }
        _ => None,
    }
}

fn key_in(message: &Bytes, key: &[u8]) -> Option<Bytes> {
    (key.len() <= MAX_KEY_BYTES).then(|| message.slice_ref(key))
}

/// A sequence follows the clock in µs. A number that no sequence can have reached is foreign: the
/// node would take it for the floor, and every stored value would be below it.
fn sequence(number: u64) -> Option<u64> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    let latest = u64::try_from(now.as_micros()).ok()?.saturating_add(AHEAD);
    (number <= latest).then_some(number)
}

fn number_until_colon(text: &[u8]) -> Option<(u64, &[u8])> {
    let colon = text.iter().position(|byte| *byte == b':')?;
    Some((number(&text[..colon])?, &text[colon + 1..]))
}

fn number(digits: &[u8]) -> Option<u64> {
    // `u64::from_str` would take a leading plus sign.
    digits.first()?.is_ascii_digit().then(|| std::str::from_utf8(digits).ok()?.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(channel: Channel, message: &[u8]) -> Option<BusEvent> {
        parse(channel, 7, &Bytes::copy_from_slice(message))
    }

    #[test]
    fn keys_and_values_may_hold_any_byte() {
        let key = Bytes::from_static(b"a:\0\xFF:1");
        assert_eq!(
            read(Channel::Bus, b"I:12:a:\0\xFF:1"),
            Some(BusEvent::Invalidated { partition: 7, seq: 12, key: key.clone() })
        );
        assert_eq!(
            read(Channel::Node, b"W:a:\0\xFF:1"),
            Some(BusEvent::Woken { key: key.clone(), value: None })
        );
        assert_eq!(read(Channel::Node, b"S:a:\0\xFF:1"), Some(BusEvent::Stored { key: key.clone() }));
        let value = [&frame::seal(5)[..], b":\xFF\0"].concat();
        let shifted = [b"V:7:a:\0\xFF:1", &value[..]].concat();
        assert_eq!(read(Channel::Node, &shifted), None, "the seal is not where the length says");
        assert_eq!(
            read(Channel::Node, &[b"V:6:a:\0\xFF:1", &value[..]].concat()),
            Some(BusEvent::Woken { key, value: Some(value.into()) })
        );
    }

    #[test]
    fn numbers_are_read_to_the_last_digit() {
        assert_eq!(
            read(Channel::Node, b"H:1790000000000001:18446744073709551615"),
            Some(BusEvent::Echo { partition: 7, seq: 1_790_000_000_000_001, beat: u64::MAX })
        );
        assert_eq!(
            read(Channel::Bus, b"T:12:\x03a:1\x01b"),
            Some(BusEvent::TagsInvalidated { partition: 7, seq: 12, tags: Tags::new(["a:1", "b"]).unwrap() })
        );
        assert_eq!(read(Channel::Bus, b"C:1"), Some(BusEvent::Cleared { partition: 7, seq: 1 }));
    }

    #[test]
    fn junk_is_dropped() {
        let bus: [&[u8]; 15] = [
            b"",
            b"T:1:",
            b"T:1:\x05a",
            b"T:x:\x01a",
            b"I",
            b"I:",
            b"I:x:k",
            b"I:+1:k",
            b"I:1",
            b"C:",
            b"C:1:",
            b"I:9007199254740992:k",
            b"C:9007199254740992",
            b"C:5000000000000000",
            b"T:9007199254740992:\x01a",
        ];
        for message in bus {
            assert_eq!(read(Channel::Bus, message), None, "{}", message.escape_ascii());
        }
        let node: [&[u8]; 6] =
            [b"H:1", b"H:1:x", b"H::1", b"V:3:ab", b"V:99999999999999999999:a", b"\xFF\xFF"];
        for message in node {
            assert_eq!(read(Channel::Node, message), None, "{}", message.escape_ascii());
        }
        assert_eq!(read(Channel::Bus, &[b"I:1:", &[b'k'; MAX_KEY_BYTES + 1][..]].concat()), None);
    }

    #[test]
    fn each_channel_takes_only_its_own_messages() {
        assert_eq!(read(Channel::Node, b"I:1:k"), None);
        assert_eq!(read(Channel::Bus, b"W:k"), None);
        assert_eq!(read(Channel::Bus, b"S:k"), None);
        assert_eq!(read(Channel::Bus, b"H:1:1"), None);
    }
}
