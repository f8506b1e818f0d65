//! Loaders in the one form that the lookup uses.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use crate::error::{BoxError, Result, boxed};
use crate::local::approach::Answer;
use crate::lookup::loaded::{Keep, LoadContext, Loaded};
use crate::options::{Choice, StoreOptions};

/// The result of a loader. Its only type parameter is the value type of the cache.
pub(crate) struct Given<V> {
    pub(crate) payload: Payload<V>,
    pub(crate) choice: Choice,
    pub(crate) keep: Keep,
}

/// A value, an absence, or the statement that the previous value is still right.
pub(crate) enum Payload<V> {
    New(Answer<V>),
    Unchanged,
}

impl<V> Given<V> {
    pub(crate) fn new(found: Option<Loaded<V>>) -> Self {
        match found {
            Some(Loaded { value: Some(value), choice, keep }) => {
                Self { payload: Payload::New(Some(Arc::new(value))), choice, keep }
            }
            Some(Loaded { value: None, choice, keep }) => Self { payload: Payload::Unchanged, choice, keep },
            None => Self { payload: Payload::New(None), choice: Choice::default(), keep: Keep::Cached },
        }
    }
}

type Loading<V> = BoxFuture<'static, Result<Given<V>, BoxError>>;

/// A loader whose only type parameter is the value type of the cache. So the lookup is compiled once for each
/// value type, not for each call.
pub(crate) enum BoxLoader<V> {
    Plain(Box<dyn FnOnce() -> Loading<V> + Send>),
    /// A loader that receives the previous value.
    Informed(Box<dyn FnOnce(LoadContext<V>) -> Loading<V> + Send>),
}

/// What a loader wants to receive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    Nothing,
    /// The value that the load is to replace.
    Previous,
}

impl<V> BoxLoader<V> {
    pub(crate) fn wish(&self) -> Wish {
        match self {
            Self::Plain(_) => Wish::Nothing,
            Self::Informed(_) => Wish::Previous,
        }
    }

    pub(crate) fn run(self, context: LoadContext<V>) -> Loading<V> {
        match self {
            Self::Plain(loader) => loader(),
            Self::Informed(loader) => loader(context),
        }
    }
}

pub(crate) fn box_loader<V, F, Fut, R, E>(loader: F, options: &mut StoreOptions) -> BoxLoader<V>
where
    V: Send + Sync + 'static,
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = Result<R, E>> + Send + 'static,
    R: Into<Loaded<V>>,
    E: Into<BoxError> + 'static,
{
    box_optional_loader(move || loader().map(|result| result.map(Some)), options)
}

pub(crate) fn box_optional_loader<V, F, Fut, R, E>(loader: F, _: &mut StoreOptions) -> BoxLoader<V>
where
    V: Send + Sync + 'static,
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = Result<Option<R>, E>> + Send + 'static,
    R: Into<Loaded<V>>,
    E: Into<BoxError> + 'static,
{
    BoxLoader::Plain(Box::new(move || loader().map(|result| given(result)).boxed()))
}

pub(crate) fn box_informed_loader<V, F, Fut, R, E>(loader: F, _: &mut StoreOptions) -> BoxLoader<V>
where
    V: Send + Sync + 'static,
    F: FnOnce(LoadContext<V>) -> Fut + Send + 'static,
    Fut: Future<Output = Result<R, E>> + Send + 'static,
    R: Into<Loaded<V>>,
    E: Into<BoxError> + 'static,
{
    BoxLoader::Informed(Box::new(move |context| {
        loader(context).map(|result| given(result.map(Some))).boxed()
    }))
}

fn given<V, R: Into<Loaded<V>>, E: Into<BoxError> + 'static>(
    result: Result<Option<R>, E>,
) -> Result<Given<V>, BoxError> {
    match result {
        Ok(found) => Ok(Given::new(found.map(Into::into))),
        Err(error) => Err(boxed(error)),
    }
}
