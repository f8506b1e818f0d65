//! The codec for JSON.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::BoxError;
use crate::format::codec::read::Shallow;
use crate::format::codec::shape::Shape;
use crate::format::codec::write::{Ruled, Rules};
use crate::format::codec::{Bounded, Codec};

/// [JSON]: larger and slower than the other codecs, but the payload behind the header is readable text. Writing
/// NaN, an infinity or `Some(None)` is an error, because JSON cannot represent them.
///
/// [JSON]: https://docs.rs/serde_json
#[derive(Debug, Clone, Copy, Default)]
pub struct Json;

impl<V: Serialize + DeserializeOwned> Codec<V> for Json {
    fn name(&self) -> &'static str {
        "json"
    }

    fn shape(&self) -> Shape {
        Shape::named::<V>().compared()
    }

    fn encode(&self, value: &V, out: &mut Vec<u8>) -> Result<(), BoxError> {
        Ok(serde_json::to_writer(Bounded::new(out), &Ruled(value, Rules::JSON))?)
    }

    fn decode(&self, bytes: &[u8]) -> Result<V, BoxError> {
        let Shallow(value) = serde_json::from_slice(bytes)?;
        Ok(value)
    }
}
