//! Checks that a written value can be read, when it is written and not only when it is needed.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::BoxError;
use crate::format::codec::Codec;
use crate::format::codec::shape::{Check, Shape};

/// The number of first values of a cache that are read back. After that, one of `LATER` values is read back.
const FIRST: u64 = 16;
const LATER: u64 = 256;

/// Reads written values back: the first values of a cache, and a few of the others.
#[derive(Debug)]
pub(crate) struct RoundTrip {
    shape: Shape,
    written: AtomicU64,
}

impl RoundTrip {
    pub(crate) fn new(shape: Shape) -> Self {
        Self { shape, written: AtomicU64::new(0) }
    }

    /// Whether the value that is being written is read back.
    pub(crate) fn is_due(&self) -> bool {
        let before = self.written.fetch_add(1, Ordering::Relaxed);
        self.shape.check == Check::Each || before < FIRST || before.is_multiple_of(LATER)
    }

    /// The remedy for a value that this format cannot hold.
    pub(crate) fn remedy(&self) -> &'static str {
        match self.shape.digest {
            // The format has no field names.
            Some(_) => {
                "see the cause; serde's `tag`, `untagged`, `flatten` and `skip_serializing_if` need a codec with \
                 names: `.l2_with(.., MessagePack)`"
            }
            None => "see the cause",
        }
    }

    /// Reads a value back from its bytes.
    pub(crate) fn check<V: 'static>(
        &self,
        codec: &dyn Codec<V>,
        value: &V,
        bytes: &[u8],
    ) -> Result<(), BoxError> {
        // The cause is left out, because an error of a decoder may quote the value.
        let read = codec.decode(bytes).map_err(|_| match (self.shape.check, self.shape.digest) {
            (Check::Each, Some(_)) => {
                "it cannot be read back: its type asks the format for the next type, and this format does not store types"
            }
            _ => "it cannot be read back",
        })?;
        if !self.shape.compared {
            return Ok(());
        }
        let again = |value: &V| {
            let mut out = Vec::with_capacity(bytes.len());
            codec.encode(value, &mut out).map(|()| out)
        };
        // A hash map may come back in another order, with each byte as often as before. If the bytes of the
        // value differ at each write, the comparison says nothing.
        let written = again(&read)?;
        if written == bytes || count(&written) == count(bytes) || again(value)? != bytes {
            return Ok(());
        }
        Err("it is different after it is read back and written again".into())
    }
}

/// Counts how often each byte occurs.
fn count(bytes: &[u8]) -> [usize; 256] {
    let mut counts = [0; 256];
    bytes.iter().for_each(|byte| counts[usize::from(*byte)] += 1);
    counts
}
