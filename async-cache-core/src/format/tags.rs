//! Tags: names that entries share. One call invalidates all entries of a tag.

use std::fmt;
use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};

/// The maximum length of a tag, in bytes.
pub const MAX_TAG_BYTES: usize = 128;

/// The maximum number of tags of one entry, and of one change.
pub const MAX_TAGS: usize = 32;

/// A set of up to [`MAX_TAGS`] tags. It is immutable. A clone costs one reference count, or nothing if the set
/// is empty.
///
/// The set is kept in the *packed* form of frames and messages: for each tag its length in one byte, then its
/// bytes.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Tags(Option<Arc<[u8]>>);

impl Tags {
    /// The empty set.
    pub const NONE: Self = Self(None);

    /// Makes a set of these tags.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`] for an empty tag, a tag of more than [`MAX_TAG_BYTES`], or more than [`MAX_TAGS`]
    /// tags.
    pub fn new<T: AsRef<[u8]>>(tags: impl IntoIterator<Item = T>) -> Result<Self> {
        let mut packed = Vec::new();
        for tag in tags {
            push(&mut packed, tag.as_ref())?;
        }
        Ok(Self::of(packed))
    }

    /// Reads the packed form. Returns `None` if the bytes are not in that form.
    #[must_use]
    pub fn from_packed(packed: &[u8]) -> Option<Self> {
        let mut rest = packed;
        let mut count = 0;
        while let Some((length, behind)) = rest.split_first() {
            let length = usize::from(*length);
            rest = behind.get(length..)?;
            count += 1;
            if length == 0 || length > MAX_TAG_BYTES || count > MAX_TAGS {
                return None;
            }
        }
        Some(Self((!packed.is_empty()).then(|| packed.into())))
    }

    fn of(packed: Vec<u8>) -> Self {
        Self((!packed.is_empty()).then(|| packed.into()))
    }

    /// The packed form.
    #[must_use]
    pub fn packed(&self) -> &[u8] {
        self.0.as_deref().unwrap_or_default()
    }

    /// Returns whether the set is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Iterates over the tags. Each occurs once.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        unpack(self.packed())
    }

    /// This set and one more tag.
    pub(crate) fn with(&self, tag: &[u8]) -> Result<Self> {
        let mut packed = self.packed().to_vec();
        push(&mut packed, tag)?;
        Ok(Self::of(packed))
    }

    /// The union of two sets.
    pub(crate) fn union(&self, others: &Self) -> Result<Self> {
        if others.is_empty() || self == others {
            return Ok(self.clone());
        }
        if self.is_empty() {
            return Ok(others.clone());
        }
        Self::new(self.iter().chain(others.iter()))
    }
}

impl fmt::Debug for Tags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(|tag| tag.escape_ascii().to_string())).finish()
    }
}

/// Adds a tag to a packed set, unless the set has it.
fn push(packed: &mut Vec<u8>, tag: &[u8]) -> Result<()> {
    let refuse = |what: String| Err(Error::new(ErrorKind::Config, what));
    if tag.is_empty() {
        return refuse("a tag is empty: give it 1 to 128 bytes, or leave it out".to_owned());
    }
    if tag.len() > MAX_TAG_BYTES {
        let bytes = tag.len();
        return refuse(format!("a tag of {bytes} bytes is over the limit of {MAX_TAG_BYTES}: shorten it"));
    }
    if unpack(packed).any(|other| other == tag) {
        return Ok(());
    }
    if unpack(packed).count() == MAX_TAGS {
        return refuse(format!("an entry has more than {MAX_TAGS} tags: use fewer, broader ones"));
    }
    packed.push(tag.len() as u8);
    packed.extend_from_slice(tag);
    Ok(())
}

fn unpack(mut rest: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, behind) = rest.split_first()?;
        let (tag, behind) = behind.split_at_checked(usize::from(*length))?;
        rest = behind;
        Some(tag)
    })
}

/// The tags of a call, collected one by one, with the first error among them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Collected {
    pub(crate) tags: Tags,
    wrong: Option<Error>,
}

impl Collected {
    pub(crate) fn add(&mut self, tag: &str) {
        match self.tags.with(tag.as_bytes()) {
            Ok(tags) => self.tags = tags,
            Err(error) => {
                self.wrong.get_or_insert(error);
            }
        }
    }

    pub(crate) fn add_all(&mut self, others: &Self) {
        match self.tags.union(&others.tags) {
            Ok(tags) => self.tags = tags,
            Err(error) => {
                self.wrong.get_or_insert(error);
            }
        }
        if let (None, Some(error)) = (&self.wrong, &others.wrong) {
            self.wrong = Some(error.clone());
        }
    }

    /// Whether there is neither a tag nor an error.
    pub(crate) fn is_empty(&self) -> bool {
        self.wrong.is_none() && self.tags.is_empty()
    }

    /// Returns the tags, or the first error.
    pub(crate) fn get(&self) -> Result<&Tags> {
        self.wrong.clone().map_or(Ok(&self.tags), Err)
    }
}

impl From<Tags> for Collected {
    fn from(tags: Tags) -> Self {
        Self { tags, wrong: None }
    }
}

impl PartialEq for Collected {
    fn eq(&self, other: &Self) -> bool {
        self.tags == other.tags && self.wrong.is_some() == other.wrong.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused<T: AsRef<[u8]>>(tags: impl IntoIterator<Item = T>) -> String {
        Tags::new(tags).unwrap_err().to_string()
    }

    #[test]
    fn a_set_is_packed_and_read_back() {
        let tags = Tags::new(["team:9", "eu", "team:9"]).unwrap();
        assert_eq!(tags.packed(), b"\x06team:9\x02eu");
        assert_eq!(Tags::from_packed(tags.packed()), Some(tags.clone()));
        assert_eq!(tags.iter().collect::<Vec<_>>(), [b"team:9".as_slice(), b"eu"]);
        assert_eq!(tags.union(&Tags::new(["eu", "x"]).unwrap()).unwrap().iter().count(), 3);
        assert!(Tags::new::<&str>([]).unwrap().is_empty());
        assert_eq!(Tags::from_packed(b""), Some(Tags::NONE));
    }

    #[test]
    fn the_limits_are_named() {
        assert!(refused([""]).contains("empty"));
        assert!(refused(["t".repeat(129)]).contains("129 bytes is over the limit of 128"));
        assert!(Tags::new(["t".repeat(128)]).is_ok());
        assert!(refused((0..33).map(|n| n.to_string())).contains("more than 32"));
        let full = Tags::new((0..32).map(|n| n.to_string())).unwrap();
        assert!(full.union(&Tags::new(["x"]).unwrap()).is_err());
        assert!(full.union(&full.clone()).is_ok());
    }

    #[test]
    fn what_is_not_packed_is_refused() {
        for junk in [&b"\x00"[..], b"\x02a", b"\x01a\x05b", &[&[129][..], &[b'x'; 129]].concat()] {
            assert_eq!(Tags::from_packed(junk), None, "{}", junk.escape_ascii());
        }
        assert_eq!(Tags::from_packed(&b"\x01a".repeat(33)), None);
    }

    #[test]
    fn the_first_mistake_is_kept() {
        let mut collected = Collected::default();
        collected.add("a");
        collected.add("");
        collected.add(&"t".repeat(200));
        assert!(collected.get().unwrap_err().to_string().contains("empty"));
    }
}
