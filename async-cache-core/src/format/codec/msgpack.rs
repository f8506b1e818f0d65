//! The codec for MessagePack with field names.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::BoxError;
use crate::format::codec::read::Shallow;
use crate::format::codec::shape::Shape;
use crate::format::codec::write::{Ruled, Rules};
use crate::format::codec::{Bounded, Codec, left_over};

/// [MessagePack] with structs as maps. Fields may be added (with `#[serde(default)]`), removed and reordered,
/// and serde's `tag`, `untagged`, `flatten` and `skip_serializing_if` work. Writing `Some(None)` is an error,
/// because MessagePack stores it like `None`.
///
/// [MessagePack]: https://docs.rs/rmp-serde
#[derive(Debug, Clone, Copy, Default)]
pub struct MessagePack;

impl<V: Serialize + DeserializeOwned> Codec<V> for MessagePack {
    fn name(&self) -> &'static str {
        "msgpack-named"
    }

    fn shape(&self) -> Shape {
        Shape::named::<V>().compared()
    }

    fn encode(&self, value: &V, out: &mut Vec<u8>) -> Result<(), BoxError> {
        Ok(rmp_serde::encode::write_named(&mut Bounded::new(out), &Ruled(value, Rules::NAMED))?)
    }

    fn decode(&self, bytes: &[u8]) -> Result<V, BoxError> {
        let mut rest = bytes;
        let Shallow(value) = rmp_serde::decode::from_read(&mut rest)?;
        if rest.is_empty() { Ok(value) } else { Err(left_over(rest.len())) }
    }
}
