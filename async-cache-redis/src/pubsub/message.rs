//! The messages on the channels.
//!
//! | message | channel | meaning |
//! |---|---|---|
//! | `I:<seq>:<key>` | bus | a key was invalidated or overwritten |
//! | `E:<seq>:<key>` | bus | a key was expired |
//! | `C:<seq>` | bus | the partition was cleared |
//! | `T:<seq>:<tags>` | bus | tags, packed, were invalidated |
//! | `X:<seq>:<tags>` | bus | tags, packed, were expired |
//! | `Q:<node>:<id>:<question>` | bus | a tool, opened as this node, asks every node |
//! | `A:<node>:<id>:<answer>` | node | this node answers a tool |
//! | `H:<seq>:<beat>` | node | echo of a heartbeat |
//! | `W:<key>` | node | a load has ended, nothing was stored |
//! | `S:<key>` | node | a load has ended, its value is stored and too large to be sent along |
//! | `V:<length of key>:<key><stored value>` | node | a load has ended, with its value |
//!
//! Numbers are decimal; keys, tags and values are raw bytes. Any client can publish, so a message that
//! does not parse is counted and dropped.

use std::time::{SystemTime, UNIX_EPOCH};

use async_cache_core::Tags;
use async_cache_core::backend::{BusEvent, NodeId};
use async_cache_core::frame;
use async_cache_core::key::MAX_KEY_BYTES;
use bytes::Bytes;

/// How far ahead of the clock a sequence is believed to be, in µs: see `epoch.lua`. Twice as far as there,
/// as this is the clock of another machine.
const AHEAD: u64 = 2 * 365 * 24 * 3600 * 1_000_000;

/// Most bytes of a tool's question: a word and a key.
const MAX_QUESTION: usize = MAX_KEY_BYTES + 64;
/// Most bytes of an answer.
const MAX_ANSWER: usize = 64 << 10;

/// The question of a tool, for every node.
pub(crate) fn question(asker: &str, id: u64, text: &[u8]) -> Vec<u8> {
    [format!("Q:{asker}:{id}:").as_bytes(), text].concat()
}

/// The answer of a node, for the tool that has asked.
pub(crate) fn answer(node: &str, id: u64, text: &[u8]) -> Vec<u8> {
    [format!("A:{node}:{id}:").as_bytes(), text].concat()
}

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
        (Channel::Bus, b"E:") => {
            let (seq, key) = number_until_colon(rest)?;
            Some(BusEvent::Expired { partition, seq: sequence(seq)?, key: key_in(message, key)? })
        }
        (Channel::Bus, b"C:") => Some(BusEvent::Cleared { partition, seq: sequence(number(rest)?)? }),
        (Channel::Bus, b"T:") => {
            let (seq, tags) = number_until_colon(rest)?;
            let tags = Tags::from_packed(tags).filter(|tags| !tags.is_empty())?;
            Some(BusEvent::TagsInvalidated { partition, seq: sequence(seq)?, tags })
        }
        (Channel::Bus, b"Q:") => {
            let (asker, id, text) = addressed(rest)?;
            (text.len() <= MAX_QUESTION).then(|| BusEvent::Asked {
                asker,
                id,
                question: message.slice_ref(text),
            })
        }
        (Channel::Node, b"A:") => {
            let (node, id, text) = addressed(rest)?;
            (text.len() <= MAX_ANSWER).then(|| BusEvent::Answered {
                node,
                id,
                answer: message.slice_ref(text),
            })
        }
        (Channel::Bus, b"X:") => {
            let (seq, tags) = number_until_colon(rest)?;
            let tags = Tags::from_packed(tags).filter(|tags| !tags.is_empty())?;
            Some(BusEvent::TagsExpired { partition, seq: sequence(seq)?, tags })
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

/// `<node>:<number>:<the rest>`.
fn addressed(text: &[u8]) -> Option<(NodeId, u64, &[u8])> {
    let (node, rest) = text.split_first_chunk::<16>()?;
    let node = std::str::from_utf8(node).ok()?;
    let node =
        node.bytes().all(|digit| digit.is_ascii_hexdigit()).then(|| u64::from_str_radix(node, 16).ok())??;
    let (id, rest) = number_until_colon(rest.strip_prefix(b":")?)?;
    Some((NodeId(node), id, rest))
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
            read(Channel::Bus, b"E:12:a:\0\xFF:1"),
            Some(BusEvent::Expired { partition: 7, seq: 12, key: key.clone() })
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
        assert_eq!(
            read(Channel::Bus, b"X:12:\x03a:1"),
            Some(BusEvent::TagsExpired { partition: 7, seq: 12, tags: Tags::new(["a:1"]).unwrap() })
        );
        assert_eq!(read(Channel::Bus, b"C:1"), Some(BusEvent::Cleared { partition: 7, seq: 1 }));
    }

    #[test]
    fn questions_and_answers_are_read_as_they_are_written() {
        let node = NodeId(0xAB);
        let text = Bytes::from_static(b"entry:a:\0\xFF:1");
        let asked = question(&node.to_string(), 7, &text);
        assert_eq!(
            read(Channel::Bus, &asked),
            Some(BusEvent::Asked { asker: node, id: 7, question: text.clone() })
        );
        let answered = answer(&node.to_string(), 7, &text);
        assert_eq!(read(Channel::Node, &answered), Some(BusEvent::Answered { node, id: 7, answer: text }));
        assert_eq!((read(Channel::Node, &asked), read(Channel::Bus, &answered)), (None, None));
        assert_eq!(read(Channel::Bus, &question(&node.to_string(), 7, &[b'x'; MAX_QUESTION + 1])), None);
        assert_eq!(read(Channel::Node, &answer(&node.to_string(), 7, &vec![b'x'; MAX_ANSWER + 1])), None);
        for junk in [&b"Q:"[..], b"Q:ab:7:stats", b"Q:+0000000000000ab:7:stats", b"Q:00000000000000ab:stats"]
        {
            assert_eq!(read(Channel::Bus, junk), None, "{}", junk.escape_ascii());
        }
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
