//! Passing a function's error through the cache, and back to everyone who waited for it.
//!
//! The caller whose run of the function failed is given the error itself: it is sent past the cache, because most
//! errors cannot be cloned. Everyone else is given a clone, or what [`From`] makes of the cache's error.

use std::error::Error as StdError;
use std::marker::PhantomData;

use tokio::sync::oneshot;

use crate::error::{BoxError, Carried, Error, Spoken, boxed};

/// What became of a decorated call that the cache could not answer.
#[derive(Debug)]
pub enum Failed<E> {
    /// The function's own error.
    Own(E),
    /// The cache failed before the function could run: run it without the cache.
    Around,
}

/// An error type, to be asked what it can do: see [`Give`] and [`ShowChain`].
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

impl<E> Errors<E> {
    /// Where the error of the caller's own run will be.
    #[must_use]
    pub fn own(self) -> Own<E> {
        Own(None)
    }
}

/// The error that the caller's own run of the function ended with.
#[derive(Debug)]
pub struct Own<E>(Option<oneshot::Receiver<E>>);

impl<E> Own<E> {
    /// The way for it, from a run that is about to begin.
    pub fn caller(&mut self) -> Caller<E> {
        let (sender, receiver) = oneshot::channel();
        self.0 = Some(receiver);
        Caller(sender)
    }

    /// Takes it, if there was one.
    pub fn take(&mut self) -> Option<E> {
        self.0.take()?.try_recv().ok()
    }
}

/// Who began a run of the function, and may be gone by its end.
#[derive(Debug)]
pub struct Caller<E>(oneshot::Sender<E>);

/// The words of an error.
#[derive(Debug)]
pub struct Shown(Spoken);

/// What an error type can do is found by how often it must be referenced for the call to match: the first of
/// [`Give`], [`GiveClone`], [`GiveFrom`], [`GiveOpaque`], [`GiveNot`] whose bounds hold.
pub trait Give<E> {
    /// On the way into the cache.
    fn carry(&self, own: E, show: fn(&E) -> Shown, caller: Caller<E>) -> BoxError;
    /// On the way out.
    fn give(&self, error: Error) -> Failed<E>;
}

/// `Clone` and `From<async_cache::Error>`.
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

/// `Clone` alone.
pub trait GiveClone<E> {
    /// On the way into the cache.
    fn carry(&self, own: E, show: fn(&E) -> Shown, caller: Caller<E>) -> BoxError;
    /// On the way out.
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

/// `From<async_cache::Error>` alone.
pub trait GiveFrom<E> {
    /// On the way into the cache.
    fn carry(&self, own: E, show: fn(&E) -> Shown, caller: Caller<E>) -> BoxError;
    /// On the way out.
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

/// `From<async_cache::Error>`, of what is no error to anybody else, such as a newtype around `anyhow::Error`.
pub trait GiveOpaque<E> {
    /// On the way into the cache.
    fn carry(&self, own: E, show: fn(&E) -> Shown, caller: Caller<E>) -> BoxError;
    /// On the way out.
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

/// An error that can be given to everyone who waited for a load.
#[diagnostic::on_unimplemented(
    message = "the error `{Self}` of a `#[cached]` function must be `Clone`, or `From<async_cache::Error>`",
    label = "a caller who waited for another caller's run needs an error, too, so `{Self}` must be `Clone` and \
             `Into<Box<dyn std::error::Error + Send + Sync>>` (callers get the error itself), or \
             `From<async_cache::Error>`"
)]
pub trait Shareable {}

/// Neither: a compile error that says so.
pub trait GiveNot<E> {
    /// On the way into the cache.
    fn carry(&self, own: E, show: fn(&E) -> Shown, caller: Caller<E>) -> BoxError
    where
        E: Shareable;
    /// On the way out.
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

/// How an error is put into words, where its caller takes it away: the first of [`ShowChain`], [`ShowError`],
/// [`ShowType`] whose bounds hold.
pub trait ShowChain<E> {
    /// The function that does it.
    fn show(&self) -> fn(&E) -> Shown;
}

/// A box of any error, such as `anyhow::Error`.
impl<E: AsRef<dyn StdError + Send + Sync>> ShowChain<E> for &&Errors<E> {
    fn show(&self) -> fn(&E) -> Shown {
        |error| Shown(Spoken::of(error.as_ref()))
    }
}

/// An error.
pub trait ShowError<E> {
    /// The function that does it.
    fn show(&self) -> fn(&E) -> Shown;
}

impl<E: StdError + 'static> ShowError<E> for &Errors<E> {
    fn show(&self) -> fn(&E) -> Shown {
        |error| Shown(Spoken::of(error))
    }
}

/// Of anything else, the type's name.
pub trait ShowType<E> {
    /// The function that does it.
    fn show(&self) -> fn(&E) -> Shown;
}

impl<E> ShowType<E> for Errors<E> {
    fn show(&self) -> fn(&E) -> Shown {
        |_| Shown(Spoken::of_type(std::any::type_name::<E>()))
    }
}

/// Sends an error to its caller, and leaves its words. `Err` if the caller is gone.
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
