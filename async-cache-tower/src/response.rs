//! A stored response.

use std::fmt;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_bytes::ByteBuf;
use sha2::{Digest, Sha256};

/// A response in the cache: the value type of the cache that a [`CacheLayer`](crate::CacheLayer) uses.
///
/// A clone copies the headers, and shares the body.
#[derive(Clone)]
pub struct CachedResponse(pub(crate) Kind);

#[derive(Debug, Clone)]
pub(crate) enum Kind {
    Stored(Box<Stored>),
    /// The last response was not storable. So requests need not wait for each other.
    NotStorable,
}

#[derive(Debug, Clone)]
pub(crate) struct Stored {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// The headers that `Vary` names: what the request had.
    pub(crate) selecting: Vec<Selecting>,
    /// What the handler put into the response's extensions: a later 304 keeps it.
    pub(crate) tags: Vec<String>,
    pub(crate) own_ttl: Option<Duration>,
    pub(crate) life: Life,
}

#[derive(Debug, Clone)]
pub(crate) struct Selecting {
    pub(crate) name: HeaderName,
    /// A digest of all lines of the header. The lines themselves may be secret: `Vary: Cookie`.
    digest: [u8; 32],
}

impl Selecting {
    /// What the request has under this name.
    pub(crate) fn of(name: HeaderName, headers: &HeaderMap) -> Self {
        Self { digest: digest(&name, headers), name }
    }

    fn is_of(&self, headers: &HeaderMap) -> bool {
        self.digest == digest(&self.name, headers)
    }
}

/// SHA-256 of the lines, each after its length, so that no two lists of lines have the same input.
fn digest(name: &HeaderName, headers: &HeaderMap) -> [u8; 32] {
    let mut hasher = Sha256::new();
    hasher.update(name.as_str());
    for line in headers.get_all(name) {
        hasher.update((line.len() as u64).to_le_bytes());
        hasher.update(line.as_bytes());
    }
    hasher.finalize().into()
}

/// How old a response is, and how long it may answer. Times of the clock are this machine's, so two nodes whose clocks
/// differ report different ages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Life {
    pub(crate) stored_at: SystemTime,
    /// The age that the response had when it was stored.
    pub(crate) initial_age: Duration,
    /// How long it is fresh after it was stored.
    pub(crate) fresh_for: Duration,
    /// How long after that it may answer while it is loaded again.
    pub(crate) while_revalidate: Duration,
    /// How long after `fresh_for` it may answer if the handler fails.
    pub(crate) if_error: Duration,
}

impl Life {
    /// The time in the cache.
    pub(crate) fn resident(&self, now: SystemTime) -> Duration {
        let resident = now.duration_since(self.stored_at).unwrap_or_default();
        match self.stale_for().is_zero() {
            // The cache itself ends it in time, by one clock for all nodes. This machine's clock may be ahead.
            true => resident.min(self.fresh_for.saturating_sub(Duration::from_millis(1))),
            false => resident,
        }
    }

    /// How long the response has been stale. Zero if it is fresh.
    pub(crate) fn stale_since(&self, now: SystemTime) -> Option<Duration> {
        self.resident(now).checked_sub(self.fresh_for)
    }

    /// The value of `Age`.
    pub(crate) fn age(&self, now: SystemTime) -> Duration {
        self.initial_age + self.resident(now)
    }

    /// The age from which it is stale.
    pub(crate) fn lifetime(&self) -> Duration {
        self.initial_age + self.fresh_for
    }

    /// How long the cache keeps it after it is no longer fresh.
    pub(crate) fn stale_for(&self) -> Duration {
        self.while_revalidate.max(self.if_error)
    }
}

impl Stored {
    /// Whether the request asks for this variant: `Vary`. All lines of a header count.
    pub(crate) fn is_selected_by(&self, headers: &HeaderMap) -> bool {
        self.selecting.iter().all(|selecting| selecting.is_of(headers))
    }

    /// The memory it takes, in bytes.
    fn size(&self) -> usize {
        let headers: usize =
            self.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 64).sum();
        let selecting = self.selecting.len() * size_of::<Selecting>();
        let tags: usize = self.tags.iter().map(|tag| tag.len() + size_of::<String>()).sum();
        size_of::<Self>() + headers + selecting + tags + self.body.len()
    }
}

impl CachedResponse {
    pub(crate) fn stored(stored: Stored) -> Self {
        Self(Kind::Stored(Box::new(stored)))
    }

    pub(crate) const NOT_STORABLE: Self = Self(Kind::NotStorable);

    /// The memory that the response takes, in bytes: for the weigher of an L1.
    ///
    /// ```
    /// use async_cache::MemoryBackend;
    /// use async_cache_tower::CachedResponse;
    ///
    /// let l1 = MemoryBackend::builder()
    ///     .max_capacity(64 << 20) // 64 MiB
    ///     .weigher(|_, response: &CachedResponse| response.size() as u32)
    ///     .build();
    /// ```
    #[must_use]
    pub fn size(&self) -> usize {
        match &self.0 {
            Kind::Stored(stored) => size_of::<Self>() + stored.size(),
            Kind::NotStorable => size_of::<Self>(),
        }
    }
}

/// Neither headers nor body: they may be secret.
impl fmt::Debug for CachedResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Stored(stored) => f
                .debug_struct("CachedResponse")
                .field("status", &stored.status)
                .field("body_bytes", &stored.body.len())
                .finish_non_exhaustive(),
            Kind::NotStorable => f.write_str("CachedResponse(not storable)"),
        }
    }
}

/// The form in L2.
#[derive(Serialize, Deserialize)]
struct Wire {
    status: u16,
    headers: Vec<WireHeader>,
    selecting: Vec<WireSelecting>,
    tags: Vec<String>,
    own_ttl: Option<Duration>,
    stored_at: Duration,
    initial_age: Duration,
    fresh_for: Duration,
    while_revalidate: Duration,
    if_error: Duration,
    body: ByteBuf,
}

#[derive(Serialize, Deserialize)]
struct WireHeader {
    name: String,
    value: ByteBuf,
}

#[derive(Serialize, Deserialize)]
struct WireSelecting {
    name: String,
    digest: [u8; 32],
}

impl Serialize for CachedResponse {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let wire = match &self.0 {
            Kind::Stored(stored) => Some(Wire::from(&**stored)),
            Kind::NotStorable => None,
        };
        wire.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for CachedResponse {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Option::<Wire>::deserialize(deserializer)? {
            Some(wire) => wire.open().map(Self::stored).map_err(de::Error::custom),
            None => Ok(Self::NOT_STORABLE),
        }
    }
}

impl From<&Stored> for Wire {
    fn from(stored: &Stored) -> Self {
        let header = |(name, value): (&HeaderName, &HeaderValue)| WireHeader {
            name: name.to_string(),
            value: ByteBuf::from(value.as_bytes()),
        };
        let selecting = |selecting: &Selecting| WireSelecting {
            name: selecting.name.to_string(),
            digest: selecting.digest,
        };
        let Life { stored_at, initial_age, fresh_for, while_revalidate, if_error } = stored.life;
        Self {
            status: stored.status.as_u16(),
            headers: stored.headers.iter().map(header).collect(),
            selecting: stored.selecting.iter().map(selecting).collect(),
            tags: stored.tags.clone(),
            own_ttl: stored.own_ttl,
            stored_at: stored_at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default(),
            initial_age,
            fresh_for,
            while_revalidate,
            if_error,
            body: ByteBuf::from(&*stored.body),
        }
    }
}

impl Wire {
    fn open(self) -> Result<Stored, http::Error> {
        let mut headers = HeaderMap::with_capacity(self.headers.len());
        for WireHeader { name, value } in self.headers {
            headers.try_append(HeaderName::try_from(name)?, HeaderValue::try_from(value.into_vec())?)?;
        }
        let mut selecting = Vec::with_capacity(self.selecting.len());
        for WireSelecting { name, digest } in self.selecting {
            selecting.push(Selecting { name: HeaderName::try_from(name)?, digest });
        }
        Ok(Stored {
            status: StatusCode::from_u16(self.status)?,
            headers,
            body: self.body.into_vec().into(),
            selecting,
            tags: self.tags,
            own_ttl: self.own_ttl,
            life: Life {
                stored_at: SystemTime::UNIX_EPOCH
                    .checked_add(self.stored_at)
                    .unwrap_or(SystemTime::UNIX_EPOCH),
                initial_age: self.initial_age,
                fresh_for: self.fresh_for,
                while_revalidate: self.while_revalidate,
                if_error: self.if_error,
            },
        })
    }
}
