//! What a row says: one key, one tag, or all entries of a namespace.

use async_cache_core::key::{CacheKey, Key, MAX_KEY_BYTES};
use async_cache_core::{MAX_NAMESPACE_BYTES, Tags, TieredCache};

use crate::error::Error;

/// An invalidation to be written to the outbox.
///
/// The methods of [`Outbox`](crate::Outbox) that take a cache make these. Make them yourself to write the changes of several
/// caches with one [`Outbox::write`](crate::Outbox::write), or where no cache is open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub(crate) namespace: String,
    pub(crate) kind: Kind,
    pub(crate) data: Vec<u8>,
}

/// What is invalidated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Key,
    Tag,
    All,
}

impl Kind {
    /// The text in the column `kind`.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Tag => "tag",
            Self::All => "all",
        }
    }
}

impl Change {
    /// Invalidates one key. The type of the key must be that of the cache.
    ///
    /// # Errors
    ///
    /// If the key is too long, or the namespace is empty or too long. [`Error::Config`] for a cache without an L2.
    pub fn key<Q: CacheKey + ?Sized>(namespace: impl InNamespace, key: &Q) -> Result<Self, Error> {
        Self::new(&namespace, Kind::Key, Key::encode(key)?.as_bytes())
    }

    /// Invalidates all entries with a tag.
    ///
    /// # Errors
    ///
    /// If the tag or the namespace is empty or too long. [`Error::Config`] for a cache without an L2.
    pub fn tag(namespace: impl InNamespace, tag: impl AsRef<str>) -> Result<Self, Error> {
        Tags::new([tag.as_ref()])?;
        Self::new(&namespace, Kind::Tag, tag.as_ref().as_bytes())
    }

    /// Invalidates all entries of a namespace.
    ///
    /// # Errors
    ///
    /// If the namespace is empty or too long. [`Error::Config`] for a cache without an L2.
    pub fn all(namespace: impl InNamespace) -> Result<Self, Error> {
        Self::new(&namespace, Kind::All, &[])
    }

    fn new(cache: &impl InNamespace, kind: Kind, data: &[u8]) -> Result<Self, Error> {
        let namespace = cache.namespace();
        if cache.is_alone() {
            return Err(alone(namespace));
        }
        if !(1..=MAX_NAMESPACE_BYTES).contains(&namespace.len()) {
            let bytes = namespace.len();
            let what = format!("a namespace has 1 to {MAX_NAMESPACE_BYTES} bytes, this one has {bytes}");
            return Err(Error::Config(what));
        }
        Ok(Self { namespace: namespace.to_owned(), kind, data: data.to_vec() })
    }
}

/// The error for a cache without an L2.
pub(crate) fn alone(namespace: &str) -> Error {
    Error::Config(format!(
        "the cache `{namespace}` has no L2, so a relay could reach only the instance at work: call `invalidate` instead. A \
         crash empties such a cache, so there is nothing to lose"
    ))
}

/// What has a namespace: a cache, or its name.
pub trait InNamespace {
    /// The namespace.
    fn namespace(&self) -> &str;

    /// Whether this is a cache without an L2. A relay could reach only the cache of its own process.
    fn is_alone(&self) -> bool {
        false
    }
}

impl<K: CacheKey, V: Send + Sync + 'static> InNamespace for TieredCache<K, V> {
    fn namespace(&self) -> &str {
        self.namespace()
    }

    fn is_alone(&self) -> bool {
        !self.invalidator().has_l2()
    }
}

impl InNamespace for str {
    fn namespace(&self) -> &str {
        self
    }
}

impl InNamespace for String {
    fn namespace(&self) -> &str {
        self
    }
}

impl<T: InNamespace + ?Sized> InNamespace for &T {
    fn namespace(&self) -> &str {
        (**self).namespace()
    }

    fn is_alone(&self) -> bool {
        (**self).is_alone()
    }
}

/// What a row asks for, as the relay understands it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Key(Key),
    Tag(String),
    All,
}

/// Reads the columns `kind` and `data`.
pub(crate) fn read(kind: &str, data: &[u8]) -> Result<Asked, Unreadable> {
    match kind {
        "key" if data.len() > MAX_KEY_BYTES => Err(Unreadable::LongKey),
        "key" => Ok(Asked::Key(Key::from_encoded(data))),
        "tag" => match std::str::from_utf8(data) {
            Ok(tag) if Tags::new([tag]).is_ok() => Ok(Asked::Tag(tag.to_owned())),
            _ => Err(Unreadable::Tag),
        },
        "all" => Ok(Asked::All),
        _ => Err(Unreadable::Kind),
    }
}

/// Why a row cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Unreadable {
    Kind,
    LongKey,
    Tag,
}

impl Unreadable {
    /// The text in the column `error`.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Kind => "unknown kind: this version knows `key`, `tag` and `all`",
            Self::LongKey => "the key has more than 1024 bytes: no cache can hold it",
            Self::Tag => "the tag is empty, longer than 128 bytes, or not UTF-8: no entry can have it",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let key = Change::key("users", &("a:b", 9_u64)).unwrap();
        assert_eq!((key.namespace.as_str(), key.data.as_slice()), ("users", b"a\\:b:9".as_slice()));
        let read_back = read(key.kind.text(), &key.data).unwrap();
        assert_eq!(read_back, Asked::Key(Key::encode(&("a:b", 9_u64)).unwrap()));
        let tag = Change::tag(String::from("users"), "team:9").unwrap();
        assert_eq!(read(tag.kind.text(), &tag.data), Ok(Asked::Tag("team:9".to_owned())));
        assert_eq!(read(Change::all("users").unwrap().kind.text(), b""), Ok(Asked::All));
    }

    #[test]
    fn what_no_cache_can_hold_is_refused() {
        assert!(Change::key("users", "x".repeat(MAX_KEY_BYTES + 1).as_str()).is_err());
        assert!(Change::tag("users", "").is_err());
        assert!(Change::tag("users", "t".repeat(129)).is_err());
        assert!(Change::all("").unwrap_err().to_string().contains("1 to 128 bytes"));
        assert!(Change::all("n".repeat(129)).is_err());
        assert_eq!(read("key", &[b'x'; MAX_KEY_BYTES + 1]), Err(Unreadable::LongKey));
        assert_eq!(read("tag", b"\xff"), Err(Unreadable::Tag));
        assert_eq!(read("prefix", b"x"), Err(Unreadable::Kind));
    }
}
