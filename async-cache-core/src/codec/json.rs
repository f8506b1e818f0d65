//! JSON.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Codec;
use crate::error::BoxError;

/// [JSON]: larger and slower than the others, readable behind the 64 bytes of the header.
///
/// [JSON]: https://docs.rs/serde_json
#[derive(Debug, Clone, Copy, Default)]
pub struct Json;

impl<V: Serialize + DeserializeOwned> Codec<V> for Json {
    fn name(&self) -> &'static str {
        "json"
    }

    fn encode(&self, value: &V, out: &mut Vec<u8>) -> Result<(), BoxError> {
        Ok(serde_json::to_writer(out, value)?)
    }

    fn decode(&self, bytes: &[u8]) -> Result<V, BoxError> {
        Ok(serde_json::from_slice(bytes)?)
    }
}
