//! [`Liveness`]: what this node knows of its fleet and of L2, and which events it has sent about that. A
//! change of state is an event. It is sent once when the state begins, and once when it ends.

use std::cmp::Ordering::{Equal, Greater, Less};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::backend::{Baseline, Region};
use crate::error::{Error, ErrorKind, Result};
use crate::faults::mutant::Mutant;
use crate::format::key::Key;
use crate::liveness::clock::ServerTime;
use crate::liveness::node::Node;
use crate::liveness::partition::Partition;
use crate::liveness::refusals::{Asked, Refusals, Turn};
use crate::liveness::stamp::{Stamp, foreign};
use crate::liveness::unreturned::Unreturned;
use crate::liveness::unsent::{Unsent, UnsentChanges};
use crate::observe::{Event, Observer, Resumed, SuspendCause};

/// The state that decides whether L1 and L2 may answer on this node.
#[derive(Debug)]
pub(crate) struct Liveness {
    pub(crate) node: Node,
    /// Changes made on this node that L2 may not know yet.
    pub(crate) unsent: UnsentChanges,
    pub(crate) unreturned: Unreturned,
    pub(crate) observer: Arc<Observer>,
    region: Option<Arc<dyn Region>>,
    /// Whether there is an L1. Without one nothing can be suspended.
    has_l1: bool,
    told: Told,
    pub(crate) refusals: Refusals,
    /// Notifies callers that wait until the node is ready. It serves now, or L2 has refused it.
    pub(crate) news: Notify,
    /// Notifies tasks that pause because of a refusal. L2 now permits something that it had refused.
    mended: Notify,
}

/// The states that were last sent as events.
#[derive(Debug)]
struct Told {
    l1_suspended: AtomicBool,
    /// Whether the generation has risen since L1 was suspended, so that its entries must be revalidated.
    in_doubt: AtomicBool,
    l2_lost: AtomicBool,
    unsent: AtomicUsize,
}

impl Liveness {
    /// The state of a node that has just opened. L1 does not answer until the node has heard of its fleet.
    pub(crate) fn new(
        node: Node,
        observer: Arc<Observer>,
        region: Option<Arc<dyn Region>>,
        has_l1: bool,
    ) -> Self {
        let told = Told {
            l1_suspended: AtomicBool::new(true),
            in_doubt: AtomicBool::new(false),
            l2_lost: AtomicBool::new(false),
            unsent: AtomicUsize::new(0),
        };
        Self {
            unsent: UnsentChanges::new(node.partition_count()),
            node,
            unreturned: Unreturned::default(),
            observer,
            region,
            has_l1,
            told,
            refusals: Refusals::default(),
            news: Notify::new(),
            mended: Notify::new(),
        }
    }

    /// Checks whether a stamp belongs to this cache. It must be called before L1 is asked, so that a hit cannot
    /// hide the error.
    pub(crate) fn check_stamp(&self, min_stamp: Option<&Stamp>) -> Result<()> {
        let Some(stamp) = min_stamp else { return Ok(()) };
        if stamp.namespace() != &*self.observer.namespace {
            return Err(foreign(stamp.namespace(), &self.observer.namespace));
        }
        // The node that made the stamp got its number from the server, so the server's memory has reached that
        // number.
        self.node.knows(stamp);
        Ok(())
    }

    /// Whether L2 is known to be unreachable.
    pub(crate) fn is_cut_off(&self) -> bool {
        self.region.as_ref().is_some_and(|region| !region.info().available)
    }

    /// The pending changes of the key's partition.
    pub(crate) fn unsent_of(&self, key: &[u8]) -> &Unsent {
        self.unsent.of(self.node.partition_of(key).0)
    }

    /// Makes invalidations of keys pending.
    pub(crate) fn add_unsent(&self, keys: &[Key]) {
        keys.iter().for_each(|key| self.unsent_of(key.as_bytes()).add(key));
    }

    /// Whether an invalidation of the key is pending. Then L2 may hold a void value, and the node must not
    /// read it.
    pub(crate) fn is_unsent(&self, key: &[u8]) -> bool {
        self.unsent.len() > 0
            && self.unsent_of(key).covers(key)
            && !self.node.faults.is(Mutant::ReadPastPending)
    }

    /// The error of a read that [`is_unsent`](Self::is_unsent) forbids.
    pub(crate) fn refuse_unsent(&self, key: &[u8]) -> Option<Error> {
        self.is_unsent(key).then(|| {
            self.observer.error(
                ErrorKind::Backend,
                "an invalidation of this key has not reached L2 yet, so L2 cannot answer for it",
            )
        })
    }

    /// Pauses after a refusal, at most for `longest`. The pause ends early when L2 permits something that it
    /// had refused.
    pub(crate) async fn pause(&self, longest: Duration) {
        let _ = timeout(longest, self.mended.notified()).await;
    }

    pub(crate) fn put_in_doubt(&self) {
        self.told.in_doubt.store(true, Ordering::Relaxed);
    }

    /// Counts and logs a failed operation on L2, and adds the namespace to its error.
    pub(crate) fn l2_failed(&self, error: Error) -> Error {
        self.count_failure(&error);
        self.log_failures(&error, 1);
        error.in_namespace(&self.observer.namespace)
    }

    /// Counts a failed operation on L2. The caller logs it, together with those of other partitions, and adds the
    /// namespace.
    pub(crate) fn count_failure(&self, error: &Error) {
        self.emit_state_changes(Some(error));
        self.observer.counters.l2_errors.add(1);
    }

    /// Logs a failed operation, and the number of partitions in which it has failed.
    pub(crate) fn log_failures(&self, error: &Error, partitions: usize) {
        if !self.is_cut_off() {
            self.observer.log.l2_failed(error, partitions);
        }
    }

    /// Counts a failed operation that is repeated until it succeeds, and adds the namespace to its error. It is
    /// logged only if no other failure is logged at that time.
    pub(crate) fn attempt_failed(&self, error: Error) -> Error {
        self.emit_reach(Some(&error));
        if !self.is_cut_off() {
            self.observer.log.attempt_failed(&error);
        }
        self.observer.counters.l2_errors.add(1);
        error.in_namespace(&self.observer.namespace)
    }

    /// Notes the outcome of a request to L2. An outage changes nothing here, because it does not show what L2
    /// permits. A refusal is told once for what it prevents, until L2 permits that again.
    pub(crate) fn asked<T>(&self, asked: Asked, outcome: &Result<T>) {
        let refusal = outcome.as_ref().err();
        if refusal.is_some_and(Error::is_temporary) {
            return;
        }
        let turn = self.refusals.note(asked, refusal.cloned());
        match (turn, refusal) {
            (Turn::Mended, _) => self.mended.notify_waiters(),
            (Turn::NewlyRefused | Turn::StillRefused, Some(error)) => {
                self.news.notify_waiters();
                if turn == Turn::NewlyRefused {
                    let what = asked.needed_for();
                    self.observer.events.tell(|| Event::L2Refused { what });
                    self.observer.log.refused(what, error);
                }
            }
            _ => {}
        }
    }

    /// Sends the event that L1 no longer answers.
    pub(crate) fn suspended(&self, cause: SuspendCause) {
        if self.has_l1 && !self.told.l1_suspended.swap(true, Ordering::Relaxed) {
            self.observer.events.tell(|| Event::L1Suspended { cause });
        }
    }

    /// Sends the event that L1 answers again.
    fn resumed(&self) {
        if self.has_l1 && self.told.l1_suspended.swap(false, Ordering::Relaxed) {
            let in_doubt = self.told.in_doubt.swap(false, Ordering::Relaxed);
            let held = if in_doubt { Resumed::InDoubt } else { Resumed::Kept };
            self.observer.events.tell(|| Event::L1Resumed { held });
        }
        self.news.notify_waiters();
    }

    /// Sends an event for each state that has changed since the last call. It is called after each heartbeat and
    /// retry that succeeds, and with the error of each other operation that fails.
    pub(crate) fn emit_state_changes(&self, failure: Option<&Error>) {
        if self.node.is_serving() {
            self.resumed();
        } else {
            self.suspended(SuspendCause::Silence);
        }
        self.emit_reach(failure);
        let pending = self.unsent.len();
        match pending.cmp(&self.told.unsent.swap(pending, Ordering::Relaxed)) {
            Greater => self.observer.events.tell(|| Event::InvalidationPending { pending }),
            Less => self.observer.events.tell(|| Event::InvalidationLanded { pending }),
            Equal => {}
        }
    }

    /// Sends an event if it has changed whether L2 can be reached.
    fn emit_reach(&self, failure: Option<&Error>) {
        let lost = self.is_cut_off();
        if self.told.l2_lost.swap(lost, Ordering::Relaxed) != lost {
            self.observer.events.tell(|| if lost { Event::L2Lost } else { Event::L2Regained });
            if lost {
                // A heartbeat may find the outage before any command has failed.
                let known = match failure {
                    None => self.region.as_ref().and_then(|region| region.outage()),
                    Some(_) => None,
                };
                self.observer.log.lost(failure.or(known.as_ref()));
            }
        }
    }

    /// Reads a partition's state, its tag table and the server's time.
    pub(crate) async fn read_baseline(&self, region: &dyn Region, partition: u16) -> Result<Baseline> {
        let sent = self.node.clock.now();
        let known = region.baseline(partition, None).await.map_err(|error| self.l2_failed(error))?;
        if let Some(of) = self.node.partition(partition) {
            of.server_clock.observe(known.state.time_ms, sent, self.node.clock.now());
        }
        Ok(known)
    }

    /// Asks for the time of the servers of these keys, if no answer has told it yet. The ends of stored values
    /// are on the server's clock. Fails if no server tells its time.
    pub(crate) async fn learn_server_time(&self, region: &dyn Region, keys: &[Key]) -> Result<()> {
        let partitions = self.node.partitions_of(keys);
        let unknown = partitions.iter().filter(|(_, partition)| partition.server_clock.known().is_none());
        let asked: Vec<_> = unknown.map(|(index, _)| self.read_baseline(region, *index)).collect();
        if asked.is_empty() {
            return Ok(());
        }
        let all_asked = asked.len() == partitions.len();
        let mut failed = None;
        let mut told = !all_asked;
        for outcome in join_all(asked).await {
            match outcome {
                Ok(_) => told = true,
                Err(error) => failed = Some(error),
            }
        }
        failed.filter(|_| !told).map_or(Ok(()), Err)
    }

    /// The time of the server of this key. The caller must have called `learn_server_time` before if it was
    /// unknown.
    pub(crate) fn server_time(&self, key: &[u8]) -> Result<ServerTime> {
        let known = self.node.partition_of(key).1.server_clock.known();
        if self.node.faults.is(Mutant::TrustUnknownServerTime) {
            return Ok(known.unwrap_or_else(|| ServerTime::zero_at(self.node.clock.now())));
        }
        known.ok_or_else(|| {
            self.observer.error(
                ErrorKind::Backend,
                "the server's time is not known yet, so nothing can be said of when a stored value ends",
            )
        })
    }

    /// Whether the time of the partition's server is known, so that stored values can be judged.
    #[inline]
    pub(crate) fn knows_server_time(&self, partition: &Partition) -> bool {
        partition.server_clock.known().is_some() || self.node.faults.is(Mutant::TrustUnknownServerTime)
    }
}
