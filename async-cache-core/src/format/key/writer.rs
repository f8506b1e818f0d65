//! The output of the encoding of a key.

use std::fmt;

use arrayvec::ArrayVec;

use crate::error::{Error, ErrorKind, Result};
use crate::format::key::{CacheKey, MAX_KEY_BYTES};

/// The output to which a [`CacheKey`] writes itself.
#[derive(Debug)]
pub struct KeyWriter<'a> {
    buffer: &'a mut ArrayVec<u8, MAX_KEY_BYTES>,
    nested: bool,
    wrong: Option<Wrong>,
}

/// The reason why a value cannot be a key.
#[derive(Debug, Clone, Copy)]
enum Wrong {
    TooLong,
    /// The key type refused the value, with this reason.
    Refused(&'static str),
}

impl Wrong {
    #[cold]
    fn error(self) -> Error {
        match self {
            Self::TooLong => too_long(),
            Self::Refused(why) => Error::new(ErrorKind::Key, why),
        }
    }
}

impl<'a> KeyWriter<'a> {
    pub(crate) fn new(buffer: &'a mut ArrayVec<u8, MAX_KEY_BYTES>) -> Self {
        Self { buffer, nested: false, wrong: None }
    }

    /// Checks that the written bytes are a key.
    pub(crate) fn end(self) -> Result<()> {
        self.wrong.map_or(Ok(()), |wrong| Err(wrong.error()))
    }

    /// Writes bytes that are the whole key, or one component of it. Bytes are escaped where that is needed.
    pub fn bytes(&mut self, bytes: &[u8]) {
        if self.nested { self.escaped(bytes) } else { self.raw(bytes) }
    }

    /// Writes the bytes of a component. It is a call, so that a key of plain bytes spills no registers for it.
    #[inline(never)]
    fn escaped(&mut self, bytes: &[u8]) {
        for part in bytes.split_inclusive(|b| matches!(b, b':' | b'\\')) {
            match part.split_last() {
                Some((special @ (b':' | b'\\'), plain)) => {
                    self.raw(plain);
                    self.raw(&[b'\\', *special]);
                }
                _ => self.raw(part),
            }
        }
    }

    /// Writes text. See [`KeyWriter::bytes`].
    pub fn str(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    /// Refuses this value as a key. The call that uses the key returns an error of kind [`Key`](ErrorKind::Key)
    /// with this message.
    pub fn refuse(&mut self, why: &'static str) {
        self.wrong.get_or_insert(Wrong::Refused(why));
    }

    /// Writes each byte as two hexadecimal digits.
    pub(crate) fn hex(&mut self, bytes: &[u8]) {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        for byte in bytes {
            self.raw(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
        }
    }

    /// Writes the `Display` text of a value.
    pub(crate) fn display(&mut self, value: &impl fmt::Display) {
        struct Text<'a, 'b>(&'a mut KeyWriter<'b>);
        impl fmt::Write for Text<'_, '_> {
            fn write_str(&mut self, text: &str) -> fmt::Result {
                self.0.str(text);
                Ok(())
            }
        }
        // A key that is too long is noted in `self`. Writing cannot fail in another way.
        let _ = fmt::Write::write_fmt(&mut Text(self), format_args!("{value}"));
    }

    /// Writes an integer in decimal.
    pub fn integer(&mut self, value: impl itoa::Integer) {
        self.raw(itoa::Buffer::new().format(value).as_bytes());
    }

    /// Writes the first component of a compound key.
    pub fn first<Q: CacheKey + ?Sized>(&mut self, component: &Q) {
        let outer = std::mem::replace(&mut self.nested, true);
        component.encode(self);
        self.nested = outer;
    }

    /// Writes one further component of a compound key.
    pub fn next<Q: CacheKey + ?Sized>(&mut self, component: &Q) {
        self.raw(b":");
        self.first(component);
    }

    fn raw(&mut self, bytes: &[u8]) {
        if self.buffer.try_extend_from_slice(bytes).is_err() {
            self.wrong.get_or_insert(Wrong::TooLong);
        }
    }
}

#[cold]
pub(crate) fn too_long() -> Error {
    Error::new(
        ErrorKind::Key,
        format!(
            "the encoded key is longer than {MAX_KEY_BYTES} bytes: shorten it, or use a digest of it as the key"
        ),
    )
}
