//! A point in a namespace's history. A later read can require it.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use smallvec::SmallVec;

use crate::error::{Error, ErrorKind};

/// The result of an invalidation or insert. It stands for all changes up to and including this one.
///
/// With [`at_least`](crate::api::request::Get::at_least) a read on any node never answers from before the
/// stamp, and it does not wait for anything. To carry a stamp to another node, send its text form (it is
/// [`Display`](fmt::Display), [`FromStr`] and serde): `users@0:1712`.
///
/// **Never take a stamp from a client unsigned.** If its number is higher than any number that Redis has
/// given, the cache takes that as proof that Redis has lost memory, and empties itself. If it is more than a
/// year ahead of the server's clock, in microseconds, the stamp is ignored. Sign a stamp that travels through
/// clients, and check the signature before you use it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Stamp {
    namespace: Arc<str>,
    /// Pairs of a partition and its sequence number, sorted by partition.
    seqs: SmallVec<[(u16, u64); 1]>,
}

impl Stamp {
    pub(crate) fn new(namespace: &Arc<str>, seqs: impl IntoIterator<Item = (u16, u64)>) -> Self {
        let mut stamp = Self { namespace: Arc::clone(namespace), seqs: SmallVec::new() };
        seqs.into_iter().for_each(|(partition, seq)| stamp.raise(partition, seq));
        stamp
    }

    /// The namespace of the stamp.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The later number of each partition. A read at least at the result is at least at both stamps.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`] if the stamps are of different namespaces.
    pub fn merge(mut self, other: &Self) -> Result<Self, Error> {
        if self.namespace != other.namespace {
            return Err(foreign(other.namespace(), self.namespace()));
        }
        other.seqs.iter().for_each(|&(partition, seq)| self.raise(partition, seq));
        Ok(self)
    }

    /// The number that a value of this partition must reflect. It is 0 if any value will do.
    pub(crate) fn seq(&self, partition: u16) -> u64 {
        self.seqs.iter().find(|(p, _)| *p == partition).map_or(0, |(_, seq)| *seq)
    }

    /// Each partition of the stamp, and its number.
    pub(crate) fn seqs(&self) -> impl Iterator<Item = (u16, u64)> {
        self.seqs.iter().copied()
    }

    fn raise(&mut self, partition: u16, seq: u64) {
        match self.seqs.binary_search_by_key(&partition, |(p, _)| *p) {
            Ok(at) => self.seqs[at].1 = self.seqs[at].1.max(seq),
            Err(at) => self.seqs.insert(at, (partition, seq)),
        }
    }
}

pub(crate) fn foreign(stamp: &str, cache: &str) -> Error {
    Error::new(
        ErrorKind::Config,
        format!(
            "a stamp of namespace `{stamp}` says nothing about `{cache}`: stamps order one namespace only"
        ),
    )
    .in_namespace(cache)
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@", self.namespace)?;
        for (at, (partition, seq)) in self.seqs.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            write!(f, "{comma}{partition}:{seq}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Stamp({self})")
    }
}

impl FromStr for Stamp {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let parse = || {
            let (namespace, seqs) = text.rsplit_once('@')?;
            let mut stamp = Self::new(&namespace.into(), []);
            for part in seqs.split(',').filter(|part| !part.is_empty()) {
                let (partition, seq) = part.split_once(':')?;
                stamp.raise(partition.parse().ok()?, seq.parse().ok()?);
            }
            Some(stamp)
        };
        parse().ok_or_else(|| {
            Error::new(ErrorKind::Config, "not a stamp: expected `namespace@partition:sequence`")
        })
    }
}

impl Serialize for Stamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Stamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back() {
        let stamp = Stamp::new(&"users@eu".into(), [(3, 9), (0, 1712), (3, 7)]);
        assert_eq!(stamp.to_string(), "users@eu@0:1712,3:9");
        assert_eq!(stamp.to_string().parse::<Stamp>().unwrap(), stamp);
        for junk in ["", "users", "users@x", "users@1", "users@1:x", "users@70000:1"] {
            assert!(junk.parse::<Stamp>().is_err(), "{junk:?}");
        }
    }

    #[test]
    fn merging_keeps_the_later_of_each() {
        let users: Arc<str> = "users".into();
        let merged = Stamp::new(&users, [(0, 5)]).merge(&Stamp::new(&users, [(0, 4), (1, 2)])).unwrap();
        assert_eq!((merged.seq(0), merged.seq(1), merged.seq(2)), (5, 2, 0));
        assert!(merged.merge(&Stamp::new(&"other".into(), [])).is_err());
    }
}
