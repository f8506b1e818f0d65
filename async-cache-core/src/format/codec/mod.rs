//! Codecs: how a value becomes bytes for the shared tier.
//!
//! | codec | feature | for |
//! |---|---|---|
//! | [`Bincode`] | always there | the default: fast, fixed layout |
//! | `Postcard` | `postcard` | the smallest frames, fixed layout |
//! | `MessagePack` | `msgpack` | types that change: fields by name, serde's attributes work |
//! | `Json` | `json` | values to be read by people and other languages |
//!
//! All nodes of a namespace must use the same one.
//!
//! Each refuses to write what it could not read: values that nest deeper than [`MAX_DEPTH`], that are larger
//! than [`MAX_PAYLOAD`], or that its format would turn into others. And the first values of a cache are read back
//! when they are written, so that a type that does not survive its codec is found out at once.

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

/// How deep a value may nest in L2: each struct, enum variant, sequence, map, tuple, `Option` and newtype that
/// is inside another is a level. Deeper values are errors, written or read.
pub const MAX_DEPTH: usize = 120;

const TOO_DEEP: &str = "it nests deeper than 120 levels, the limit for values in L2";

/// Turns values into bytes and back.
///
/// # The contract
///
/// * `decode(encode(v))` equals `v`.
/// * `decode` gets arbitrary bytes: it must return an error for those it did not write as far as it can
///   tell, must bound what it allocates, and must not panic. (Frames carry a checksum, so what
///   reaches it was almost certainly written by a codec of the same name.)
/// * The name changes when the format does. Nodes of one namespace must agree on it.
pub trait Codec<V>: Send + Sync + 'static {
    /// A name for the format, such as `bincode-2`.
    fn name(&self) -> &'static str;

    /// What the format takes from the definition of `V`: stored values of another shape are not read.
    ///
    /// A format without names should say [`Shape::of::<V>()`](Shape::of), or two nodes whose `V` have their fields
    /// in another order read each other's values, wrong. One with names should say
    /// [`Shape::named::<V>()`](Shape::named). Default: nothing.
    fn shape(&self) -> Shape {
        Shape::UNKNOWN
    }

    /// Appends the encoded value to `out`.
    ///
    /// # Errors
    ///
    /// Whatever keeps the value from being encoded.
    fn encode(&self, value: &V, out: &mut Vec<u8>) -> Result<(), BoxError>;

    /// Reads a value that fills `bytes` exactly.
    ///
    /// # Errors
    ///
    /// Whatever keeps the bytes from being a value.
    fn decode(&self, bytes: &[u8]) -> Result<V, BoxError>;
}

/// Where a codec writes: no more than a value may have, so that one that is too large does not take the memory
/// it would need.
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

    // Formats write one field after the other: without the loop this becomes a store of a few bytes.
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

/// Decoding went well, but bytes are left: they were not written as one value.
fn left_over(bytes: usize) -> BoxError {
    format!("{bytes} bytes left over after the value").into()
}
