//! Keys: typed in the public methods, bytes inside.
//!
//! The encoding is injective for every key type, so two different keys never share an entry. Text and numbers
//! are readable in `redis-cli`.

mod find;
mod kinds;
mod standard;
mod writer;

use std::borrow::Borrow;
use std::fmt;

use arrayvec::ArrayVec;
use smallvec::SmallVec;

use crate::error::Result;
pub use find::FoundBy;
pub use writer::KeyWriter;
use writer::too_long;

/// The maximum length of an encoded key, in bytes.
pub const MAX_KEY_BYTES: usize = 1024;

/// A type whose values are keys of a cache.
///
/// | type | encoding | in a tuple |
/// |---|---|---|
/// | `str`, `char`, byte strings | their bytes | `\` and `:` escaped by `\` |
/// | integers | decimal | decimal |
/// | `NonZero` integers | decimal | decimal |
/// | `f32`, `f64` | their bits in hexadecimal | the same |
/// | `bool` | `true`, `false` | the same |
/// | `IpAddr`, `SocketAddr` and their kinds | their text; for a socket address also the port, and for IPv6 the flow and the scope | `:` escaped by `\` |
/// | `Path`, `PathBuf` | their components joined by `/`; one that is not UTF-8 is an error | escaped as text |
/// | `Duration`, `SystemTime` | nanoseconds, since 1970 | the same |
/// | `Uuid` (feature `uuid`) | hyphenated | the same |
/// | `Option` | `-`, or `+` and the value | the same |
/// | tuples | components joined by `:` | the same |
/// | `[T]`, `[T; N]`, `Vec<T>` | the length and each item, joined by `:` (of `u8`: a byte string) | the same |
///
/// Within one type the encoding is injective: a component ends at the next unescaped `:`, and the type
/// determines the number of components. Two different *types* may have equal encodings, but a cache has only
/// one key type.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the key of a cache",
    label = "`CacheKey` is not implemented for `{Self}`",
    note = "put `#[derive(CacheKey)]` on a type of yours; of another's, use what identifies it (in `#[cached]`: `key = ..`, or `skip(..)` for an argument that does not matter)"
)]
pub trait CacheKey: Send + Sync {
    /// Writes the key.
    fn encode(&self, out: &mut KeyWriter<'_>);

    /// Returns the whole encoding if it is a slice of the value itself. This saves the copy on a hit.
    fn as_bytes(&self) -> Option<&[u8]> {
        None
    }

    /// Returns the whole encoding if it is one number. This saves the copy on a hit.
    #[doc(hidden)]
    fn as_number<'a>(&self, digits: &'a mut Digits) -> Option<&'a [u8]> {
        let _ = digits;
        None
    }

    /// Writes a sequence of values of this type.
    #[doc(hidden)]
    fn encode_all(all: &[Self], out: &mut KeyWriter<'_>)
    where
        Self: Sized,
    {
        out.first(&all.len());
        all.iter().for_each(|one| out.next(one));
    }

    /// Returns the whole encoding of a sequence of values of this type, if it is a slice of the sequence.
    #[doc(hidden)]
    fn all_as_bytes(all: &[Self]) -> Option<&[u8]>
    where
        Self: Sized,
    {
        let _ = all;
        None
    }
}

/// A buffer for the digits of a number.
#[doc(hidden)]
#[allow(missing_debug_implementations, reason = "lent for the time of one call")]
pub struct Digits(itoa::Buffer);

/// An encoded key.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub struct Key(SmallVec<[u8; INLINE]>);

/// The number of bytes of a key that need no allocation. They fit into the three words of a `SmallVec`.
const INLINE: usize = 16;

impl Clone for Key {
    // Clones in one copy. A derived `Clone` would copy byte by byte.
    fn clone(&self) -> Self {
        Self::from_encoded(&self.0)
    }
}

impl Key {
    /// Encodes a key.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Key`](crate::error::ErrorKind::Key) if the encoding is longer than [`MAX_KEY_BYTES`], or if
    /// a value refuses to be a key, such as a path that is not UTF-8.
    pub fn encode<Q: CacheKey + ?Sized>(key: &Q) -> Result<Self> {
        with_encoded(key, |bytes| Self(SmallVec::from_slice(bytes)))
    }

    /// Makes a key from encoded bytes.
    #[must_use]
    pub fn from_encoded(bytes: &[u8]) -> Self {
        Self(SmallVec::from_slice(bytes))
    }

    /// The encoded bytes.
    #[inline]
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The partition of this key: the [xxh3] hash of the encoded bytes, modulo `partitions`. This is part of
    /// the storage format.
    ///
    /// [xxh3]: https://github.com/Cyan4973/xxHash
    #[must_use]
    pub fn partition(&self, partitions: u16) -> u16 {
        partition_of(&self.0, partitions)
    }
}

pub(crate) fn partition_of(key: &[u8], partitions: u16) -> u16 {
    if partitions <= 1 { 0 } else { (xxhash_rust::xxh3::xxh3_64(key) % u64::from(partitions)) as u16 }
}

impl std::hash::Hash for Key {
    // `Borrow<[u8]>` requires the hash of `[u8]`.
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

impl Borrow<[u8]> for Key {
    fn borrow(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl AsRef<[u8]> for Key {
    fn as_ref(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.as_bytes().escape_ascii())
    }
}

/// Encodes a key on the stack and passes the bytes to `then`. It does not allocate, and it does not copy text
/// and numbers.
#[inline]
pub(crate) fn with_encoded<Q: CacheKey + ?Sized, R>(key: &Q, then: impl FnOnce(&[u8]) -> R) -> Result<R> {
    if let Some(bytes) = key.as_bytes() {
        return if bytes.len() <= MAX_KEY_BYTES { Ok(then(bytes)) } else { Err(too_long()) };
    }
    if let Some(bytes) = key.as_number(&mut Digits(itoa::Buffer::new())) {
        return Ok(then(bytes));
    }
    let mut buffer = ArrayVec::new();
    let mut writer = KeyWriter::new(&mut buffer);
    key.encode(&mut writer);
    match writer.end() {
        Ok(()) => Ok(then(&buffer)),
        Err(error) => Err(error),
    }
}

/// Works like [`with_encoded`], for a probe of L1. A key that is too long is passed on, because L1 has no entry
/// for it.
#[inline]
pub(crate) fn with_any_length<Q: CacheKey + ?Sized, R>(
    key: &Q,
    then: impl FnOnce(&[u8]) -> Option<R>,
) -> Option<R> {
    match key.as_bytes() {
        Some(bytes) => then(bytes),
        None => with_encoded(key, then).ok().flatten(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn text<Q: CacheKey>(key: Q) -> String {
        String::from_utf8(Key::encode(&key).unwrap().as_bytes().to_vec()).unwrap()
    }

    #[test]
    fn simple_keys_are_readable() {
        assert_eq!(text("user:42"), "user:42");
        assert_eq!(text(42u64), "42");
        assert_eq!(text(-1i8), "-1");
        assert_eq!(text(true), "true");
        assert_eq!(text('ü'), "ü");
        assert_eq!(text(Some(3)), "+3");
        assert_eq!(text(None::<u8>), "-");
        assert_eq!(text((9u32, "a:b", None::<u8>)), "9:a\\:b:-");
    }

    #[cfg(feature = "uuid")]
    #[test]
    fn uuids_are_readable() {
        let id = uuid::Uuid::from_u128(0x67e5_5044_10b1_426f_9247_bb68_0e5f_e0c8);
        assert_eq!(text(id), "67e55044-10b1-426f-9247-bb680e5fe0c8");
    }

    #[test]
    fn separators_inside_components_do_not_collide() {
        assert_ne!(text(("a:b", "c")), text(("a", "b:c")));
        assert_ne!(text(("a\\", "b")), text(("a", "\\b")));
        assert_ne!(text(("a\\:b", "c")), text(("a\\", "b:c")));
        assert_ne!(text((Some("-"), "")), text((None::<&str>, "")));
        assert_ne!(text((("a", "b:c"), "d")), text((("a:b", "c"), "d")));
    }

    #[test]
    fn borrowed_and_owned_forms_agree() {
        assert_eq!(Key::encode("abc").unwrap(), Key::encode(&String::from("abc")).unwrap());
        assert_eq!(text(("a:b", 1)), text((String::from("a:b"), 1)));
        assert_eq!(text(Box::<str>::from("x")), "x");
    }

    #[test]
    fn the_limit_is_exact_on_both_routes() {
        assert!(Key::encode("x".repeat(MAX_KEY_BYTES).as_str()).is_ok());
        let over = Key::encode("x".repeat(MAX_KEY_BYTES + 1).as_str()).unwrap_err();
        assert_eq!(over.kind(), ErrorKind::Key);
        assert!(Key::encode(&("x".repeat(MAX_KEY_BYTES - 2), 1u8)).is_ok());
        assert!(Key::encode(&("x".repeat(MAX_KEY_BYTES - 1), 1u8)).is_err());
        assert!(Key::encode(&(":".repeat(MAX_KEY_BYTES / 2), 1u8)).is_err());
    }
}
