//! Codecs turn values into bytes for L2.
//!
//! | codec | feature | for |
//! |---|---|---|
//! | [`Bincode`] | always there | the default: fast, fixed layout |
//! | `Postcard` | `postcard` | the smallest frames, fixed layout |
//! | `MessagePack` | `msgpack` | types that change: fields by name, serde's attributes work |
//! | `Json` | `json` | values that people and other languages read |
//!
//! All nodes of a namespace must use the same codec.
//!
//! A codec refuses to write a value that it could not read back: a value that nests deeper than [`MAX_DEPTH`],
//! that is larger than [`MAX_PAYLOAD`], or that its format would turn into another value. In addition, the
//! first values of a cache are read back when they are written. So a type that does not work with its codec is
//! found at once.

mod bincode;
#[cfg(feature = "json")]
mod json;
#[cfg(feature = "msgpack")]
mod msgpack;
#[cfg(feature = "postcard")]
mod postcard;
mod read;
mod round_trip;
mod shape;
mod write;

pub use bincode::Bincode;
#[cfg(feature = "json")]
pub use json::Json;
#[cfg(feature = "msgpack")]
pub use msgpack::MessagePack;
#[cfg(feature = "postcard")]
pub use postcard::Postcard;

use crate::error::BoxError;
use crate::format::frame::MAX_PAYLOAD;
pub(crate) use round_trip::RoundTrip;
pub use shape::Shape;

/// The maximum nesting of a value in L2. A level is a struct, enum variant, sequence, map, tuple, `Option` or
/// newtype inside another one. Writing or reading a deeper value is an error.
pub const MAX_DEPTH: usize = 120;

const TOO_DEEP: &str = "it nests deeper than 120 levels, the limit for values in L2";

/// Turns values into bytes and back.
///
/// # The contract
///
/// * `decode(encode(v))` equals `v`.
/// * `decode` gets arbitrary bytes. It must return an error for bytes that it did not write, as far as it can
///   tell. It must limit its allocations, and it must not panic. (Frames carry a checksum, so its input was
///   almost certainly written by a codec of the same name.)
/// * The name changes when the format changes. All nodes of a namespace must use the same name.
pub trait Codec<V>: Send + Sync + 'static {
    /// The name of the format, such as `bincode-2`.
    fn name(&self) -> &'static str;

    /// The part of the definition of `V` on which the format depends. Stored values of another shape are not
    /// read.
    ///
    /// A format without field names should return [`Shape::of::<V>()`](Shape::of). Otherwise two nodes whose
    /// `V` have their fields in different orders read wrong values from each other. A format with field names
    /// should return [`Shape::named::<V>()`](Shape::named). The default is [`Shape::UNKNOWN`].
    fn shape(&self) -> Shape {
        Shape::UNKNOWN
    }

    /// Appends the encoded value to `out`.
    ///
    /// # Errors
    ///
    /// The reason why the value cannot be encoded.
    fn encode(&self, value: &V, out: &mut Vec<u8>) -> Result<(), BoxError>;

    /// Reads a value that fills `bytes` exactly.
    ///
    /// # Errors
    ///
    /// The reason why the bytes are not a value.
    fn decode(&self, bytes: &[u8]) -> Result<V, BoxError>;
}

/// The output of a codec, limited to the maximum size of a value. So a value that is too large does not use
/// more memory.
struct Bounded<'a> {
    out: &'a mut Vec<u8>,
    left: usize,
}

impl<'a> Bounded<'a> {
    fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out, left: MAX_PAYLOAD }
    }
}

impl std::io::Write for Bounded<'_> {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let Some(left) = self.left.checked_sub(bytes.len()) else { return Err(too_large()) };
        self.left = left;
        self.out.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    // Formats write one field after the other. Without the loop of the default method, each write is a store of
    // a few bytes.
    #[inline]
    fn write_all(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.write(bytes).map(drop)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cold]
fn too_large() -> std::io::Error {
    std::io::Error::other(format!("it takes more than {MAX_PAYLOAD} bytes, the limit"))
}

/// The error for bytes that are left after a value was decoded. They were not written as one value.
fn left_over(bytes: usize) -> BoxError {
    format!("{bytes} bytes left over after the value").into()
}
