//! The layer and its options.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_cache_core::{Error, ErrorKind, Result, Stamp, TieredCache};
use http::HeaderValue;
use http::request::Parts;
use tower::Layer;

use crate::key::{MAX_KEY_BYTES, all_slots, host_and_path, possible_keys};
use crate::response::CachedResponse;
use crate::rules::Rules;
use crate::service::CacheService;

/// Whether a request's own `Cache-Control` counts (`no-cache`, `max-age`, `min-fresh`, `max-stale`, `no-store`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum RequestDirectives {
    /// They are ignored, as RFC 9111 permits. So no stranger can make the handler run for each request, and a browser's
    /// reload is answered from the cache. Changes need invalidations.
    #[default]
    Ignore,
    /// They are respected.
    Honour,
}

type OwnKey = Arc<dyn Fn(&Parts) -> Option<String> + Send + Sync>;

/// The keys of requests.
#[derive(Clone)]
pub(crate) enum KeyOf {
    /// The host, the path and the query.
    Url,
    /// The result of the service's own function.
    Own(OwnKey),
}

impl KeyOf {
    /// The key under which the response to a GET may be stored.
    pub(crate) fn of(&self, request: &Parts) -> Option<String> {
        let key = match self {
            Self::Url => host_and_path(request),
            Self::Own(key) => key(request),
        };
        key.filter(|key| key.len() <= MAX_KEY_BYTES)
    }

    /// The keys that an unsafe request makes void. If its host is in doubt, they are the keys of all hosts that it may
    /// mean, so that no stale page remains.
    pub(crate) fn all_of(&self, request: &Parts) -> Vec<String> {
        match self {
            Self::Url => {
                possible_keys(request).into_iter().filter(|key| key.len() <= MAX_KEY_BYTES).collect()
            }
            Self::Own(_) => self.of(request).into_iter().collect(),
        }
    }
}

/// A tower layer that answers from a [`TieredCache`], and stores what the service behind it answers.
///
/// The [crate's documentation](crate) has an example, and says what is stored. A clone shares the cache.
#[derive(Clone)]
#[must_use = "a layer does nothing until a service is wrapped in it"]
pub struct CacheLayer {
    pub(crate) config: Arc<Config>,
}

#[derive(Clone)]
pub(crate) struct Config {
    pub(crate) cache: TieredCache<String, CachedResponse>,
    pub(crate) rules: Rules,
    pub(crate) key: KeyOf,
    pub(crate) max_body: usize,
    pub(crate) body_timeout: Duration,
    pub(crate) max_variants: usize,
    pub(crate) status_name: Option<Arc<str>>,
}

impl CacheLayer {
    /// Makes a layer over this cache. All instances of a service use one namespace. Services that answer differently for
    /// the same host and path need different ones.
    ///
    /// Of the cache's options, `ttl`, `stale_for` and the stale policies have no effect: the response decides. The
    /// other options have their effect, such as `load_timeout`, `ttl_jitter`, `refresh_ahead` and the outage policy.
    pub fn new(cache: TieredCache<String, CachedResponse>) -> Self {
        let rules = Rules { default_ttl: None, directives: RequestDirectives::Ignore };
        Self {
            config: Arc::new(Config {
                cache,
                rules,
                key: KeyOf::Url,
                max_body: 1 << 20,
                body_timeout: Duration::from_secs(5),
                max_variants: 16,
                status_name: None,
            }),
        }
    }

    fn config(&mut self) -> &mut Config {
        Arc::make_mut(&mut self.config)
    }

    /// Sets the key of a request. `None` means that the request is not cached. The default is the host in lower case, a
    /// space, the path and the query.
    ///
    /// The function also runs for unsafe methods: their success makes the key void. Everything that a response depends on
    /// is in the key or in `Vary`. A request with credentials never shares a key with one without, whatever the function
    /// returns. A key has at most 1,000 bytes; a request with a longer one is not cached.
    ///
    /// ```
    /// # fn layer(cache: async_cache::TieredCache<String, async_cache_tower::CachedResponse>) {
    /// use async_cache_tower::CacheLayer;
    ///
    /// // One site on many hosts, and a tracking parameter that no page depends on.
    /// let layer = CacheLayer::new(cache).key(|request| {
    ///     let query = request.uri.query().unwrap_or_default();
    ///     let query: Vec<_> = query.split('&').filter(|pair| !pair.starts_with("utm_")).collect();
    ///     Some(format!("{}?{}", request.uri.path(), query.join("&")))
    /// });
    /// # }
    /// ```
    pub fn key(mut self, key: impl Fn(&Parts) -> Option<String> + Send + Sync + 'static) -> Self {
        self.config().key = KeyOf::Own(Arc::new(key));
        self
    }

    /// Sets the lifetime of responses with status 200 that do not say how long they are fresh. By default they are not
    /// stored. No header tells clients of this lifetime.
    pub fn default_ttl(mut self, ttl: Duration) -> Self {
        self.config().rules.default_ttl = Some(ttl);
        self
    }

    /// The largest body that is stored, in bytes. A larger one is streamed through. The default is 1 MiB.
    ///
    /// While a response is loaded, each request buffers up to this many bytes.
    pub fn max_body(mut self, bytes: usize) -> Self {
        self.config().max_body = bytes;
        self
    }

    /// How long a storable body may take to arrive, from its headers on. A slower one is streamed through. The default is
    /// 5 s.
    pub fn body_timeout(mut self, limit: Duration) -> Self {
        self.config().body_timeout = limit;
        self
    }

    /// How many variants of one URL are stored, if its responses have `Vary`: at least 1. The default is 16. Further
    /// variants are not cached.
    pub fn max_variants(mut self, variants: usize) -> Self {
        self.config().max_variants = variants.max(1);
        self
    }

    /// Whether a request's own `Cache-Control` counts. By default it does not.
    pub fn request_directives(mut self, directives: RequestDirectives) -> Self {
        self.config().rules.directives = directives;
        self
    }

    /// Adds `Cache-Status` (RFC 9211) to each response, with this name of the cache: `my-service; hit`. By default no
    /// header says whether the cache answered, because strangers can read it, too. A name with other bytes than
    /// letters, digits, `-`, `_` and `.` is ignored.
    pub fn cache_status(mut self, name: impl AsRef<str>) -> Self {
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        let name = name.as_ref();
        let is_valid = !name.is_empty() && name.bytes().all(is_token) && HeaderValue::try_from(name).is_ok();
        self.config().status_name = is_valid.then(|| name.into());
        self
    }

    /// The cache of this layer: for `invalidate_tag`, `invalidate_all`, `stats` and `shutdown`.
    #[must_use]
    pub fn cache(&self) -> &TieredCache<String, CachedResponse> {
        &self.config.cache
    }

    /// Every node drops the responses for this URL, in all variants. With a [`key`](Self::key) of your own use
    /// [`invalidate_key`](Self::invalidate_key).
    ///
    /// `host` is as in `Host`, with the port if it has one: `example.org:8080`. `path_and_query` is exactly as in the
    /// request: `/products?page=2`.
    ///
    /// # Errors
    ///
    /// An error of kind [`Key`](ErrorKind::Key) if they have another form: no request has such a URL. Also the errors of
    /// [`TieredCache::invalidate_many`].
    pub async fn invalidate_url(&self, host: &str, path_and_query: &str) -> Result<Stamp> {
        if !path_and_query.starts_with('/') || host.is_empty() || host.contains(['/', ' ']) {
            let message = "cannot invalidate a URL: give the host as in `Host`, without a scheme (`example.org`), and \
                           the path with its leading slash (`/products?page=2`)";
            return Err(Error::new(ErrorKind::Key, message).in_namespace(self.config.cache.namespace()));
        }
        self.invalidate_key(&format!("{} {path_and_query}", host.to_ascii_lowercase())).await
    }

    /// Every node drops the responses under this key, as the function of [`key`](Self::key) returns it, in all variants.
    ///
    /// # Errors
    ///
    /// The errors of [`TieredCache::invalidate_many`].
    pub async fn invalidate_key(&self, key: &str) -> Result<Stamp> {
        self.config.invalidate(&[key.to_owned()]).await
    }
}

impl Config {
    /// How many responses this node's cache has not stored, for `Cache-Status`. If it has not grown during a load, the
    /// response of that load is stored.
    pub(crate) fn refusals(&self) -> u64 {
        if self.status_name.is_none() {
            return 0;
        }
        let stats = self.cache.stats();
        stats.fills_rejected + stats.l1_refused + stats.codec_failures
    }

    pub(crate) async fn invalidate(&self, keys: &[String]) -> Result<Stamp> {
        let slots: Vec<_> = keys.iter().flat_map(|key| all_slots(key, self.max_variants)).collect();
        self.cache.invalidate_many(&slots).await
    }
}

impl<S> Layer<S> for CacheLayer {
    type Service = CacheService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        CacheService { config: Arc::clone(&self.config), inner }
    }
}

impl fmt::Debug for CacheLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheLayer")
            .field("namespace", &self.config.cache.namespace())
            .field("rules", &self.config.rules)
            .field("max_body", &self.config.max_body)
            .field("body_timeout", &self.config.body_timeout)
            .field("max_variants", &self.config.max_variants)
            .finish_non_exhaustive()
    }
}
