//! The stored form of a value: seal, header, payload.
//!
//! ```text
//! offset size
//!      0    8  grant sequence, big-endian ┐ the seal: written by the backend,
//!      8    4  grant sequence % 4294967291 │ which alone knows the sequence of a `put`;
//!              its complement once the    ┘ value has been expired
//!     12    8  xxh3 of everything behind it
//!     20    2  magic "aC"
//!     22    1  format version
//!     23    1  flags: bit 0, cached absence
//!     24    4  codec: xxh3 of its name
//!     28    4  schema: the user's version, and for formats without names the definition of the value
//!     32   16  token of the acquisition
//!     48    8  expiry, milliseconds on the server's clock
//!     56    8  end of its use as a fallback, likewise
//!     64    8  end of its load, likewise
//!     72    4  cost of the load, microseconds
//!     76    4  length of the extension section
//!     80    …  extensions, then the payload
//! ```
//!
//! All integers are big-endian. An extension consists of its kind (one byte), its length (two bytes) and its
//! content. A reader skips extensions of an unknown kind.
//!
//! | kind | content |
//! |---|---|
//! | 1 | the packed [`Tags`] of the entry; left out if there are none |

mod ends;
mod inspect;

use bytes::{BufMut, Bytes};
use xxhash_rust::xxh3::xxh3_64;

use crate::format::tags::Tags;
use crate::format::token::Token;
pub use ends::{Ends, ends_of};
pub use inspect::{Inspected, Uninspected, codec_id, inspect};

/// The size of the seal, in bytes.
pub const SEAL_LEN: usize = 12;
/// The offset of the token in a stored value.
pub const TOKEN_OFFSET: usize = 32;
/// The offset of the expiry in a stored value. The end of the use as a fallback follows it.
pub const ENDS_OFFSET: usize = 48;
/// The offset of the length of the extensions in a stored value.
pub const EXTENSIONS_LEN_OFFSET: usize = 76;
/// The size of the seal and the header, in bytes.
pub const HEADER_LEN: usize = 80;
/// The kind of the extension for tags.
pub const TAGS_EXTENSION: u8 = 1;
/// The version of the format that this module describes.
pub const FORMAT_VERSION: u8 = 3;
/// The maximum size of a payload, in bytes: 64 MiB.
pub const MAX_PAYLOAD: usize = 64 << 20;

const MAGIC: [u8; 2] = *b"aC";
const FLAG_ABSENT: u8 = 1;
/// The largest prime below 2^32. Any change of one or two digits of the sequence number changes the remainder.
const SEAL_MODULUS: u64 = 4_294_967_291;

/// Returns the seal of a grant sequence number.
#[must_use]
pub fn seal(seq: u64) -> [u8; SEAL_LEN] {
    let mut out = [0; SEAL_LEN];
    out[..8].copy_from_slice(&seq.to_be_bytes());
    out[8..].copy_from_slice(&((seq % SEAL_MODULUS) as u32).to_be_bytes());
    out
}

/// Returns the seal of a value with this number that has been expired.
#[must_use]
pub fn expired_seal(seq: u64) -> [u8; SEAL_LEN] {
    let mut out = seal(seq);
    out[8..].iter_mut().for_each(|byte| *byte = !*byte);
    out
}

/// Returns the sequence number of a stored value, expired or not. Returns `None` if the seal is broken.
#[must_use]
pub fn unseal(stored: &[u8]) -> Option<u64> {
    unsealed(stored).map(|(seq, _)| seq)
}

/// The sequence number of a stored value, and whether a change has expired it.
fn unsealed(stored: &[u8]) -> Option<(u64, bool)> {
    let head: &[u8; SEAL_LEN] = stored.first_chunk()?;
    let (seq, check) = (u64::from_be_bytes(*head.first_chunk()?), u32::from_be_bytes(*head.last_chunk()?));
    let expected = (seq % SEAL_MODULUS) as u32;
    (check == expected || check == !expected).then_some((seq, check != expected))
}

/// Whether the seal of a stored value says that a change has expired it: it is not fresh, whatever its header says.
#[must_use]
pub fn is_expired(stored: &[u8]) -> bool {
    unsealed(stored).is_some_and(|(_, is_expired)| is_expired)
}

/// Returns a stored value after a change has expired it: it has another seal. Returns `None` if the value cannot be a
/// fallback or has a broken seal. Then it can be removed.
#[must_use]
pub fn expired(stored: &[u8]) -> Option<Bytes> {
    let seq = unseal(stored)?;
    let Ends { expires, ends } = ends_of(stored);
    (ends > expires).then(|| Bytes::from([&expired_seal(seq)[..], &stored[SEAL_LEN..]].concat()))
}

/// Returns the token of a stored value without checking the value. Returns `None` if the value is too short.
#[must_use]
pub fn token_of(stored: &[u8]) -> Option<Token> {
    stored.get(TOKEN_OFFSET..)?.first_chunk().map(|bytes| Token::from_bytes(*bytes))
}

/// Returns the tags of a stored value without checking the value. Returns the empty set if the tags cannot be
/// read.
#[must_use]
pub fn tags_of(stored: &[u8]) -> Tags {
    stored.get(SEAL_LEN..).map(frame_tags).unwrap_or_default()
}

/// Returns the tags of a frame without its seal, without checking the frame. Returns the empty set if the tags
/// cannot be read.
#[must_use]
pub fn frame_tags(frame: &[u8]) -> Tags {
    let tags = || {
        let length: [u8; 4] = *frame.get(EXTENSIONS_LEN_OFFSET - SEAL_LEN..)?.first_chunk()?;
        let extensions = frame.get(HEADER_LEN - SEAL_LEN..)?.get(..u32::from_be_bytes(length) as usize)?;
        read_extensions(extensions).ok()
    };
    tags().unwrap_or_default()
}

/// The identity of the format of a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Format {
    codec: u32,
    schema: u32,
}

impl Format {
    /// `version` is the version that the user set, and `shape` is the digest of the definition of the value
    /// type.
    pub(crate) fn new(codec_name: &str, version: u32, shape: Option<u64>) -> Self {
        let schema = match shape {
            Some(digest) => {
                let both = [&version.to_be_bytes()[..], &digest.to_be_bytes()].concat();
                xxh3_64(&both) as u32
            }
            None => version,
        };
        Self { codec: codec_id(codec_name), schema }
    }
}

/// The content of the header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) absent: bool,
    pub(crate) token: Token,
    pub(crate) expires_ms: u64,
    pub(crate) ends_ms: u64,
    pub(crate) loaded_ms: u64,
    pub(crate) cost_us: u32,
    pub(crate) tags: Tags,
}

/// The reason why a stored value cannot be used. It is a miss, and the value is overwritten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// It was not written by this crate, or it is truncated or damaged.
    Corrupt,
    /// It has another format version, codec or schema version.
    OtherFormat,
}

/// Builds a frame, which is everything behind the seal. `payload` appends the encoded value.
pub(crate) fn write<E>(
    format: Format,
    header: &Header,
    payload: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
) -> Result<Bytes, E> {
    let mut out = Vec::with_capacity(HEADER_LEN + 64);
    out.put_u64(0);
    out.put_slice(&MAGIC);
    out.put_u8(FORMAT_VERSION);
    out.put_u8(if header.absent { FLAG_ABSENT } else { 0 });
    out.put_u32(format.codec);
    out.put_u32(format.schema);
    out.put_slice(&header.token.to_bytes());
    out.put_u64(header.expires_ms);
    out.put_u64(header.ends_ms);
    out.put_u64(header.loaded_ms);
    out.put_u32(header.cost_us);
    write_extensions(&mut out, header);
    payload(&mut out)?;
    let checksum = xxh3_64(&out[8..]);
    out[..8].copy_from_slice(&checksum.to_be_bytes());
    Ok(out.into())
}

fn write_extensions(out: &mut Vec<u8>, header: &Header) {
    let tags = header.tags.packed();
    if tags.is_empty() {
        return out.put_u32(0);
    }
    // There are at most 32 tags of 129 packed bytes each, so both lengths fit.
    out.put_u32(3 + tags.len() as u32);
    out.put_u8(TAGS_EXTENSION);
    out.put_u16(tags.len() as u16);
    out.put_slice(tags);
}

/// Reads the tags from the extensions.
fn read_extensions(mut rest: &[u8]) -> Result<Tags, Unreadable> {
    let mut tags = Tags::NONE;
    while !rest.is_empty() {
        let (&[kind, high, low], behind) = rest.split_first_chunk().ok_or(Unreadable::Corrupt)?;
        let length = usize::from(u16::from_be_bytes([high, low]));
        let (content, behind) = behind.split_at_checked(length).ok_or(Unreadable::Corrupt)?;
        if kind == TAGS_EXTENSION {
            tags = Tags::from_packed(content).ok_or(Unreadable::Corrupt)?;
        }
        rest = behind;
    }
    Ok(tags)
}

/// Checks a stored value, and splits it into sequence number, header and payload.
pub(crate) fn read(format: Format, stored: &[u8]) -> Result<(u64, Header, &[u8]), Unreadable> {
    let seq = unseal(stored).ok_or(Unreadable::Corrupt)?;
    let head: &[u8; HEADER_LEN] = stored.first_chunk().ok_or(Unreadable::Corrupt)?;
    let u32_at = |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let u64_at = |at: usize| (u64::from(u32_at(at)) << 32) | u64::from(u32_at(at + 4));

    if head[20..22] != MAGIC || u64_at(12) != xxh3_64(&stored[20..]) {
        return Err(Unreadable::Corrupt);
    }
    if head[22] != FORMAT_VERSION || u32_at(24) != format.codec || u32_at(28) != format.schema {
        return Err(Unreadable::OtherFormat);
    }
    let extensions_len = u32_at(EXTENSIONS_LEN_OFFSET) as usize;
    let (extensions, payload) =
        stored[HEADER_LEN..].split_at_checked(extensions_len).ok_or(Unreadable::Corrupt)?;
    let header = Header {
        absent: head[23] & FLAG_ABSENT != 0,
        token: token_of(stored).ok_or(Unreadable::Corrupt)?,
        expires_ms: u64_at(48),
        ends_ms: u64_at(56),
        loaded_ms: u64_at(64),
        cost_us: u32_at(72),
        tags: read_extensions(extensions)?,
    };
    Ok((seq, header, payload))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::NodeId;

    const FORMAT: Format = Format { codec: 0xC0DE, schema: 3 };

    fn stored(payload: &[u8]) -> (Header, Vec<u8>) {
        tagged(Tags::NONE, payload)
    }

    fn tagged(tags: Tags, payload: &[u8]) -> (Header, Vec<u8>) {
        let token = Token { node: NodeId(0x0123_4567_89AB_CDEF), counter: 42 };
        let header = Header {
            absent: false,
            token,
            expires_ms: 1_700_000_000_123,
            ends_ms: 1_700_000_009_999,
            loaded_ms: 1_699_999_999_000,
            cost_us: 9,
            tags,
        };
        let frame = write(FORMAT, &header, |out| {
            out.extend_from_slice(payload);
            Ok::<_, ()>(())
        });
        (header, [&seal(77)[..], &frame.unwrap()].concat())
    }

    #[test]
    fn what_is_written_is_read() {
        let (header, bytes) = stored(b"payload");
        assert_eq!(token_of(&bytes), Some(header.token));
        assert_eq!(ends_of(&bytes), Ends { expires: header.expires_ms, ends: header.ends_ms });
        assert_eq!(ends_of(&bytes[..ENDS_OFFSET + 15]), Ends::default());
        assert_eq!(read(FORMAT, &bytes), Ok((77, header, &b"payload"[..])));
        let longest = Tags::new((0..32).map(|n| format!("{n:0>128}"))).unwrap();
        for tags in [Tags::new(["team:9"]).unwrap(), longest] {
            let (header, bytes) = tagged(tags, b"payload");
            assert_eq!(tags_of(&bytes), header.tags);
            assert_eq!(read(FORMAT, &bytes), Ok((77, header, &b"payload"[..])));
        }
    }

    #[test]
    fn an_expired_value_is_the_same_value_with_another_seal() {
        let (header, bytes) = stored(b"payload");
        let gone = expired(&bytes).expect("it has a time as a fallback");
        assert!(is_expired(&gone) && !is_expired(&bytes));
        assert_eq!(read(FORMAT, &gone), Ok((77, header, &b"payload"[..])));
        assert_eq!(expired(&gone), Some(gone.clone()), "once more changes nothing");
        assert_eq!(expired(&bytes[..HEADER_LEN - 30]), None);
        let mut without = bytes;
        without.copy_within(ENDS_OFFSET..ENDS_OFFSET + 8, ENDS_OFFSET + 8);
        assert_eq!(expired(&without), None, "it has none");
    }

    #[test]
    fn extensions_of_other_kinds_are_skipped() {
        let tags = Tags::new(["a"]).unwrap();
        let unknown = b"\x09\x00\x02xx";
        let ours = [&[TAGS_EXTENSION, 0, 2][..], tags.packed()].concat();
        assert_eq!(read_extensions(&[&unknown[..], &ours, unknown].concat()), Ok(tags));
        assert_eq!(read_extensions(b""), Ok(Tags::NONE));
        for junk in [&b"\x01"[..], b"\x01\x00\x05ab", b"\x01\x00\x01\x00"] {
            assert_eq!(read_extensions(junk), Err(Unreadable::Corrupt));
        }
    }

    #[test]
    fn every_single_damaged_bit_is_seen() {
        let (_, bytes) = tagged(Tags::new(["team:9"]).unwrap(), b"payload");
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(read(FORMAT, &damaged), Err(Unreadable::Corrupt), "bit {bit}");
        }
    }

    #[test]
    fn a_value_is_inspected_without_its_type() {
        let (header, bytes) = tagged(Tags::new(["team:9"]).unwrap(), b"payload");
        let seen = inspect(&bytes).unwrap();
        assert_eq!((seen.seq, seen.codec, seen.schema, seen.payload_len), (77, 0xC0DE, 3, 7));
        assert_eq!((seen.token, &seen.tags, seen.absent), (header.token, &header.tags, false));
        assert_eq!((seen.expires_ms, seen.ends_ms), (header.expires_ms, header.ends_ms));
        assert_eq!((seen.loaded_ms, seen.cost.as_micros()), (header.loaded_ms, 9));
        assert_eq!(Format::new("bincode-2", 0, None).codec, codec_id("bincode-2"));
    }

    #[test]
    fn foreign_damaged_and_other_bytes_are_told_apart() {
        let (_, bytes) = stored(b"payload");
        for foreign in [&b""[..], b"hello", &[b'x'; 100]] {
            assert_eq!(inspect(foreign), Err(Uninspected::Foreign));
        }
        assert_eq!(inspect(&bytes[..bytes.len() - 1]), Err(Uninspected::Damaged));
        assert_eq!(inspect(&bytes[..30]), Err(Uninspected::Damaged));
        let mut other = bytes.clone();
        other[22] = FORMAT_VERSION + 1;
        assert_eq!(inspect(&other), Err(Uninspected::Damaged), "the checksum covers the version");
        let checksum = xxh3_64(&other[20..]).to_be_bytes();
        other[12..20].copy_from_slice(&checksum);
        assert_eq!(inspect(&other), Err(Uninspected::OtherVersion(FORMAT_VERSION + 1)));
    }

    #[test]
    fn every_truncation_is_seen() {
        let (_, bytes) = stored(b"payload");
        for len in 0..bytes.len() {
            assert_eq!(read(FORMAT, &bytes[..len]), Err(Unreadable::Corrupt), "length {len}");
        }
    }

    #[test]
    fn other_codecs_and_schemas_are_told_from_damage() {
        let (_, bytes) = stored(b"payload");
        for other in [Format { codec: 1, ..FORMAT }, Format { schema: 4, ..FORMAT }] {
            assert_eq!(read(other, &bytes), Err(Unreadable::OtherFormat));
        }
    }
}
