//! What functions decorated with `#[cached]` call. Not for direct use: no stability is promised.
//!
//! They differ from the public verbs in two ways. The key may be of any type, since the function's
//! arguments are the key. And the loader is made after a miss only: making it clones arguments and
//! formats tags, which a hit must not pay for.

use std::error::Error as StdError;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use crate::cache::TieredCache;
use crate::coherence::Stamp;
use crate::error::{BoxError, Error, ErrorKind, Result};
use crate::key::{CacheKey, Key};
use crate::loaded::Loaded;
use crate::options::StoreOptions;
use crate::path::{BoxLoader, box_loader, box_optional_loader};
use crate::request::{GetOrLoad, GetOrLoadOptional, Refresh, RefreshOptional};

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
            Q: CacheKey,
            M: FnOnce(&mut StoreOptions) -> F + Send,
            F: FnOnce() -> Fut + Send + 'static,
            Fut: Future<Output = Result<$output, E>> + Send + 'static,
            R: Into<Loaded<V>>,
            E: Into<BoxError>,
        {
            fn boxed<V, M, F, Fut, R, E>(make: M, options: &mut StoreOptions) -> BoxLoader<V>
            where
                V: Send + Sync + 'static,
                M: FnOnce(&mut StoreOptions) -> F,
                F: FnOnce() -> Fut + Send + 'static,
                Fut: Future<Output = Result<$output, E>> + Send + 'static,
                R: Into<Loaded<V>>,
                E: Into<BoxError>,
            {
                let loader = make(options);
                $boxing::<V, F, Fut, R, E>(loader, options)
            }
            $request::new(&cache.shared, key, make, boxed::<V, M, F, Fut, R, E>)
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
    Q: CacheKey,
{
    let key = Key::encode(key).map_err(|error| error.in_namespace(&cache.shared.namespace))?;
    cache.shared.invalidate(vec![key]).await
}

/// What became of a decorated call that the cache could not answer.
#[derive(Debug)]
pub enum Failed<E> {
    /// The function's own error.
    Own(E),
    /// The cache failed before the function could run: run it without the cache.
    Around,
}

/// An error type, to be asked what it can do: see [`Give`].
#[derive(Debug)]
pub struct Errors<E>(PhantomData<fn() -> E>);

impl<E> Clone for Errors<E> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<E> Copy for Errors<E> {}

/// The error type of a function's return type.
#[must_use]
pub fn errors_of<T, E>(_: PhantomData<fn() -> Result<T, E>>) -> Errors<E> {
    Errors(PhantomData)
}

/// An own error on its way through the cache, as it was and as it is shown.
struct Carried<E> {
    own: E,
    shown: BoxError,
}

impl<E> fmt::Debug for Carried<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shown.fmt(f)
    }
}

impl<E> fmt::Display for Carried<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shown.fmt(f)
    }
}

impl<E> StdError for Carried<E> {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&*self.shown)
    }
}

/// Passing a function's error through the cache, and back to everyone who waited for it.
///
/// What an error type can do is found by how often it must be referenced for the call to match:
/// the first of [`Give`], [`GiveClone`], [`GiveFrom`], [`GiveNot`] whose bounds hold. With a clone
/// callers get the error itself; from the cache's error they get what [`From`] makes of it.
pub trait Give<E> {
    /// On the way into the cache.
    fn carry(&self, own: E) -> BoxError;
    /// On the way out.
    fn give(&self, error: Error) -> Failed<E>;
}

/// `Clone` and `From<async_cache::Error>`.
impl<E> Give<E> for &&&Errors<E>
where
    E: Clone + From<Error> + Into<BoxError> + Send + Sync + 'static,
{
    fn carry(&self, own: E) -> BoxError {
        carried(own)
    }

    fn give(&self, error: Error) -> Failed<E> {
        Failed::Own(own(&error).unwrap_or_else(|| E::from(error)))
    }
}

/// `Clone` alone.
pub trait GiveClone<E> {
    /// On the way into the cache.
    fn carry(&self, own: E) -> BoxError;
    /// On the way out.
    fn give(&self, error: Error) -> Failed<E>;
}

impl<E> GiveClone<E> for &&Errors<E>
where
    E: Clone + Into<BoxError> + Send + Sync + 'static,
{
    fn carry(&self, own: E) -> BoxError {
        carried(own)
    }

    fn give(&self, error: Error) -> Failed<E> {
        own(&error).map_or(Failed::Around, Failed::Own)
    }
}

/// `From<async_cache::Error>` alone.
pub trait GiveFrom<E> {
    /// On the way into the cache.
    fn carry(&self, own: E) -> BoxError;
    /// On the way out.
    fn give(&self, error: Error) -> Failed<E>;
}

impl<E: From<Error> + Into<BoxError>> GiveFrom<E> for &Errors<E> {
    fn carry(&self, own: E) -> BoxError {
        own.into()
    }

    fn give(&self, error: Error) -> Failed<E> {
        Failed::Own(E::from(error))
    }
}

/// An error that can be given to everyone who waited for a load.
#[diagnostic::on_unimplemented(
    message = "the error `{Self}` of a `#[cached]` function must be `Clone`, or `From<async_cache::Error>`",
    label = "everyone who waited for a load is given its error, so `{Self}` must be `Clone` (callers get the error \
             itself) or `From<async_cache::Error>`; and it must be `Into<Box<dyn std::error::Error + Send + Sync>>`"
)]
pub trait Shareable {}

/// Neither: a compile error that says so.
pub trait GiveNot<E> {
    /// On the way into the cache.
    fn carry(&self, own: E) -> BoxError
    where
        E: Shareable;
    /// On the way out.
    fn give(&self, error: Error) -> Failed<E>
    where
        E: Shareable;
}

impl<E> GiveNot<E> for Errors<E> {
    fn carry(&self, _: E) -> BoxError
    where
        E: Shareable,
    {
        unreachable!("nothing is `Shareable`")
    }

    fn give(&self, _: Error) -> Failed<E>
    where
        E: Shareable,
    {
        unreachable!("nothing is `Shareable`")
    }
}

fn carried<E: Clone + Into<BoxError> + Send + Sync + 'static>(own: E) -> BoxError {
    Box::new(Carried { shown: own.clone().into(), own })
}

fn own<E: Clone + 'static>(error: &Error) -> Option<E> {
    error.loader_error::<Carried<E>>().map(|carried| carried.own.clone())
}

/// The panic of a load goes on in those who waited for it, as it would have without the cache.
pub fn or_panic(error: Error) -> Error {
    if error.kind() == ErrorKind::LoaderPanicked {
        std::panic::resume_unwind(Box::new(error.to_string()));
    }
    error
}

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
pub fn value<V: Clone>(shared: &Arc<V>) -> V {
    V::clone(shared)
}
