//! What the server asks of one instance, and how the instance does it.
//!
//! The orders go to instances in this process and to processes alike.

use std::sync::Arc;
use std::time::Duration;

use async_cache::{Backend, Error, Result};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::catalogue::{Change, Product, ServiceError};
use crate::clock;
use crate::copies::Copies;
use crate::database::Health;
use crate::driver::Driver;
use crate::events::{Answer, Purpose};
use crate::gate::Gate;
use crate::instance::chain;
use crate::messages::Message;
use crate::rush::{Cold, Rush};
use crate::search::Search;

/// Time between two looks.
const LOOK_EVERY: Duration = Duration::from_micros(50);

/// An order.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Order {
    /// Answer a request for a product.
    Read { product: u32 },
    /// Answer a search.
    Search { kind: String },
    /// Change a product.
    Change { product: u32, change: Change },
    /// Drop a product everywhere, so that it is cold.
    Forget { product: u32 },
    /// Send requests for a product at once.
    Rush(Rush),
    /// Look at a product again and again, until a version above this one is answered, for so many seconds at most. The
    /// first reply says that the looking has begun.
    Watch { product: u32, above: u32, seconds: u64 },
    /// Show the copy in L1, without using it.
    Copy { product: u32 },
    /// Break something, or mend it.
    Faults(Faults),
}

/// What is broken on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Faults {
    pub(crate) subscriber_cut: bool,
    pub(crate) tier_stopped: bool,
    pub(crate) database: Health,
}

/// The reply to an order.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Reply {
    Read {
        product: Option<Product>,
        answer: Answer,
        took_ns: u64,
    },
    Found(Vec<Product>),
    Changed(Changed),
    Rushed(Cold),
    /// The instance looks. Another reply follows.
    Watching,
    /// It has seen the version.
    Shown(Shown),
    Copy(Option<Product>),
    Done,
    /// The order was not executed, for this reason.
    Failed(String),
}

/// A committed change.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Changed {
    /// `None` if there is no such product.
    pub(crate) version: Option<u32>,
    /// When the invalidation had returned.
    pub(crate) at: u64,
    /// Why other instances may learn of it late.
    pub(crate) pending: Option<String>,
}

/// How a change arrived at an instance.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Shown {
    pub(crate) version: u32,
    /// When the first request began that was answered with the version.
    pub(crate) at: u64,
    /// When L1 dropped the older copy, if it held one.
    pub(crate) dropped_at: Option<u64>,
}

/// What an instance needs to execute orders.
#[derive(Clone)]
pub(crate) struct Desk {
    driver: Arc<Driver>,
    parts: Parts,
    search: Search,
    out: mpsc::Sender<Message>,
}

/// The tiers of an instance that can be looked into and switched off.
#[derive(Clone)]
pub(crate) struct Parts {
    pub(crate) copies: Copies,
    pub(crate) gate: Option<Gate>,
}

impl Parts {
    pub(crate) fn new(l1_entries: u64, shared: Option<Arc<dyn Backend>>) -> Self {
        Self { copies: Copies::new(l1_entries), gate: shared.map(Gate::new) }
    }

    /// The shared tier, behind its switches.
    pub(crate) fn shared(&self) -> Option<Arc<dyn Backend>> {
        self.gate.clone().map(|gate| Arc::new(gate) as Arc<dyn Backend>)
    }
}

impl Desk {
    pub(crate) fn open(
        parts: Parts,
        namespace: &str,
        driver: &Arc<Driver>,
        out: mpsc::Sender<Message>,
    ) -> Result<Self> {
        let search = Search::open(namespace, parts.shared(), driver.catalogue.clone())?;
        Ok(Self { driver: Arc::clone(driver), parts, search, out })
    }

    /// Forgets what an earlier run has left in Redis.
    pub(crate) async fn forget(&self) -> Result<()> {
        self.search.forget().await
    }

    /// Whether the shared tier can be reached.
    pub(crate) fn reaches_the_tier(&self) -> bool {
        self.parts.gate.as_ref().is_none_or(Gate::available)
    }

    /// Executes an order, and sends its replies.
    pub(crate) async fn execute(self, id: u64, order: Order) {
        let reply = match order {
            Order::Watch { product, above, seconds } => {
                self.reply(id, Reply::Watching).await;
                self.watch(product, above, seconds).await
            }
            order => self.reply_to(order).await,
        };
        self.reply(id, reply).await;
    }

    async fn reply(&self, id: u64, reply: Reply) {
        // If nobody receives it, the server has ended.
        let _ = self.out.send(Message::Reply { id, reply }).await;
    }

    async fn reply_to(&self, order: Order) -> Reply {
        let failed = |error: &Error| Reply::Failed(chain(error));
        match order {
            Order::Read { product } => self.read(product).await.unwrap_or_else(|error| failed(&error)),
            Order::Search { kind } => match self.search.of_kind(&kind).await {
                Ok(found) => Reply::Found(found.iter().map(|product| (**product).clone()).collect()),
                Err(error) => failed(&error),
            },
            Order::Change { product, change } => self.change(product, change).await,
            Order::Forget { product } => match self.driver.catalogue.cache().invalidate(&product).await {
                Ok(_) => Reply::Done,
                Err(error) => failed(&error),
            },
            Order::Rush(rush) => Reply::Rushed(rush.send(&self.driver).await),
            Order::Copy { product } => {
                Reply::Copy(self.parts.copies.look_at(product).map(|product| (*product).clone()))
            }
            Order::Faults(faults) => {
                self.driver.catalogue.database().set_health(faults.database);
                if let Some(gate) = &self.parts.gate {
                    gate.set(&faults);
                }
                Reply::Done
            }
            Order::Watch { .. } => unreachable!("it has two replies"),
        }
    }

    async fn read(&self, product: u32) -> Result<Reply> {
        let mut caller = self.driver.caller();
        let began = clock::now();
        let (found, answer) = caller.read(product, Purpose::Lag).await?;
        let product = found.map(|product| (*product).clone());
        Ok(Reply::Read { product, answer, took_ns: clock::now() - began })
    }

    async fn change(&self, product: u32, change: Change) -> Reply {
        let outcome = self.driver.change(product, change).await;
        let at = clock::now();
        match outcome {
            Ok(version) => Reply::Changed(Changed { version, at, pending: None }),
            Err(error @ ServiceError::NotInvalidated { version, .. }) => {
                Reply::Changed(Changed { version: Some(version), at, pending: Some(error.to_string()) })
            }
            Err(error @ ServiceError::NotWritten(_)) => Reply::Failed(error.to_string()),
        }
    }

    /// Looks from a thread of its own, because Tokio's timers are too coarse for this measurement.
    async fn watch(&self, product: u32, above: u32, seconds: u64) -> Reply {
        let (mut caller, runtime) = (self.driver.caller(), tokio::runtime::Handle::current());
        let copies = self.parts.copies.clone();
        let began = clock::now();
        let looking = tokio::task::spawn_blocking(move || {
            while clock::now() - began < seconds * clock::SECOND {
                let at = clock::now();
                match runtime.block_on(caller.read(product, Purpose::Lag)) {
                    Ok((Some(found), _)) if found.version > above => {
                        let dropped_at = copies.dropped(product).filter(|dropped| *dropped >= began);
                        return Reply::Shown(Shown { version: found.version, at, dropped_at });
                    }
                    _ => std::thread::sleep(LOOK_EVERY),
                }
                caller.report();
            }
            Reply::Failed(format!("it did not show the change within {seconds} s"))
        });
        looking.await.unwrap_or_else(|_| Reply::Failed("the instance is ending".to_owned()))
    }
}
