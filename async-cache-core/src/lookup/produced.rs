//! The result of a load.

use std::time::Duration;

use crate::backend::Entry;
use crate::error::{ErrorKind, Result};
use crate::format::key::Key;
use crate::inner::Inner;
use crate::local::approach::{Answer, Reuse};
use crate::local::lead::Lead;
use crate::lookup::loaded::Keep;
use crate::lookup::loader::{Given, Payload};
use crate::lookup::step::{Basis, StoreIn, store_in};
use crate::observe::Amended;
use crate::options::Options;

/// The result of a load.
pub(crate) struct Produced<V> {
    pub(crate) value: Answer<V>,
    /// The options for storing the value: those of the call, replaced by those that the loader chose.
    pub(crate) options: Options,
    pub(crate) keep: Keep,
    /// How long the load took.
    pub(crate) cost: Duration,
}

/// Decides where the loaded value is stored, and notes how long L1 may keep it.
pub(crate) fn place<V: Send + Sync + 'static>(
    inner: &Inner<V>,
    lead: &mut Lead<V>,
    basis: Basis,
    produced: &Produced<V>,
    reuse: Reuse,
) -> StoreIn {
    if produced.keep == Keep::Cached && basis.is_rejected() {
        inner.observer.fill_rejected(lead.key.as_bytes());
    }
    lead.l1_ttl = produced.options.store.l1_ttl;
    // A reload replaces a value that is known to be old. A fallback is known to be old, too.
    let replaces = reuse == Reuse::Nothing || lead.flight().fallback().is_some();
    store_in(basis, produced.keep, replaces)
}

/// Combines the loader's result with the previous value.
pub(crate) fn resolve<V: Send + Sync + 'static>(
    inner: &Inner<V>,
    (key, mut given): (&Key, Given<V>),
    previous: Option<Entry<V>>,
    options: Options,
    cost: Duration,
) -> Result<Produced<V>> {
    let mut amended = given.choice.amend(&options.store.tags);
    let mut options = options.chosen(&given.choice);
    let value = match given.payload {
        Payload::New(value) => value,
        Payload::Unchanged => match previous {
            Some(Entry { value: Some(value), tags, .. }) => {
                let mut together = options.store.tags.clone();
                together.add_all(&tags.into());
                match together.get() {
                    Ok(_) => options.store.tags = together,
                    Err(_) => amended = Some(Amended::Uncached),
                }
                Some(value)
            }
            _ => {
                let message = "a loader answered `unchanged`, but there is no previous value: look at `LoadContext::previous` first";
                return Err(inner.observer.error(ErrorKind::Loader, message));
            }
        },
    };
    let mut keep = given.keep;
    if let Some(to) = amended {
        inner.observer.amended(key.as_bytes(), to);
        keep = if to == Amended::Uncached { Keep::Uncached } else { keep };
    }
    Ok(Produced { value, options, keep, cost })
}
