//! Carries the error of a decorated function through the cache to the callers.
//!
//! The caller whose run of the function failed gets the error itself. It is sent past the cache, because most
//! errors cannot be cloned. Every other waiting caller gets a clone, or the [`From`] conversion of the cache's
//! error.

use std::error::Error as StdError;
use std::marker::PhantomData;

use tokio::sync::oneshot;

use crate::error::{BoxError, Carried, Error, Spoken, boxed};

/// The failure of a decorated call that the cache could not answer.
#[derive(Debug)]
pub enum Failed<E> {
    /// The function returned this error.
    Own(E),
    /// The cache failed before the function could run: run it without the cache.
    Around,
}

/// An error type. The compiler finds the abilities of the type through [`Give`] and [`ShowChain`].
#[derive(Debug)]
pub struct Errors<E>(PhantomData<fn() -> E>);

impl<E> Clone for Errors<E> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<E> Copy for Errors<E> {}

/// Returns the error type of a function's return type.
#[must_use]
pub fn errors_of<T, E>(_: PhantomData<fn() -> Result<T, E>>) -> Errors<E> {
    Errors(PhantomData)
}

impl<E> Errors<E> {
    /// Returns an empty place for the error of the caller's own run.
    #[must_use]
    pub fn own(self) -> Own<E> {
        Own(None)
    }
}

/// The error of the caller's own run of the function.
#[derive(Debug)]
pub struct Own<E>(Option<oneshot::Receiver<E>>);

impl<E> Own<E> {
    /// Returns the sender of the error, for a run that is about to begin.
    pub fn caller(&mut self) -> Caller<E> {
        let (sender, receiver) = oneshot::channel();
        self.0 = Some(receiver);
        Caller(sender)
    }

    /// Takes the error, if the run sent one.
    pub fn take(&mut self) -> Option<E> {
        self.0.take()?.try_recv().ok()
    }
}

/// The sender to the caller that began a run of the function. The caller may be gone when the run ends.
#[derive(Debug)]
pub struct Caller<E>(oneshot::Sender<E>);

/// The messages of an error and its sources.
#[derive(Debug)]
pub struct Shown(Spoken);

/// Carries errors in and out. The compiler picks the trait by the number of references that the call needs: the
/// first of [`Give`], [`GiveClone`], [`GiveFrom`], [`GiveOpaque`], [`GiveNot`] whose bounds hold.
///
/// This one is for errors with `Clone` and `From<async_cache::Error>`.
pub trait Give<E> {
    /// Carries the error into the cache.
    fn carry(&self, own: E, show: fn(&E) -> Shown, caller: Caller<E>) -> BoxError;
    /// Returns the error for a caller.
    fn give(&self, error: Error) -> Failed<E>;
}

/// Errors with `Clone` and `From<async_cache::Error>`.
impl<E> Give<E> for &&&&Errors<E>
where
    E: Clone + From<Error> + Into<BoxError> + Send + Sync + 'static,
{
    fn carry(&self, own: E, _: fn(&E) -> Shown, caller: Caller<E>) -> BoxError {
        clone_into(own, caller)
    }

    fn give(&self, error: Error) -> Failed<E> {
        Failed::Own(clone_out(&error).unwrap_or_else(|| E::from(error)))
    }
}

/// Errors with `Clone` alone.
pub trait GiveClone<E> {
    /// Carries the error into the cache.
    fn carry(&self, own: E, show: fn(&E) -> Shown, caller: Caller<E>) -> BoxError;
    /// Returns the error for a caller.
    fn give(&self, error: Error) -> Failed<E>;
}

impl<E> GiveClone<E> for &&&Errors<E>
where
    E: Clone + Into<BoxError> + Send + Sync + 'static,
{
    fn carry(&self, own: E, _: fn(&E) -> Shown, caller: Caller<E>) -> BoxError {
        clone_into(own, caller)
    }

    fn give(&self, error: Error) -> Failed<E> {
        clone_out(&error).map_or(Failed::Around, Failed::Own)
    }
}

/// Errors with `From<async_cache::Error>` alone.
pub trait GiveFrom<E> {
    /// Carries the error into the cache.
    fn carry(&self, own: E, show: fn(&E) -> Shown, caller: Caller<E>) -> BoxError;
    /// Returns the error for a caller.
    fn give(&self, error: Error) -> Failed<E>;
}

impl<E: From<Error> + Into<BoxError> + Send + 'static> GiveFrom<E> for &&Errors<E> {
    fn carry(&self, own: E, show: fn(&E) -> Shown, caller: Caller<E>) -> BoxError {
        send(own, show, caller).unwrap_or_else(boxed)
    }

    fn give(&self, error: Error) -> Failed<E> {
        Failed::Own(E::from(error))
    }
}

/// Errors with `From<async_cache::Error>` that cannot become a boxed error, such as a newtype around
/// `anyhow::Error`.
pub trait GiveOpaque<E> {
    /// Carries the error into the cache.
    fn carry(&self, own: E, show: fn(&E) -> Shown, caller: Caller<E>) -> BoxError;
    /// Returns the error for a caller.
    fn give(&self, error: Error) -> Failed<E>;
}

impl<E: From<Error> + Send + 'static> GiveOpaque<E> for &Errors<E> {
    fn carry(&self, own: E, show: fn(&E) -> Shown, caller: Caller<E>) -> BoxError {
        send(own, show, caller).unwrap_or_else(|own| Box::new(show(&own).0))
    }

    fn give(&self, error: Error) -> Failed<E> {
        Failed::Own(E::from(error))
    }
}

/// An error that every waiting caller of a load can get.
#[diagnostic::on_unimplemented(
    message = "the error `{Self}` of a `#[cached]` function must be `Clone` and `std::error::Error`, or `From<async_cache::Error>`",
    label = "a caller who waited for another caller's run needs an error, too: with `Clone` and `std::error::Error` (or \
             `Into<Box<dyn std::error::Error + Send + Sync>>`) callers get the error itself, with \
             `From<async_cache::Error>` its message"
)]
pub trait Shareable {}

/// Errors with neither. Their use is a compile error with the message of [`Shareable`].
pub trait GiveNot<E> {
    /// Carries the error into the cache.
    fn carry(&self, own: E, show: fn(&E) -> Shown, caller: Caller<E>) -> BoxError
    where
        E: Shareable;
    /// Returns the error for a caller.
    fn give(&self, error: Error) -> Failed<E>
    where
        E: Shareable;
}

impl<E> GiveNot<E> for Errors<E> {
    fn carry(&self, _: E, _: fn(&E) -> Shown, _: Caller<E>) -> BoxError
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

/// Turns an error into messages for the cache when the error itself goes to its caller. The compiler picks the
/// first of [`ShowChain`], [`ShowError`], [`ShowType`] whose bounds hold.
pub trait ShowChain<E> {
    /// Returns the function that reads the messages.
    fn show(&self) -> fn(&E) -> Shown;
}

/// Boxes of any error, such as `anyhow::Error`.
impl<E: AsRef<dyn StdError + Send + Sync>> ShowChain<E> for &&Errors<E> {
    fn show(&self) -> fn(&E) -> Shown {
        |error| Shown(Spoken::of(error.as_ref()))
    }
}

/// Types that implement `Error`.
pub trait ShowError<E> {
    /// Returns the function that reads the messages.
    fn show(&self) -> fn(&E) -> Shown;
}

impl<E: StdError + 'static> ShowError<E> for &Errors<E> {
    fn show(&self) -> fn(&E) -> Shown {
        |error| Shown(Spoken::of(error))
    }
}

/// All other types. The message is the name of the type.
pub trait ShowType<E> {
    /// Returns the function that reads the messages.
    fn show(&self) -> fn(&E) -> Shown;
}

impl<E> ShowType<E> for Errors<E> {
    fn show(&self) -> fn(&E) -> Shown {
        |_| Shown(Spoken::of_type(std::any::type_name::<E>()))
    }
}

/// Sends an error to its caller, and returns its messages. Returns `Err` if the caller is gone.
fn send<E>(own: E, show: fn(&E) -> Shown, Caller(sender): Caller<E>) -> Result<BoxError, E> {
    if sender.is_closed() {
        return Err(own);
    }
    let Shown(words) = show(&own);
    sender.send(own).map(|()| words.into())
}

fn clone_into<E: Clone + Into<BoxError> + Send + Sync + 'static>(
    own: E,
    Caller(sender): Caller<E>,
) -> BoxError {
    let (kept, shown) = (own.clone(), own.clone().into());
    let _ = sender.send(own);
    Box::new(Carried { own: Box::new(kept), shown })
}

fn clone_out<E: Clone + 'static>(error: &Error) -> Option<E> {
    error.carried().and_then(|carried| carried.own.downcast_ref::<E>()).cloned()
}
