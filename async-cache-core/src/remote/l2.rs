//! [`L2`]: the tier that the fleet shares, the form of its values, and how often it has none.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;

use crate::backend::{Entry, Region};
use crate::error::{BoxError, ErrorKind, Result, guard};
use crate::format::codec::{Codec, RoundTrip};
use crate::format::frame::{self, Format, Header};
use crate::format::key::Key;
use crate::local::l1::L1;
use crate::local::request::CacheMode;
use crate::options::Term;

/// The tier that the fleet shares, and the form of its values.
pub(crate) struct L2<V> {
    pub(crate) region: Arc<dyn Region>,
    pub(crate) codec: Arc<dyn Codec<V>>,
    pub(crate) format: Format,
    pub(crate) round_trip: RoundTrip,
    /// The name of the value's type in the namespace record.
    pub(crate) schema: Arc<str>,
    /// How often L2 has no value.
    pub(crate) miss_rate: MissRate,
    pub(crate) local: Arc<L1<V>>,
}

impl<V: 'static> L2<V> {
    /// Encodes a value. The codec is the user's code, and it may panic. A panic becomes the error of this
    /// value only: a batch has other values, and the callers of a load still get the value.
    pub(crate) fn encode(&self, value: &V, out: &mut Vec<u8>) -> Result<(), BoxError> {
        let before = out.len();
        guard::call("encoding a value", || self.codec.encode(value, out))?;
        if self.round_trip.is_due() {
            guard::call("reading a value back", || {
                self.round_trip.check(&*self.codec, value, &out[before..])
            })?;
        }
        Ok(())
    }

    /// Decodes a value. A panic becomes an error, as for a damaged value. Otherwise every reader of the
    /// stored value would panic until it expires.
    pub(crate) fn decode(&self, payload: &[u8]) -> Result<V, BoxError> {
        guard::call("decoding a value", || self.codec.decode(payload))
    }

    /// The frame in which L2 stores the entry of a key.
    pub(crate) fn frame_of(&self, key: &Key, entry: &Entry<V>, term: Term, cost: Duration) -> Result<Bytes> {
        let liveness = &self.local.liveness;
        let now = liveness.node.clock.now();
        let time = liveness.server_time(key.as_bytes())?;
        let at = |tick| time.at(tick);
        let header = Header {
            absent: entry.value.is_none(),
            token: entry.token,
            expires_ms: at(now.after(term.ttl)),
            ends_ms: at(now.after(term.kept())),
            loaded_ms: at(now),
            cost_us: u32::try_from(cost.as_micros()).unwrap_or(u32::MAX),
            tags: entry.tags.clone(),
        };
        let frame = frame::write(self.format, &header, |out| match &entry.value {
            Some(value) => self.encode(value, out),
            None => Ok(()),
        });
        match frame {
            Ok(frame) if frame.len() <= frame::MAX_PAYLOAD => Ok(frame),
            Ok(frame) => Err(self.local.observer.error(
                ErrorKind::Codec,
                format!(
                    "a value of {} encoded bytes is over the limit of {}",
                    frame.len(),
                    frame::MAX_PAYLOAD
                ),
            )),
            Err(cause) => {
                let (schema, codec) = (&self.schema, self.codec.name());
                let remedy = self.round_trip.remedy();
                let message = format!(
                    "a value of type `{schema}` cannot be stored in L2 with the codec `{codec}`: {remedy}"
                );
                Err(self.local.observer.error(ErrorKind::Codec, message).with_source(cause))
            }
        }
    }
}

/// The share of lookups for which L2 had no value. It is a moving average over about the last [`SPAN`]
/// lookups. It decides whether a lookup first reads L2, or asks for the lease at once. That question returns a
/// stored value, too.
///
/// A plain read costs Redis much less than a script. But a lookup needs the script, too, if the read finds
/// nothing. While most reads find nothing (the fleet is cold, or keys are requested only once), the read is
/// skipped. Then a lookup that loads waits for one round trip less.
#[derive(Debug, Default)]
pub(crate) struct MissRate(AtomicU32);

const ALL: u32 = 1 << 16;
const SPAN: u32 = 32;
/// A script that returns a value costs about ten times a read. So the read is skipped only while most reads
/// find nothing.
const MOST: u32 = ALL / 4 * 3;

impl MissRate {
    /// L2 had a value.
    pub(crate) fn found(&self) {
        let share = self.0.load(Ordering::Relaxed);
        self.0.store(share - share / SPAN, Ordering::Relaxed);
    }

    /// L2 had no value, and a load began or was waited for. A reload is not counted, because it did not ask
    /// for a value.
    pub(crate) fn missed(&self, mode: CacheMode) {
        if mode == CacheMode::Reload {
            return;
        }
        let share = self.0.load(Ordering::Relaxed);
        self.0.store(share + (ALL - share) / SPAN, Ordering::Relaxed);
    }

    /// Whether to skip the read, and to ask for the lease at once.
    pub(crate) fn skip_read(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= MOST
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_turns_when_misses_are_the_rule_and_turn_back() {
        let rate = MissRate::default();
        let turns = (1..).find(|_| {
            rate.missed(CacheMode::Use);
            rate.skip_read()
        });
        assert!((20..60).contains(&turns.unwrap()), "{turns:?}");
        (0..1_000).for_each(|_| rate.missed(CacheMode::Use));
        let back = (1..).find(|_| {
            rate.found();
            !rate.skip_read()
        });
        assert!(back.unwrap() < 20, "{back:?}");
        (0..1_000).for_each(|i| if i % 2 == 0 { rate.found() } else { rate.missed(CacheMode::Use) });
        assert!(!rate.skip_read());
    }
}
