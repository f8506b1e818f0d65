//! MessagePack with named fields.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Codec, left_over};
use crate::error::BoxError;

/// [MessagePack] with structs as maps: fields may be added (with `#[serde(default)]`), removed and
/// reordered, and serde's `flatten`, `untagged` and `skip_serializing_if` work.
///
/// [MessagePack]: https://docs.rs/rmp-serde
#[derive(Debug, Clone, Copy, Default)]
pub struct MessagePack;

impl<V: Serialize + DeserializeOwned> Codec<V> for MessagePack {
    fn name(&self) -> &'static str {
        "msgpack-named"
    }

    fn encode(&self, value: &V, out: &mut Vec<u8>) -> Result<(), BoxError> {
        Ok(rmp_serde::encode::write_named(out, value)?)
    }

    fn decode(&self, bytes: &[u8]) -> Result<V, BoxError> {
        let mut rest = bytes;
        let value = rmp_serde::decode::from_read(&mut rest)?;
        if rest.is_empty() { Ok(value) } else { Err(left_over(rest.len())) }
    }
}
