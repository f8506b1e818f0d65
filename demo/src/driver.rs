//! Measures one instance: calls the service, and records each call in a journal.

use std::sync::Arc;

use async_cache::{Result, Source};

use crate::catalogue::{Catalogue, Change, Product, ServiceError};
use crate::clock;
use crate::database::{Observer, Query};
use crate::events::{Answer, Event, Journal, Purpose, Read};

/// One instance under observation.
#[derive(Debug)]
pub(crate) struct Driver {
    pub(crate) catalogue: Catalogue,
    pub(crate) journal: Arc<Journal>,
}

impl Driver {
    /// A caller of the service.
    pub(crate) fn caller(self: &Arc<Self>) -> Caller {
        Caller { driver: Arc::clone(self), reads: Vec::new() }
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
        let start = clock::now();
        let outcome = self.driver.catalogue.get(product).await;
        let end = clock::now();
        match outcome {
            Ok(found) => {
                let version = found.value.as_ref().map_or(0, |product| product.version);
                let answer = answer(found.source);
                self.reads.push(Event::Read(Read { product, version, start, end, answer, purpose }));
                Ok((found.value, answer))
            }
            Err(error) => {
                self.reads.push(Event::ReadFailed { at: end, purpose });
                Err(error)
            }
        }
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

fn answer(source: Source) -> Answer {
    match source {
        Source::L1 => Answer::L1,
        Source::L2 => Answer::L2,
        Source::Wait => Answer::Waited,
        Source::Stale => Answer::Stale,
        // What is nowhere is loaded, because there is a loader.
        _ => Answer::Loaded,
    }
}
