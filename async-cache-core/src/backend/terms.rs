//! An entry as an engine keeps it, in little memory.

use std::num::NonZeroU32;
use std::sync::Arc;

use crate::backend::life::{Expiry, Tick};
use crate::backend::local::{Entry, HitCheck};
use crate::format::tags::Tags;
use crate::format::token::{NodeId, Token};

/// All of an [`Entry`] but its value, in 40 bytes instead of 96. Parts that most entries lack are allocated
/// separately.
///
/// The order of the fields matters: those that a hit reads come last, next to the key and the value.
#[doc(hidden)]
#[derive(Debug, Clone)]
#[repr(C)]
pub struct PackedEntry {
    seq: u64,
    rest: Rest,
    /// When the entry is [due](Expiry::due) if it has no tags, otherwise zero. So one comparison checks both.
    plainly_due: Tick,
    generation: u64,
}

#[derive(Debug, Clone)]
enum Rest {
    /// The token, and the span in milliseconds plus one. A frame has the span in milliseconds, too.
    /// [`ENDLESS`] stands for a life without end.
    Plain {
        node: NodeId,
        counter: u32,
        span: NonZeroU32,
    },
    More(Arc<More>),
}

/// The parts of an entry with tags, a cap in L1, a time as a fallback, a refresh before its expiry or a
/// failed refresh, or with a number that is too large for [`Rest::Plain`].
#[derive(Debug)]
struct More {
    life: Expiry,
    token: Token,
    tags: Tags,
}

const ENDLESS: NonZeroU32 = NonZeroU32::MAX;
const MS: u64 = 1_000_000;

impl PackedEntry {
    /// Takes an entry apart.
    #[must_use]
    pub fn of<V>(entry: Entry<V>) -> (Self, Option<Arc<V>>) {
        let Entry { value, life, generation, seq, token, tags } = entry;
        let simple = tags.is_empty() && life == plain(life.due(), life.span);
        let plainly_due = if tags.is_empty() { life.due() } else { Tick(0) };
        let rest = match (u32::try_from(token.counter), packed(life.span)) {
            (Ok(counter), Some(span)) if simple => Rest::Plain { node: token.node, counter, span },
            _ => Rest::More(Arc::new(More { life, token, tags })),
        };
        (Self { plainly_due, generation, seq, rest }, value)
    }

    /// Puts an entry together again.
    #[must_use]
    pub fn with<V>(&self, value: Option<Arc<V>>) -> Entry<V> {
        let Self { plainly_due, generation, seq, ref rest } = *self;
        let (life, token, tags) = match rest {
            Rest::More(more) => (more.life, more.token, more.tags.clone()),
            Rest::Plain { node, counter, span } => {
                let token = Token { node: *node, counter: u64::from(*counter) };
                (plain(plainly_due, unpacked(*span)), token, Tags::NONE)
            }
        };
        Entry { value, life, generation, seq, token, tags }
    }

    /// Whether the entry may answer, and has no tags to be looked up.
    #[inline(always)]
    #[must_use]
    pub fn answers_plainly(&self, sight: &HitCheck<'_>) -> bool {
        sight.now() < self.plainly_due && self.generation == sight.generation()
    }

    /// Whether the entry may answer.
    #[must_use]
    pub fn answers(&self, sight: &HitCheck<'_>) -> bool {
        match &self.rest {
            Rest::Plain { .. } => self.answers_plainly(sight),
            Rest::More(more) => {
                sight.now() < more.life.due()
                    && self.generation == sight.generation()
                    && !sight.concerns(&more.tags, self.seq)
            }
        }
    }
}

/// The span in the form of [`Rest::Plain`], if it fits.
fn packed(span: u64) -> Option<NonZeroU32> {
    if span == u64::MAX {
        return Some(ENDLESS);
    }
    let ms = u32::try_from(span / MS).ok()?;
    ms.checked_add(1).and_then(NonZeroU32::new).filter(|kept| *kept != ENDLESS)
}

fn unpacked(span: NonZeroU32) -> u64 {
    if span == ENDLESS { u64::MAX } else { u64::from(span.get() - 1) * MS }
}

/// The life of an entry that ends when it is due.
fn plain(due: Tick, span: u64) -> Expiry {
    Expiry {
        ask: Tick::MAX,
        ripens: due,
        expires: due,
        ends: due,
        retry: Tick(0),
        failures: 0,
        by_change: false,
        span,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes an entry apart and puts it together again. Returns whether it was a [`Rest::Plain`].
    fn in_one_piece(life: Expiry, counter: u64, tags: Tags) -> bool {
        let token = Token { node: NodeId(1), counter };
        let entry = Entry { value: Some(Arc::new(3)), life, generation: 4, seq: 5, token, tags };
        let (terms, value) = PackedEntry::of(entry.clone());
        let whole = matches!(terms.rest, Rest::Plain { .. });
        assert_eq!(format!("{:?}", terms.with(value)), format!("{entry:?}"));
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
            Expiry { ask: Tick(6), ..life },
            Expiry { expires: Tick(8), ends: Tick(8), ..life },
            Expiry { ends: Tick(9), ..life },
            Expiry { retry: Tick(1), ..life },
            Expiry { failures: 1, ..life },
            Expiry { by_change: true, ..life },
            Expiry { span: u64::from(u32::MAX) * MS, ..life },
            Expiry { span: u64::MAX - 1, ..life },
        ] {
            assert!(!in_one_piece(life, 2, Tags::NONE), "{life:?}");
        }
        assert_eq!((size_of::<PackedEntry>(), size_of::<Entry<u8>>()), (40, 112));
    }
}
