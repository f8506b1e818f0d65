//! Measures one instance: calls the service, and records each call in a journal.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;

use async_cache::{BoxError, Codec, Result};

use crate::catalogue::{Catalogue, Change, Product, ServiceError};
use crate::clock;
use crate::database::{Database, Observer, Query};
use crate::events::{Answer, Event, Journal, Purpose, Read};

/// One instance under observation.
#[derive(Debug)]
pub(crate) struct Driver {
    pub(crate) catalogue: Catalogue,
    pub(crate) journal: Arc<Journal>,
    /// The age from which an answer is stale, in nanoseconds; `None` if no stale value may answer.
    pub(crate) stale_from: Option<u64>,
}

impl Driver {
    /// A caller of the service.
    pub(crate) fn caller(self: &Arc<Self>) -> Caller {
        let database = self.catalogue.database().counting_apart();
        Caller {
            catalogue: self.catalogue.with_database(database),
            driver: Arc::clone(self),
            reads: Vec::new(),
        }
    }

    /// Sells one piece of a product.
    pub(crate) async fn sell(&self, product: u32) -> Result<Option<u32>, ServiceError> {
        self.change(product, Change::Sell).await
    }

    /// Changes a product.
    pub(crate) async fn change(&self, product: u32, change: Change) -> Result<Option<u32>, ServiceError> {
        let began = clock::now();
        let outcome = self.catalogue.change(product, change).await;
        self.journal.note(|at| match outcome {
            Ok(Some(version)) => Event::Invalidated { product, version, began, at },
            Ok(None) | Err(_) => Event::WriteFailed { at },
        });
        outcome
    }
}

/// Records queries in the journal.
pub(crate) fn observer(journal: &Arc<Journal>) -> Observer {
    let journal = Arc::clone(journal);
    Arc::new(move |product, query| {
        journal.note(|at| match query {
            Query::Begins => Event::QueryBegan { product, at },
            Query::Ended(began) => Event::QueryEnded { product, began, at },
        })
    })
}

/// A reader. It makes one read after the other.
#[derive(Debug)]
pub(crate) struct Caller {
    catalogue: Catalogue,
    driver: Arc<Driver>,
    reads: Vec<Event>,
}

impl Caller {
    /// Reads a product, and returns the source of the answer.
    pub(crate) async fn read(
        &mut self,
        product: u32,
        purpose: Purpose,
    ) -> Result<(Option<Arc<Product>>, Answer)> {
        // Each caller has its own handle, which counts this caller's queries wherever they run.
        let database: &Database = self.catalogue.database();
        let queries = database.queries();
        let start = clock::now();
        let mut get = pin!(self.catalogue.get(product));
        let (mut polls, mut decoded) = (0_u32, false);
        let outcome = poll_fn(|context| {
            polls += 1;
            DECODED.set(false);
            let poll = get.as_mut().poll(context);
            decoded |= DECODED.get();
            poll
        })
        .await;
        let end = clock::now();
        let stale = |product: &Product| {
            self.driver.stale_from.is_some_and(|from| end.saturating_sub(product.origin.read_at) > from)
        };
        let answer = if matches!(&outcome, Ok(Some(product)) if stale(product)) {
            Answer::Stale
        } else if database.queries() != queries {
            Answer::Loaded
        } else if decoded {
            Answer::L2
        } else if polls == 1 {
            Answer::L1
        } else {
            Answer::Shared
        };
        match &outcome {
            Ok(found) => {
                let version = found.as_ref().map_or(0, |product| product.version);
                self.reads.push(Event::Read(Read { product, version, start, end, answer, purpose }));
            }
            Err(_) => self.reads.push(Event::ReadFailed { at: end, purpose }),
        }
        outcome.map(|found| (found, answer))
    }

    /// Hands over the recorded reads.
    pub(crate) fn report(&mut self) {
        self.driver.journal.append(&mut self.reads);
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        self.report();
    }
}

thread_local! {
    /// Whether the current poll has decoded a value: only a read of the shared tier does.
    static DECODED: Cell<bool> = const { Cell::new(false) };
}

/// A codec that reports each decoding to the caller on whose stack it runs.
#[derive(Debug)]
pub(crate) struct Watched<C>(pub(crate) C);

impl<V, C: Codec<V>> Codec<V> for Watched<C> {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn encode(&self, value: &V, out: &mut Vec<u8>) -> Result<(), BoxError> {
        self.0.encode(value, out)
    }

    fn decode(&self, bytes: &[u8]) -> Result<V, BoxError> {
        DECODED.set(true);
        self.0.decode(bytes)
    }
}
