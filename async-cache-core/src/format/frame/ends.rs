//! When a stored value ends.

use super::ENDS_OFFSET;

/// When a stored value ends, in milliseconds on the server's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ends {
    /// Its expiry.
    pub expires: u64,
    /// The end of its use as a fallback.
    pub ends: u64,
}

impl Ends {
    /// Splits the 16 bytes at [`ENDS_OFFSET`].
    #[must_use]
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        let wide = u128::from_be_bytes(bytes);
        Self { expires: (wide >> 64) as u64, ends: wide as u64 }
    }
}

/// Returns when a stored value ends, without checking the value. Both times are 0, which is long past, if the value is
/// too short.
#[must_use]
pub fn ends_of(stored: &[u8]) -> Ends {
    let ends = stored.get(ENDS_OFFSET..).and_then(<[u8]>::first_chunk);
    ends.map_or_else(Ends::default, |bytes| Ends::from_bytes(*bytes))
}
