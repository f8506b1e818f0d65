//! Types of the standard library that can be keys, besides text and integers: the table at [`CacheKey`].

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::num::NonZero;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::format::key::writer::KeyWriter;
use crate::format::key::{CacheKey, Digits};

impl<T: CacheKey> CacheKey for [T] {
    /// Writes the length, then each item. A sequence of bytes is written as it is.
    fn encode(&self, out: &mut KeyWriter<'_>) {
        T::encode_all(self, out);
    }

    #[inline]
    fn as_bytes(&self) -> Option<&[u8]> {
        T::all_as_bytes(self)
    }
}

macro_rules! sequences {
    ($([$($g:tt)*] $t:ty;)*) => {$(
        impl<T: CacheKey, $($g)*> CacheKey for $t {
            fn encode(&self, out: &mut KeyWriter<'_>) {
                T::encode_all(self, out);
            }

            #[inline]
            fn as_bytes(&self) -> Option<&[u8]> {
                T::all_as_bytes(self)
            }
        }
    )*};
}
sequences! {
    [] Vec<T>;
    [const N: usize] [T; N];
}

macro_rules! non_zero {
    ($($t:ty)*) => {$(
        impl CacheKey for NonZero<$t> {
            fn encode(&self, out: &mut KeyWriter<'_>) {
                out.integer(self.get());
            }

            #[inline]
            fn as_number<'a>(&self, digits: &'a mut Digits) -> Option<&'a [u8]> {
                Some(digits.0.format(self.get()).as_bytes())
            }
        }
    )*};
}
non_zero!(u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize);

/// Writes the bits: `0.0` and `-0.0` are two keys, and a NaN finds the entry of a NaN with the same bits.
macro_rules! floats {
    ($($t:ty)*) => {$(
        impl CacheKey for $t {
            fn encode(&self, out: &mut KeyWriter<'_>) {
                out.hex(&self.to_bits().to_be_bytes());
            }
        }
    )*};
}
floats!(f32 f64);

macro_rules! displayed {
    ($($t:ty)*) => {$(
        impl CacheKey for $t {
            fn encode(&self, out: &mut KeyWriter<'_>) {
                out.display(self);
            }
        }
    )*};
}
displayed!(IpAddr Ipv4Addr Ipv6Addr);

impl CacheKey for SocketAddrV4 {
    fn encode(&self, out: &mut KeyWriter<'_>) {
        out.first(self.ip());
        out.next(&self.port());
    }
}

impl CacheKey for SocketAddrV6 {
    /// Writes the flow and the scope, too.
    fn encode(&self, out: &mut KeyWriter<'_>) {
        out.first(self.ip());
        out.next(&self.port());
        out.next(&self.flowinfo());
        out.next(&self.scope_id());
    }
}

impl CacheKey for SocketAddr {
    /// The address tells how many components follow.
    fn encode(&self, out: &mut KeyWriter<'_>) {
        match self {
            Self::V4(address) => address.encode(out),
            Self::V6(address) => address.encode(out),
        }
    }
}

impl CacheKey for Path {
    /// Writes component by component, as paths are compared: `a//b` and `a/b` are one path, and one key.
    fn encode(&self, out: &mut KeyWriter<'_>) {
        let mut separator = "";
        for component in self.components() {
            let Some(text) = component.as_os_str().to_str() else {
                return out.refuse("a path that is not UTF-8 cannot be a key: use its bytes");
            };
            match component {
                Component::RootDir => out.str("/"),
                Component::Prefix(_) => out.str(text),
                _ => {
                    out.str(separator);
                    out.str(text);
                    separator = "/";
                }
            }
        }
    }
}

impl CacheKey for PathBuf {
    fn encode(&self, out: &mut KeyWriter<'_>) {
        self.as_path().encode(out);
    }
}

impl CacheKey for Duration {
    /// Writes nanoseconds.
    fn encode(&self, out: &mut KeyWriter<'_>) {
        out.integer(self.as_nanos());
    }
}

impl CacheKey for SystemTime {
    /// Writes nanoseconds since 1970. They are negative before that.
    fn encode(&self, out: &mut KeyWriter<'_>) {
        match self.duration_since(UNIX_EPOCH) {
            Ok(after) => after.encode(out),
            Err(before) => {
                out.str("-");
                before.duration().encode(out);
            }
        }
    }
}

impl CacheKey for () {
    fn encode(&self, _: &mut KeyWriter<'_>) {}
}
