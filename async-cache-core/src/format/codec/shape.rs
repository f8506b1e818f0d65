//! The definition of a value type, found without a value: its names, in their order.
//!
//! Formats without field names store one field after the other. Suppose two `String` fields of a struct change
//! places. Then the new program reads the values of the old one without an error, but with wrong fields. So
//! stored values are marked with a digest of the definition. To find it, `V`'s own `Deserialize` runs on a
//! deserializer without data. The deserializer notes each question and answers it with a sample value.

mod probe;

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use serde::de::DeserializeOwned;
use serde::de::value::Error;
use xxhash_rust::xxh3::Xxh3;

use crate::format::codec::shape::probe::Probe;

/// The maximum number of runs of `V`'s `Deserialize`, and of questions in all runs. There is one run for each
/// variant of an enum.
const MAX_RUNS: usize = 256;
const MAX_QUESTIONS: usize = 20_000;
/// The maximum nesting.
const MAX_NESTING: usize = 64;

/// The part of the definition of `V` on which a codec depends: see [`Codec::shape`](super::Codec::shape).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// The digest of the definition. Stored values of another definition are not read.
    pub(crate) digest: Option<u64>,
    pub(crate) check: Check,
    /// Whether a value that was read back must give the same bytes when it is written again.
    pub(crate) compared: bool,
}

/// How often a written value is read back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Check {
    /// The first values of a cache, and a few of the others.
    Some,
    /// Every value: the definition has parts that the format may not be able to read.
    Each,
}

impl Shape {
    /// The format stores where each field is, or nothing is known about it.
    pub const UNKNOWN: Self = Self { digest: None, check: Check::Some, compared: false };

    /// The shape for formats without field names. It contains the names of the fields and variants of `V` and
    /// of all its parts, in their order, as far as `V`'s `Deserialize` tells them.
    #[must_use]
    pub fn of<V: DeserializeOwned>() -> Self {
        let survey = Survey::of::<V>();
        let check = if survey.doubtful || survey.open { Check::Each } else { Check::Some };
        Self { digest: Some(survey.log.digest()), check, compared: false }
    }

    /// The shape for formats with field names. It notes whether `V` or a part of it asks the format for the
    /// next type, as serde's `untagged` does. In that case every written value is read back, because the result
    /// depends on the value.
    #[must_use]
    pub fn named<V: DeserializeOwned>() -> Self {
        let check = if Survey::of::<V>().asks { Check::Each } else { Check::Some };
        Self { check, ..Self::UNKNOWN }
    }

    /// Returns this shape with a comparison of bytes.
    pub(crate) fn compared(self) -> Self {
        Self { compared: true, ..self }
    }
}

/// The findings of all runs.
#[derive(Default)]
struct Survey {
    log: Xxh3,
    questions: usize,
    /// The structs and enums that are being read, outermost first.
    nesting: Vec<&'static str>,
    /// The enums, by name and variants.
    enums: HashMap<(&'static str, &'static [&'static str]), Variants>,
    /// Whether variants are left for another run.
    open: bool,
    /// Whether a part cannot be read, or asks what the format cannot answer.
    doubtful: bool,
    /// Whether a part asks the format for the next type.
    asks: bool,
    first: bool,
}

#[derive(Clone, Copy, Default)]
struct Variants {
    next: u32,
    /// A variant that can be read to its end, so that the reading of a recursive type ends.
    finite: u32,
}

impl Survey {
    fn of<V: DeserializeOwned>() -> Self {
        let mut survey = Survey::default();
        for _ in 0..MAX_RUNS {
            survey.open = false;
            survey.nesting.clear();
            survey.first = true;
            let probe = Probe { survey: &mut survey, shallow: false };
            let run = catch_unwind(AssertUnwindSafe(|| V::deserialize(probe).is_ok()));
            survey.doubtful |= run.is_err() || run.is_ok_and(|read| !read);
            if !survey.open || survey.questions > MAX_QUESTIONS {
                break;
            }
        }
        survey
    }

    fn note(&mut self, question: &str, names: &[&str]) -> Result<(), Error> {
        self.questions += 1;
        for part in [question].iter().chain(names) {
            self.log.update(part.as_bytes());
            self.log.update(&[0]);
        }
        self.log.update(&[1]);
        if self.questions > MAX_QUESTIONS || self.nesting.len() > MAX_NESTING {
            self.doubtful = true;
            return Err(serde::de::Error::custom("enough was asked"));
        }
        Ok(())
    }

    /// Notes the name of a container. The outermost name is left out, because that type may be renamed.
    fn note_container(&mut self, question: &str, name: &'static str, names: &[&str]) -> Result<(), Error> {
        let name = if std::mem::take(&mut self.first) { "" } else { name };
        self.note(question, &[name])?;
        self.note("of", names)
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    /// Defines a type in its own module, so that its names can equal those of another type.
    macro_rules! defined {
        ($name:ident, $item:item) => {
            #[allow(dead_code, reason = "only read")]
            mod $name {
                use serde::Deserialize;
                #[derive(Deserialize)]
                $item
            }
        };
    }

    defined!(
        a,
        pub(crate) struct User {
            id: u64,
            name: String,
            mail: String,
        }
    );
    defined!(
        same,
        pub(crate) struct Account {
            id: u64,
            name: String,
            mail: String,
        }
    );
    defined!(
        moved,
        pub(crate) struct User {
            id: u64,
            mail: String,
            name: String,
        }
    );
    defined!(
        typed,
        pub(crate) struct User {
            id: u64,
            name: String,
            mail: Option<String>,
        }
    );
    defined!(
        longer,
        pub(crate) struct User {
            id: u64,
            name: String,
            mail: String,
            age: u8,
        }
    );
    defined!(
        first,
        pub(crate) enum Event {
            Made { at: u64 },
            Paid(u32, u64),
            Gone,
        }
    );
    defined!(
        second,
        pub(crate) enum Event {
            Made { at: u64 },
            Paid(u64, u32),
            Gone,
        }
    );
    defined!(
        tree,
        pub(crate) enum Tree {
            Node(Box<Tree>, Box<Tree>),
            Leaf(u64),
        }
    );
    defined!(
        list,
        pub(crate) struct List {
            next: Option<Box<List>>,
            all: Vec<List>,
            value: u8,
        }
    );
    #[derive(Deserialize)]
    #[allow(dead_code, reason = "only read")]
    #[serde(untagged)]
    enum Either {
        Number(u64),
        Text(String),
    }

    fn digest<V: DeserializeOwned>() -> Option<u64> {
        Shape::of::<V>().digest
    }

    #[test]
    fn a_definition_is_told_from_any_other() {
        assert_eq!(digest::<a::User>(), digest::<a::User>());
        assert_eq!(digest::<a::User>(), digest::<same::Account>(), "the outermost may be renamed");
        let others = [
            digest::<moved::User>(),
            digest::<typed::User>(),
            digest::<longer::User>(),
            digest::<Option<a::User>>(),
            digest::<(u64, String, String)>(),
            digest::<first::Event>(),
            digest::<second::Event>(),
            digest::<tree::Tree>(),
            digest::<list::List>(),
        ];
        for (at, other) in others.iter().enumerate() {
            assert_ne!(*other, digest::<a::User>(), "{at}");
            assert!(!others[..at].contains(other), "{at}");
        }
        assert_ne!(digest::<Vec<a::User>>(), digest::<Vec<same::Account>>(), "a name inside counts");
    }

    #[test]
    fn what_cannot_be_looked_into_is_checked_each_time() {
        let check = |shape: Shape| shape.check;
        assert_eq!(check(Shape::of::<a::User>()), Check::Some);
        assert_eq!(check(Shape::of::<first::Event>()), Check::Some);
        assert_eq!(check(Shape::of::<list::List>()), Check::Some);
        assert_eq!(check(Shape::of::<HashMap<String, Vec<Option<(u8, f32)>>>>()), Check::Some);
        assert_eq!(check(Shape::of::<Either>()), Check::Each);
        assert_eq!(check(Shape::of::<Option<Vec<Either>>>()), Check::Each);
    }
}
