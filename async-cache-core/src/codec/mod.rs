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

mod bincode;
#[cfg(feature = "json")]
mod json;
#[cfg(feature = "msgpack")]
mod msgpack;
#[cfg(feature = "postcard")]
mod postcard;

pub use self::bincode::Bincode;
#[cfg(feature = "json")]
pub use self::json::Json;
#[cfg(feature = "msgpack")]
pub use self::msgpack::MessagePack;
#[cfg(feature = "postcard")]
pub use self::postcard::Postcard;

use crate::error::BoxError;

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

/// Decoding went well, but bytes are left: they were not written as one value.
fn left_over(bytes: usize) -> BoxError {
    format!("{bytes} bytes left over after the value").into()
}
