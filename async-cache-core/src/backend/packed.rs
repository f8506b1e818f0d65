//! An entry as an engine keeps it: small, for there are many.

use std::sync::Arc;

use super::{Entry, Life, NodeId, Sight, Tick, Token};
use crate::tags::Tags;

/// An [`Entry`] in 56 bytes instead of 104. What most have none of is kept apart.
#[doc(hidden)]
#[derive(Debug)]
pub struct Packed<V> {
    value: Option<Arc<V>>,
    due: Tick,
    generation: u64,
    seq: u64,
    node: NodeId,
    more: Option<Arc<More>>,
    counter: u32,
    /// In milliseconds, as exact as a frame has it; [`ENDLESS`] for a life without end.
    span: u32,
}

/// All of an entry that does not simply end when it is due: one with tags, a time as a fallback, a
/// refresh ahead of its expiry or one that failed; or with a number too large for its place.
#[derive(Debug)]
struct More {
    life: Life,
    token: Token,
    tags: Tags,
}

const ENDLESS: u32 = u32::MAX;
const MS: u64 = 1_000_000;

impl<V> Clone for Packed<V> {
    #[inline]
    fn clone(&self) -> Self {
        Self { value: self.value.clone(), more: self.more.clone(), ..*self }
    }
}

impl<V> From<Entry<V>> for Packed<V> {
    fn from(entry: Entry<V>) -> Self {
        let Entry { value, life, generation, seq, token, tags } = entry;
        let counter = u32::try_from(token.counter).ok();
        let span = match life.span {
            u64::MAX => Some(ENDLESS),
            nanos => u32::try_from(nanos / MS).ok().filter(|ms| *ms != ENDLESS),
        };
        let fits =
            counter.is_some() && span.is_some() && tags.is_empty() && life == plain(life.due, life.span);
        let more = (!fits).then(|| Arc::new(More { life, token, tags }));
        let (counter, span) = (counter.unwrap_or_default(), span.unwrap_or_default());
        Self { value, due: life.due, generation, seq, node: token.node, more, counter, span }
    }
}

impl<V> From<Packed<V>> for Entry<V> {
    fn from(packed: Packed<V>) -> Self {
        let Packed { value, due, generation, seq, node, more, counter, span } = packed;
        let (life, token, tags) = match more.as_deref() {
            Some(More { life, token, tags }) => (*life, *token, tags.clone()),
            None => {
                let span = if span == ENDLESS { u64::MAX } else { u64::from(span) * MS };
                (plain(due, span), Token { node, counter: u64::from(counter) }, Tags::NONE)
            }
        };
        Self { value, life, generation, seq, token, tags }
    }
}

/// A life that simply ends when it is due.
fn plain(due: Tick, span: u64) -> Life {
    Life { due, expires: due, ends: due, retry: Tick(0), failures: 0, span }
}

impl<V> Packed<V> {
    /// The value of what was found, if that may answer: [`LocalBackend::answer`](super::LocalBackend::answer).
    /// What was found is looked at where it is, and only the value moves.
    #[inline(always)]
    pub fn answer(found: Option<Self>, sight: &Sight<'_>) -> Option<Option<Arc<V>>> {
        if !found.as_ref().is_some_and(|packed| packed.is_admitted(sight)) {
            return None;
        }
        found.map(|packed| packed.value)
    }

    #[inline(always)]
    fn is_admitted(&self, sight: &Sight<'_>) -> bool {
        sight.now < self.due
            && self.generation == sight.generation
            && self.seq >= sight.need
            && self.more.as_deref().is_none_or(|more| !more.is_void(self.seq, sight))
    }
}

impl More {
    #[inline(never)]
    fn is_void(&self, seq: u64, sight: &Sight<'_>) -> bool {
        sight.tags.voids(&self.tags, seq)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Packs and unpacks an entry, and tells whether it was kept in one piece.
    fn in_one_piece(life: Life, counter: u64, tags: Tags) -> bool {
        let token = Token { node: NodeId(1), counter };
        let entry = Entry { value: Some(Arc::new(3)), life, generation: 4, seq: 5, token, tags };
        let packed = Packed::from(entry.clone());
        let whole = packed.more.is_none();
        assert_eq!(format!("{:?}", Entry::from(packed)), format!("{entry:?}"));
        whole
    }

    #[test]
    fn nothing_is_lost_and_the_common_entry_is_in_one_piece() {
        let life = plain(Tick(7), 60_000 * MS);
        assert!(in_one_piece(life, 2, Tags::NONE));
        assert!(in_one_piece(plain(Tick::MAX, u64::MAX), 2, Tags::NONE));
        assert!(!in_one_piece(life, 2, Tags::new(["a"]).unwrap()));
        assert!(!in_one_piece(life, 1 << 32, Tags::NONE));
        for life in [
            Life { expires: Tick(8), ends: Tick(8), ..life },
            Life { ends: Tick(9), ..life },
            Life { retry: Tick(1), ..life },
            Life { failures: 1, ..life },
            Life { span: u64::from(u32::MAX) * MS, ..life },
            Life { span: u64::MAX - 1, ..life },
        ] {
            assert!(!in_one_piece(life, 2, Tags::NONE), "{life:?}");
        }
        assert_eq!((size_of::<Packed<u8>>(), size_of::<Entry<u8>>()), (56, 104));
    }
}
