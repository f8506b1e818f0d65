//! The functions that the code of `#[cached]` calls. Do not use them directly: they may change in any release.
//!
//! They differ from the public methods in two ways. The key may be of any type, because the arguments of the
//! function are the key. And the loader is made only after a miss, because making it clones arguments and
//! formats tags, which a hit must not do.

mod errors;

use std::borrow::Cow;
use std::marker::PhantomData;
use std::sync::Arc;

use crate::api::cache::{TieredCache, encode};
use crate::api::request::{GetOrLoad, GetOrLoadOptional, Refresh, RefreshOptional};
use crate::changes::invalidate;
use crate::error::{BoxError, Error, ErrorKind, Result};
use crate::format::key::CacheKey;
use crate::liveness::stamp::Stamp;
use crate::lookup::loader::{BoxLoader, box_loader, box_optional_loader};
use crate::options::{Loaded, StoreOptions};
pub use errors::*;

macro_rules! verbs {
    ($($name:ident -> $request:ident, $output:ty, $boxing:ident;)*) => {$(
        /// The method of this name on [`TieredCache`], with a key of any type and a loader that is made after a
        /// miss.
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

/// [`TieredCache::invalidate`], with a key of any type.
///
/// # Errors
///
/// The errors of [`TieredCache::invalidate`].
pub async fn invalidate<K, V, Q>(cache: &TieredCache<K, V>, key: &Q) -> Result<Stamp>
where
    V: Send + Sync + 'static,
    Q: CacheKey + ?Sized,
{
    invalidate::invalidate(&cache.inner, vec![encode(&cache.inner, key)?]).await
}

/// Returns the path of the parent of a function, from the path of an item beside the function.
#[must_use]
pub fn place(item: &'static str, suffix: &str) -> &'static str {
    item.strip_suffix(suffix).unwrap_or(item)
}

/// Returns the name of a function. A function in a block gets a name with its position in the file, because
/// another function may have the same path. `levels` is the number of path segments between the module and a
/// function outside a block: the type of its `impl`.
#[must_use]
pub fn name(
    place: &str,
    module: &str,
    levels: usize,
    plain: &'static str,
    placed: &'static str,
) -> &'static str {
    // A path of another form belongs to an `impl` in another module, or to a trait.
    let within = place.strip_prefix(module).and_then(|within| within.split('<').next());
    let names = within.map_or(0, |within| within.split("::").filter(|name| !name.is_empty()).count());
    if names > levels { placed } else { plain }
}

/// Resumes the panic of a load in a waiting caller. Without the cache the caller would also get the panic.
pub fn or_panic(error: Error) -> Error {
    if error.kind() == ErrorKind::LoaderPanicked {
        std::panic::resume_unwind(Box::new(error.to_string()));
    }
    error
}

/// A value that may be a key. If it is not, [`must_be_key`] reports that once, and no other use of the key
/// reports it again.
#[derive(Debug)]
pub struct Probe<'a, Q: ?Sized>(pub &'a Q);

/// For a value that is a key: returns it.
pub trait IsKey<'a, Q: ?Sized> {
    /// The key.
    fn key(&self) -> &'a Q;
}

impl<'a, Q: CacheKey + ?Sized> IsKey<'a, Q> for Probe<'a, Q> {
    fn key(&self) -> &'a Q {
        self.0
    }
}

/// For a value that is not a key: returns a key in its place.
pub trait IsNoKey {
    /// The key in its place.
    fn key(&self) -> &'static ();
}

impl<Q: ?Sized> IsNoKey for &Probe<'_, Q> {
    fn key(&self) -> &'static () {
        &()
    }
}

/// The key types of a cache for functions without `key`: the path and the arguments of the function are the
/// key.
#[diagnostic::on_unimplemented(
    message = "without `key`, `#[cached]` needs a cache of `String` keys: the key is the function's path and arguments",
    label = "say which argument is the key, as `key = id`, or use a `TieredCache<String, _>`"
)]
pub trait Text {}

impl Text for String {}
impl Text for Box<str> {}
impl Text for Arc<str> {}
impl Text for Cow<'static, str> {}

/// The place of the compile error for a cache with other keys.
pub fn must_have_text_keys<K: Text, V>(_: &TieredCache<K, V>) {}

/// A cache's values, which a decorated function returns.
#[diagnostic::on_unimplemented(
    message = "the function returns `{T}`, but the cache holds `{Self}`",
    label = "return `{Self}`, or use a `TieredCache<_, {T}>`"
)]
pub trait Holds<T> {}

impl<T> Holds<T> for T {}

/// No function returns it. With one implementation of [`Holds`] alone the compiler would infer the function's type from
/// the cache's, and report the fault in other words.
#[derive(Debug)]
pub struct Unreturned<T>(PhantomData<fn() -> T>);

impl<T> Holds<Unreturned<T>> for T {}

/// The return type of a function.
pub type Returning<T> = PhantomData<fn() -> T>;

/// The place of the compile error for a function that returns another type than the cache holds.
pub fn must_hold<K, V: Holds<T>, T>(_: &TieredCache<K, V>, _: Returning<T>) {}

/// [`must_hold`], for a function that returns an `Option`.
pub fn must_hold_some<K, V: Holds<T>, T>(_: &TieredCache<K, V>, _: Returning<Option<T>>) {}

/// [`must_hold`], for a function that returns a `Result`.
pub fn must_hold_ok<K, V: Holds<T>, T, E>(_: &TieredCache<K, V>, _: Returning<Result<T, E>>) {}

/// [`must_hold`], for a function that returns a `Result` of an `Option`.
pub fn must_hold_ok_some<K, V: Holds<T>, T, E>(_: &TieredCache<K, V>, _: Returning<Result<Option<T>, E>>) {}

/// The place of the compile error for an argument that is not a key.
pub fn must_be_key<Q: CacheKey + ?Sized>(_: &Q) {}

/// A type of which a load can keep a copy.
#[diagnostic::on_unimplemented(
    message = "`#[cached]` must clone this argument for the load, which outlives the call",
    label = "implement `Clone` for `{Self}`, or pass it in an `Arc`"
)]
pub trait Kept {}

#[diagnostic::do_not_recommend]
impl<T: ToOwned + ?Sized> Kept for T {}

/// The place of the compile error for an argument that cannot be copied.
pub fn must_be_kept<T: Kept + ?Sized>(_: &T) {}

/// Returns a clone of the value for the caller.
#[must_use]
pub fn value<V: Clone>(inner: &Arc<V>) -> V {
    V::clone(inner)
}
