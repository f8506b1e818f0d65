//! Reads the header of a stored value, for tools that know neither its type nor its codec.

use std::time::Duration;

use xxhash_rust::xxh3::xxh3_64;

use super::{FORMAT_VERSION, Format, HEADER_LEN, MAGIC, read, unseal};
use crate::format::tags::Tags;
use crate::format::token::Token;

/// The seal and the header of a stored value, without its payload: the result of [`inspect`].
///
/// Times are in milliseconds on the server's clock.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Inspected {
    /// The number of the last change that the value reflects.
    pub seq: u64,
    /// Whether it is a cached absence, which has no payload.
    pub absent: bool,
    /// The [`codec_id`] of the codec.
    pub codec: u32,
    /// The version of the schema. For formats without field names it includes a digest of the type's definition.
    pub schema: u32,
    /// The acquisition under which the value was stored. It names the node.
    pub token: Token,
    /// When the value stops being fresh.
    pub expires_ms: u64,
    /// When its use as a fallback ends.
    pub ends_ms: u64,
    /// When its load ended.
    pub loaded_ms: u64,
    /// How long its load took. It is zero for an inserted value.
    pub cost: Duration,
    /// Its tags.
    pub tags: Tags,
    /// The size of the encoded value, in bytes.
    pub payload_len: usize,
}

/// The reason why stored bytes cannot be inspected. For every cache they are a miss, and are overwritten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Uninspected {
    /// They were not written by this crate.
    Foreign,
    /// They begin as a value does, but are truncated or damaged.
    Damaged,
    /// They have this other version of the format.
    OtherVersion(u8),
}

/// Reads the seal and the header of a stored value, and checks all of its bytes.
///
/// # Errors
///
/// [`Uninspected`], if the bytes are not a value of this version of the format.
pub fn inspect(stored: &[u8]) -> Result<Inspected, Uninspected> {
    let head: &[u8; HEADER_LEN] = match (stored.first_chunk(), stored.get(20..22)) {
        (Some(head), Some(magic)) if magic == MAGIC => head,
        (None, Some(magic)) if magic == MAGIC => return Err(Uninspected::Damaged),
        _ => return Err(Uninspected::Foreign),
    };
    let u32_at = |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let intact = unseal(stored).is_some() && head[12..20] == xxh3_64(&stored[20..]).to_be_bytes();
    if !intact {
        return Err(Uninspected::Damaged);
    }
    if head[22] != FORMAT_VERSION {
        return Err(Uninspected::OtherVersion(head[22]));
    }
    let format = Format { codec: u32_at(24), schema: u32_at(28) };
    let (seq, header, payload) = read(format, stored).map_err(|_| Uninspected::Damaged)?;
    Ok(Inspected {
        seq,
        absent: header.absent,
        codec: format.codec,
        schema: format.schema,
        token: header.token,
        expires_ms: header.expires_ms,
        ends_ms: header.ends_ms,
        loaded_ms: header.loaded_ms,
        cost: Duration::from_micros(header.cost_us.into()),
        tags: header.tags,
        payload_len: payload.len(),
    })
}

/// The number by which a header names the codec of this [name](crate::codec::Codec::name).
#[must_use]
pub fn codec_id(name: &str) -> u32 {
    xxh3_64(name.as_bytes()) as u32
}
