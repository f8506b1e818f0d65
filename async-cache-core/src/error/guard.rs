//! Calls loaders and codecs, and turns their panics and timeouts into errors.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::timeout;

use crate::error::{BoxError, Error, ErrorKind, Result};

/// Runs a loader under its deadline. `what` names the work in error messages.
pub(crate) async fn run<T, Fut>(what: &str, limit: Duration, loader: impl FnOnce() -> Fut) -> Result<T>
where
    Fut: Future<Output = Result<T, BoxError>>,
{
    // The closure may panic before it returns a future, so the guard includes its call.
    let guarded = AssertUnwindSafe(async move { loader().await }).catch_unwind();
    match timeout(limit, guarded).await {
        Err(_) => {
            Err(Error::new(ErrorKind::Timeout, format!("{what} took longer than its limit of {limit:?}")))
        }
        Ok(Err(panic)) => {
            let message = format!("the loader panicked: {}", text_of(&*panic));
            Err(Error::new(ErrorKind::LoaderPanicked, message))
        }
        Ok(Ok(Err(cause))) => Err(Error::new(ErrorKind::Loader, format!("{what} failed")).with_source(cause)),
        Ok(Ok(Ok(loaded))) => Ok(loaded),
    }
}

/// Calls a codec. `what` names the work in error messages.
pub(crate) fn call<T>(what: &str, code: impl FnOnce() -> Result<T, BoxError>) -> Result<T, BoxError> {
    catch_unwind(AssertUnwindSafe(code))
        .unwrap_or_else(|panic| Err(format!("{what} panicked: {}", text_of(&*panic)).into()))
}

fn text_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("with a payload that is not text")
}
