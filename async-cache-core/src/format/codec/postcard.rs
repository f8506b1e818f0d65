//! The codec for postcard.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::BoxError;
use crate::format::codec::bincode::Bincode;
use crate::format::codec::read::Shallow;
use crate::format::codec::shape::Shape;
use crate::format::codec::write::{Ruled, Rules};
use crate::format::codec::{Bounded, Codec, left_over};

/// [postcard]: varints throughout, about half the size of [`Bincode`](super::Bincode) for small numbers.
///
/// Like `Bincode` it stores no field names. So serde's `tag`, `untagged`, `flatten` and `skip_serializing_if`
/// do not work with it. Writing such a value is an error. A stored value is not read if the definition of its
/// type has changed.
///
/// [postcard]: https://docs.rs/postcard
#[derive(Debug, Clone, Copy, Default)]
pub struct Postcard;

impl<V: Serialize + DeserializeOwned> Codec<V> for Postcard {
    fn name(&self) -> &'static str {
        "postcard-1"
    }

    fn shape(&self) -> Shape {
        Shape::of::<V>().compared()
    }

    fn encode(&self, value: &V, out: &mut Vec<u8>) -> Result<(), BoxError> {
        postcard::to_io(&Ruled(value, Rules::POSITIONAL), Bounded::new(out)).map_err(|error| {
            // postcard keeps no message of the error. Bincode has no names either, and the same rules, so it
            // gives the reason.
            Bincode::refusal(value).unwrap_or_else(|| error.into())
        })?;
        Ok(())
    }

    fn decode(&self, bytes: &[u8]) -> Result<V, BoxError> {
        match postcard::take_from_bytes(bytes)? {
            (Shallow(value), []) => Ok(value),
            (_, rest) => Err(left_over(rest.len())),
        }
    }
}
