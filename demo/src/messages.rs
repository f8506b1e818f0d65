//! What is said between the instances and the process that leads them.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::events::Event;
use crate::keys::Trace;
use crate::orders::{Order, Reply};
use crate::rush::{Cold, Rush};
use crate::shared::SharedRedis;

/// The setup of an instance. Everything but the in-process tier can be sent to another process.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Setup {
    pub(crate) index: u16,
    pub(crate) of: u16,
    pub(crate) database: PathBuf,
    pub(crate) products: u32,
    pub(crate) query_ms: u16,
    pub(crate) l1_entries: u64,
    pub(crate) namespace: String,
    pub(crate) redis: Option<SharedRedis>,
    pub(crate) trace: Option<Trace>,
    /// Requests per second of this instance; `None` for as many as it can answer.
    pub(crate) rate: Option<f64>,
    /// Writes per request.
    pub(crate) writes: f64,
    /// The lifetime of a product in milliseconds, if the instance serves and takes orders.
    pub(crate) serve_ttl_ms: Option<u64>,
    /// Whether the instance has a relay for the outbox in the database.
    pub(crate) outbox: bool,
}

/// An order to an instance.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Command {
    /// Ask for a product that no tier has, with this many tasks at once, from this time on.
    ColdKey(Rush),
    /// Send traffic for this long, or until stopped; a trace to its end.
    Traffic { seconds: Option<f64> },
    /// End the traffic.
    Stop,
    /// Execute this, and reply under this number.
    Order { id: u64, order: Order },
    /// Report what is left, and end.
    Finish,
}

/// A message of an instance.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Message {
    /// Its L1 answers.
    Ready,
    Cold(Cold),
    /// Every change up to the time is in this batch or an earlier one.
    Batch {
        events: Vec<Event>,
        complete_to: u64,
        tiers: Tiers,
    },
    /// A reply to the order with this number.
    Reply {
        id: u64,
        reply: Reply,
    },
    /// Something that an operator wants to know.
    Notice(String),
    TrafficEnded,
    Finished,
    Failed(String),
}

/// Statistics of the cache, since it was built.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Tiers {
    pub(crate) l1_hits: u64,
    pub(crate) l2_hits: u64,
    pub(crate) loads: u64,
    pub(crate) waits: u64,
    pub(crate) lease_waits: u64,
    pub(crate) invalidations_sent: u64,
    pub(crate) invalidations_received: u64,
    pub(crate) fills_rejected: u64,
    pub(crate) flushes: u64,
    pub(crate) l2_errors: u64,
    pub(crate) l1_entries: u64,
    pub(crate) l1_suspended: bool,
    pub(crate) pending_invalidations: u64,
    pub(crate) load_failures: u64,
    pub(crate) l2_unreachable: bool,
    /// What its relay says, if there is an outbox.
    pub(crate) relay: Option<RelayFigures>,
}

/// Figures of the relay of an instance.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct RelayFigures {
    /// Whether it is the one at work. The others know no `rows`.
    pub(crate) at_work: bool,
    /// Rows in the outbox, and the age of the oldest.
    pub(crate) rows: u64,
    pub(crate) oldest_ms: u64,
    /// Rows that it has applied since its start.
    pub(crate) applied: u64,
}
