//! The codec for bincode 2.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::BoxError;
use crate::format::codec::read::Shallow;
use crate::format::codec::shape::Shape;
use crate::format::codec::write::{Ruled, Rules};
use crate::format::codec::{Bounded, Codec, left_over};

/// The limit on the memory that a decoder may claim, in bytes. Corrupt lengths must not exhaust memory.
const DECODE_LIMIT: usize = 256 << 20;

/// The default codec: [bincode] 2 with fixed-width integers.
///
/// It is compact and fast, but it stores no field names. So serde's `tag`, `untagged`, `flatten` and
/// `skip_serializing_if` do not work with it, nor does `serde_json::Value`. Writing such a value is an error. A
/// stored value is not read if the definition of its type has changed.
///
/// [bincode]: https://docs.rs/bincode/2.0.1
#[derive(Debug, Clone, Copy, Default)]
pub struct Bincode;

impl Bincode {
    // The integers have a fixed width. With varints the limit would count decoded widths, not the bytes that
    // are read.
    const CONFIG: ::bincode::config::Configuration<
        ::bincode::config::LittleEndian,
        ::bincode::config::Fixint,
        ::bincode::config::Limit<DECODE_LIMIT>,
    > = ::bincode::config::legacy().with_limit::<DECODE_LIMIT>();

    /// The reason why a value cannot be written, if there is one.
    #[cfg(feature = "postcard")]
    pub(crate) fn refusal<V: Serialize>(value: &V) -> Option<BoxError> {
        let value = Ruled(value, Rules::POSITIONAL);
        let written = ::bincode::serde::encode_into_std_write(value, &mut std::io::sink(), Self::CONFIG);
        written.err().map(Into::into)
    }
}

impl<V: Serialize + DeserializeOwned> Codec<V> for Bincode {
    fn name(&self) -> &'static str {
        "bincode-2"
    }

    fn shape(&self) -> Shape {
        Shape::of::<V>().compared()
    }

    fn encode(&self, value: &V, out: &mut Vec<u8>) -> Result<(), BoxError> {
        let value = Ruled(value, Rules::POSITIONAL);
        ::bincode::serde::encode_into_std_write(value, &mut Bounded::new(out), Self::CONFIG)?;
        Ok(())
    }

    fn decode(&self, bytes: &[u8]) -> Result<V, BoxError> {
        let (Shallow(value), read) = ::bincode::serde::decode_from_slice(bytes, Self::CONFIG)?;
        if read == bytes.len() { Ok(value) } else { Err(left_over(bytes.len() - read)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_survives() {
        let value = (7u64, String::from("seven"), Some(vec![1u8, 2, 3]));
        let mut bytes = Vec::new();
        Bincode.encode(&value, &mut bytes).unwrap();
        let back: (u64, String, Option<Vec<u8>>) = Bincode.decode(&bytes).unwrap();
        assert_eq!(back, value);
    }

    #[test]
    fn a_huge_length_is_an_error_not_an_allocation() {
        let bytes = (1u64 << 40).to_le_bytes();
        assert!(Codec::<String>::decode(&Bincode, &bytes).is_err());
        assert!(Codec::<Vec<u64>>::decode(&Bincode, &bytes).is_err());
    }

    #[test]
    fn trailing_bytes_are_an_error() {
        let mut bytes = Vec::new();
        Bincode.encode(&7u32, &mut bytes).unwrap();
        bytes.push(0);
        assert!(Codec::<u32>::decode(&Bincode, &bytes).is_err());
    }
}
