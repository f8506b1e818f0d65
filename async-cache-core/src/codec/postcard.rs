//! postcard.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Codec, left_over};
use crate::error::BoxError;

/// [postcard]: varints throughout, about half the size of [`Bincode`](super::Bincode) for small numbers.
///
/// Not self-describing: as with `Bincode`, serde's `flatten`, `untagged` and `skip_serializing_if` do not
/// survive it, and a changed type needs a new [`schema_version`](crate::TieredCacheBuilder::schema_version).
///
/// [postcard]: https://docs.rs/postcard
#[derive(Debug, Clone, Copy, Default)]
pub struct Postcard;

impl<V: Serialize + DeserializeOwned> Codec<V> for Postcard {
    fn name(&self) -> &'static str {
        "postcard-1"
    }

    fn encode(&self, value: &V, out: &mut Vec<u8>) -> Result<(), BoxError> {
        *out = postcard::to_extend(value, std::mem::take(out))?;
        Ok(())
    }

    fn decode(&self, bytes: &[u8]) -> Result<V, BoxError> {
        match postcard::take_from_bytes(bytes)? {
            (value, []) => Ok(value),
            (_, rest) => Err(left_over(rest.len())),
        }
    }
}
