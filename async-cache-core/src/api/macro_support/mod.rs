//! What functions decorated with `#[cached]` call. Not for direct use: no stability is promised.
//!
//! They differ from the public verbs in two ways. The key may be of any type, since the function's
//! arguments are the key. And the loader is made after a miss only: making it clones arguments and
//! formats tags, which a hit must not pay for.

mod errors;

use std::borrow::Cow;
use std::sync::Arc;

use crate::api::cache::TieredCache;
use crate::api::request::{GetOrLoad, GetOrLoadOptional, Refresh, RefreshOptional};
use crate::changes::invalidate;
use crate::error::{BoxError, Error, ErrorKind, Result};
use crate::format::key::{CacheKey, Key};
use crate::liveness::stamp::Stamp;
use crate::lookup::loaded::Loaded;
use crate::lookup::loader::{BoxLoader, box_loader, box_optional_loader};
use crate::options::StoreOptions;
pub use errors::*;

macro_rules! verbs {
    ($($name:ident -> $request:ident, $output:ty, $boxing:ident;)*) => {$(
        /// The verb of the same name, with any key and a loader made after a miss.
        pub fn $name<'a, K, V, Q, M, F, Fut, R, E>(
            cache: &'a TieredCache<K, V>,
            key: &'a Q,
            make: M,
        ) -> $request<'a, V, Q, M>
        where
            V: Send + Sync + 'static,
            Q: CacheKey + ?Sized,
            M: FnOnce(&mut StoreOptions) -> F + Send,
            F: FnOnce() -> Fut + Send + 'static,
            Fut: Future<Output = Result<$output, E>> + Send + 'static,
            R: Into<Loaded<V>>,
            E: Into<BoxError> + 'static,
        {
            fn boxed<V, M, F, Fut, R, E>(make: M, options: &mut StoreOptions) -> BoxLoader<V>
            where
                V: Send + Sync + 'static,
                M: FnOnce(&mut StoreOptions) -> F,
                F: FnOnce() -> Fut + Send + 'static,
                Fut: Future<Output = Result<$output, E>> + Send + 'static,
                R: Into<Loaded<V>>,
                E: Into<BoxError> + 'static,
            {
                let loader = make(options);
                $boxing::<V, F, Fut, R, E>(loader, options)
            }
            $request::new(&cache.inner, key, make, boxed::<V, M, F, Fut, R, E>)
        }
    )*};
}

verbs! {
    get_or_load -> GetOrLoad, R, box_loader;
    get_or_load_optional -> GetOrLoadOptional, Option<R>, box_optional_loader;
    refresh -> Refresh, R, box_loader;
    refresh_optional -> RefreshOptional, Option<R>, box_optional_loader;
}

/// The verb of the same name, with any key.
///
/// # Errors
///
/// As [`TieredCache::invalidate`].
pub async fn invalidate<K, V, Q>(cache: &TieredCache<K, V>, key: &Q) -> Result<Stamp>
where
    V: Send + Sync + 'static,
    Q: CacheKey + ?Sized,
{
    let key = Key::encode(key).map_err(|error| error.in_namespace(&cache.inner.observer.namespace))?;
    invalidate::invalidate(&cache.inner, vec![key]).await
}

/// The path of what a function stands in, out of the path of an item beside it.
#[must_use]
pub fn place(item: &'static str, suffix: &str) -> &'static str {
    item.strip_suffix(suffix).unwrap_or(item)
}

/// The name of a function: with its place in the file, if it stands in a block, where others may have its path.
/// `levels` are those between the module and the function, if it stands in none: the type of its `impl`.
#[must_use]
pub fn name(
    (place, module): (&str, &str),
    levels: usize,
    (plain, placed): (&'static str, &'static str),
) -> &'static str {
    // A path of another form is that of an `impl` elsewhere, or of a trait.
    let within = place.strip_prefix(module).and_then(|within| within.split('<').next());
    let names = within.map_or(0, |within| within.split("::").filter(|name| !name.is_empty()).count());
    if names > levels { placed } else { plain }
}

/// The panic of a load goes on in those who waited for it, as it would have without the cache.
pub fn or_panic(error: Error) -> Error {
    if error.kind() == ErrorKind::LoaderPanicked {
        std::panic::resume_unwind(Box::new(error.to_string()));
    }
    error
}

/// A key that may be none: that is said once, by [`must_be_key`], and not again wherever it is used.
#[derive(Debug)]
pub struct Probe<'a, Q: ?Sized>(pub &'a Q);

/// Of what is a key, itself.
pub trait IsKey<'a, Q: ?Sized> {
    /// The key.
    fn key(&self) -> &'a Q;
}

impl<'a, Q: CacheKey + ?Sized> IsKey<'a, Q> for Probe<'a, Q> {
    fn key(&self) -> &'a Q {
        self.0
    }
}

/// Of anything else, something that is.
pub trait IsNoKey {
    /// What stands in.
    fn key(&self) -> &'static ();
}

impl<Q: ?Sized> IsNoKey for &Probe<'_, Q> {
    fn key(&self) -> &'static () {
        &()
    }
}

/// What the keys of a cache are where the function's path and arguments are the key.
#[diagnostic::on_unimplemented(
    message = "without `key`, `#[cached]` needs a cache of `String` keys: the key is the function's path and arguments",
    label = "say which argument is the key, as `key = id`, or use a `TieredCache<String, _>`"
)]
pub trait Text {}

impl Text for String {}
impl Text for Box<str> {}
impl Text for Arc<str> {}
impl Text for Cow<'static, str> {}

/// Where a compile error about a cache that has other keys is to point.
pub fn must_have_text_keys<K: Text, V>(_: &TieredCache<K, V>) {}

/// Where a compile error about a part of a key is to point.
pub fn must_be_key<Q: CacheKey + ?Sized>(_: &Q) {}

/// What a load can keep a copy of.
#[diagnostic::on_unimplemented(
    message = "`#[cached]` must clone this argument for the load, which outlives the call",
    label = "implement `Clone` for `{Self}`, or pass it in an `Arc`"
)]
pub trait Kept {}

#[diagnostic::do_not_recommend]
impl<T: ToOwned + ?Sized> Kept for T {}

/// Where a compile error about an argument is to point.
pub fn must_be_kept<T: Kept + ?Sized>(_: &T) {}

/// A value of the caller's own.
#[must_use]
pub fn value<V: Clone>(inner: &Arc<V>) -> V {
    V::clone(inner)
}
