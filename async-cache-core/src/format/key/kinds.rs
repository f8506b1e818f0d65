//! The types that can be keys: the table at [`CacheKey`].

use std::borrow::Cow;
use std::sync::Arc;

use crate::format::key::writer::KeyWriter;
use crate::format::key::{CacheKey, Digits, Key};

macro_rules! integers {
    ($($t:ty)*) => {$(
        impl CacheKey for $t {
            fn encode(&self, out: &mut KeyWriter<'_>) {
                out.integer(*self);
            }

            #[inline]
            fn as_number<'a>(&self, digits: &'a mut Digits) -> Option<&'a [u8]> {
                Some(digits.0.format(*self).as_bytes())
            }
        }
    )*};
}
integers!(u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize);

/// A sequence of `u8` is a byte string.
impl CacheKey for u8 {
    fn encode(&self, out: &mut KeyWriter<'_>) {
        out.integer(*self);
    }

    #[inline]
    fn as_number<'a>(&self, digits: &'a mut Digits) -> Option<&'a [u8]> {
        Some(digits.0.format(*self).as_bytes())
    }

    fn encode_all(all: &[Self], out: &mut KeyWriter<'_>) {
        out.bytes(all);
    }

    #[inline]
    fn all_as_bytes(all: &[Self]) -> Option<&[u8]> {
        Some(all)
    }
}

macro_rules! byte_strings {
    ($($t:ty: $as:ident;)*) => {$(
        impl CacheKey for $t {
            fn encode(&self, out: &mut KeyWriter<'_>) {
                out.bytes(self.$as());
            }

            #[inline]
            fn as_bytes(&self) -> Option<&[u8]> {
                Some(self.$as())
            }
        }
    )*};
}
byte_strings! {
    str: as_bytes;
    String: as_bytes;
    bytes::Bytes: as_ref;
    Key: as_bytes;
}

impl CacheKey for bool {
    fn encode(&self, out: &mut KeyWriter<'_>) {
        out.str(if *self { "true" } else { "false" });
    }
}

impl CacheKey for char {
    fn encode(&self, out: &mut KeyWriter<'_>) {
        out.str(self.encode_utf8(&mut [0; 4]));
    }
}

#[cfg(feature = "uuid")]
impl CacheKey for uuid::Uuid {
    /// Writes the hyphenated form in lower case.
    fn encode(&self, out: &mut KeyWriter<'_>) {
        out.str(self.hyphenated().encode_lower(&mut uuid::Uuid::encode_buffer()));
    }
}

impl<T: CacheKey> CacheKey for Option<T> {
    fn encode(&self, out: &mut KeyWriter<'_>) {
        match self {
            None => out.str("-"),
            Some(value) => {
                out.str("+");
                value.encode(out);
            }
        }
    }
}

macro_rules! pointers {
    ($([$($g:tt)*] $t:ty;)*) => {$(
        impl<$($g)*> CacheKey for $t {
            fn encode(&self, out: &mut KeyWriter<'_>) {
                (**self).encode(out);
            }

            #[inline]
            fn as_bytes(&self) -> Option<&[u8]> {
                (**self).as_bytes()
            }

            #[inline]
            fn as_number<'a>(&self, digits: &'a mut Digits) -> Option<&'a [u8]> {
                (**self).as_number(digits)
            }
        }
    )*};
}
pointers! {
    [T: CacheKey + ?Sized] &T;
    [T: CacheKey + ?Sized] Box<T>;
    [T: CacheKey + ?Sized] Arc<T>;
    [T: CacheKey + ToOwned<Owned: Send + Sync> + ?Sized] Cow<'_, T>;
}

macro_rules! tuples {
    ($($first:ident $($rest:ident)*;)*) => {$(
        impl<$first: CacheKey, $($rest: CacheKey),*> CacheKey for ($first, $($rest,)*) {
            #[allow(non_snake_case, reason = "type names double as field names")]
            fn encode(&self, out: &mut KeyWriter<'_>) {
                let ($first, $($rest,)*) = self;
                out.first($first);
                $(out.next($rest);)*
            }
        }
    )*};
}
tuples! {
    A;
    A B;
    A B C;
    A B C D;
    A B C D E;
    A B C D E F;
    A B C D E F G;
    A B C D E F G H;
}
