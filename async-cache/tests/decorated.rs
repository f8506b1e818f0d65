//! `#[cached]`, in all the forms it is documented for.
#![cfg(all(feature = "macros", feature = "memory"))]

use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_cache::{CacheKey, MemoryBackend, TieredCache, cached};

#[derive(Debug, Clone, PartialEq)]
struct User {
    id: u64,
    name: String,
}

fn cache<V: Send + Sync + 'static>(namespace: &str) -> TieredCache<String, V> {
    TieredCache::builder().namespace(namespace).l1(MemoryBackend::new(1000)).build().expect("a valid cache")
}

#[derive(Debug, Clone, PartialEq)]
enum DbError {
    NotFound(u64),
    Cache(String),
}

impl std::fmt::Display for DbError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self:?}")
    }
}

impl std::error::Error for DbError {}

impl From<async_cache::Error> for DbError {
    fn from(error: async_cache::Error) -> Self {
        Self::Cache(error.to_string())
    }
}

static LOADS: AtomicUsize = AtomicUsize::new(0);

#[cached(cache = users(), ttl = "5m", skip(cache))]
async fn find_user(cache: &TieredCache<String, User>, team: u32, mut id: u64) -> Result<User, DbError> {
    let _ = cache;
    LOADS.fetch_add(1, Ordering::SeqCst);
    id += 0;
    if id == 404 { Err(DbError::NotFound(id)) } else { Ok(User { id, name: format!("{team}") }) }
}

fn users() -> TieredCache<String, User> {
    static USERS: LazyLock<TieredCache<String, User>> = LazyLock::new(|| cache("users"));
    USERS.clone()
}

#[tokio::test]
async fn a_free_function_and_its_siblings() {
    let ours = users();
    let loads = || LOADS.load(Ordering::SeqCst);
    assert_eq!(find_user(&ours, 9, 42).await.unwrap().id, 42);
    assert_eq!(find_user(&ours, 9, 42).await.unwrap().name, "9");
    assert_eq!(loads(), 1);
    find_user(&ours, 8, 42).await.unwrap();
    assert_eq!(loads(), 2, "every argument is part of the key");
    find_user_refresh(&ours, 9, 42).await.unwrap();
    assert_eq!(loads(), 3);
    find_user_invalidate(9, 42).await.unwrap();
    find_user(&ours, 9, 42).await.unwrap();
    assert_eq!(loads(), 4);
    assert_eq!(find_user(&ours, 9, 404).await, Err(DbError::NotFound(404)), "its own error, as it was");
    assert_eq!(find_user(&ours, 9, 404).await, Err(DbError::NotFound(404)));
    assert_eq!(loads(), 6, "an error is not cached");
}

#[derive(Clone)]
struct Service {
    names: TieredCache<String, String>,
    loads: std::sync::Arc<AtomicUsize>,
}

impl Service {
    fn new() -> Self {
        Self { names: cache("names"), loads: std::sync::Arc::default() }
    }

    /// By reference, with the key that the typed cache finds.
    #[cached(cache = self.names, key = "name:{id}", skip(self), ttl = Duration::from_secs(60))]
    async fn name(&self, id: u64) -> String {
        self.loads.fetch_add(1, Ordering::SeqCst);
        format!("name {id}")
    }

    #[cached(cache = &self.names, key = "{prefix}:{id}", skip(self), negative_ttl = "1h")]
    async fn find(&self, prefix: &str, id: Option<u32>) -> Option<String> {
        self.loads.fetch_add(1, Ordering::SeqCst);
        id.map(|id| format!("{prefix}{id}"))
    }

    #[cached(cache = self.names, skip(self))]
    async fn of_type<T: ToString + CacheKey + Clone + 'static, const N: usize>(
        &self,
        value: T,
    ) -> Result<Option<String>, DbError> {
        self.loads.fetch_add(1, Ordering::SeqCst);
        Ok(Some(value.to_string().repeat(N)))
    }
}

#[tokio::test]
async fn methods_references_absences_and_generics() {
    let service = Service::new();
    let loads = || service.loads.swap(0, Ordering::SeqCst);
    assert_eq!((service.name(7).await, service.name(7).await), ("name 7".into(), "name 7".into()));
    assert_eq!(loads(), 1);
    assert_eq!(service.names.get("name:7").await.unwrap().as_deref().map(String::as_str), Some("name 7"));
    service.name_invalidate(7).await.unwrap();
    assert!(!service.names.contains("name:7").await.unwrap());

    for _ in 0..2 {
        assert_eq!(service.find("a:b", None).await, None);
        assert_eq!(service.find("a", Some(1)).await.as_deref(), Some("a1"));
    }
    assert_eq!(loads(), 2, "an absence is cached");
    service.find_refresh("a:b", None).await;
    assert_eq!(loads(), 1);

    assert_eq!(service.of_type::<u8, 2>(1).await.unwrap().as_deref(), Some("11"));
    assert_eq!(service.of_type::<u16, 2>(1).await.unwrap().as_deref(), Some("11"));
    assert_eq!(service.of_type::<u8, 3>(1).await.unwrap().as_deref(), Some("111"));
    assert_eq!(service.of_type::<u8, 3>(1).await.unwrap().as_deref(), Some("111"));
    assert_eq!(loads(), 3, "type parameters are part of the key");
}

/// Arguments may be called whatever the expansion calls its own.
#[cached(cache = cache, skip(cache))]
async fn hygiene(
    cache: &TieredCache<String, u64>,
    key: u64,
    outcome: u64,
    error: u64,
    errors: u64,
    options: u64,
) -> u64 {
    key + outcome + error + errors + options
}

#[tokio::test]
async fn names_do_not_clash() {
    let cache = cache("hygiene");
    assert_eq!(hygiene(&cache, 1, 2, 3, 4, 5).await, 15);
    assert_eq!(hygiene(&cache, 1, 2, 3, 4, 5).await, 15);
    assert_eq!(cache.stats().loads, 1);
    hygiene_invalidate(&cache, 1, 2, 3, 4, 5).await.unwrap();
    assert_eq!(hygiene(&cache, 1, 2, 3, 4, 5).await, 15);
    assert_eq!(cache.stats().loads, 2);
}

#[derive(Debug, Clone)]
struct CloneOnly;
impl std::fmt::Display for CloneOnly {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("clone only")
    }
}
impl std::error::Error for CloneOnly {}

#[cached(cache = cache, key = "{id}", skip(cache))]
async fn with_a_clone(cache: &TieredCache<String, u64>, id: String) -> Result<u64, CloneOnly> {
    if id.is_empty() { Err(CloneOnly) } else { Ok(id.len() as u64) }
}

/// An error that cannot be cloned, as most database drivers' are.
#[derive(Debug)]
struct FromOnly(String);
impl std::fmt::Display for FromOnly {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}
impl std::error::Error for FromOnly {}
impl From<async_cache::Error> for FromOnly {
    fn from(error: async_cache::Error) -> Self {
        let inner = error.loader_error::<FromOnly>().map(|own| own.0.clone());
        Self(inner.unwrap_or_else(|| format!("{:?}", error.kind())))
    }
}

#[cached(cache = cache, key = "{id}", skip(cache))]
async fn with_a_conversion(cache: &TieredCache<String, u64>, id: String) -> Result<u64, FromOnly> {
    if id.is_empty() { Err(FromOnly("empty".into())) } else { Ok(id.len() as u64) }
}

#[tokio::test]
async fn errors_of_every_ability() {
    let cache = cache("errors");
    assert_eq!(with_a_clone(&cache, "abc".into()).await.unwrap(), 3);
    with_a_clone(&cache, String::new()).await.unwrap_err();
    assert_eq!(with_a_conversion(&cache, String::new()).await.unwrap_err().0, "empty");
    // A key over the limit: without a conversion, the function runs as if there were no cache.
    let long = "x".repeat(2000);
    assert_eq!(with_a_clone(&cache, long.clone()).await.unwrap(), 2000);
    assert_eq!(with_a_conversion(&cache, long).await.unwrap_err().0, "Key");
}

#[cached(cache = cache, key = "{id}", skip(cache))]
async fn panics(cache: &TieredCache<String, u64>, id: u64) -> u64 {
    assert!(id != 13, "thirteen");
    id
}

#[tokio::test]
async fn a_panic_goes_on_in_the_caller() {
    let cache = cache("panics");
    assert_eq!(panics(&cache, 12).await, 12);
    let ours = cache.clone();
    let panic = tokio::spawn(async move { panics(&ours, 13).await }).await.unwrap_err().into_panic();
    assert!(panic.downcast_ref::<String>().unwrap().contains("thirteen"));
}

#[tokio::test]
async fn decorated_futures_can_be_spawned() {
    fn is_send<T: Send>(_: &T) {}
    let service = Service::new();
    is_send(&service.find("a", None));
    is_send(&find_user(&users(), 1, 2));
}
