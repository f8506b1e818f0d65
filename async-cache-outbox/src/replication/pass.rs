//! One pass over a part of the log.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::relay::pause::Pauses;
use crate::relay::stats::Role;
use crate::replication::MissingSlot;
use crate::replication::check::Tables;
use crate::replication::gaps::{Gaps, Memory};
use crate::replication::slot::{Session, SlotState, View};
use crate::replication::stats::{Lag, Landed};
use crate::replication::trouble::Trouble;
use crate::replication::watch::Changes;
use crate::replication::wire::{self, Lsn, Message};
use crate::replication::work::Worker;

/// The most messages of a pass, unless its last transaction has more.
const MESSAGES: u32 = 100_000;
/// The most invalidations that are sent together.
const TOGETHER: usize = 5_000;
/// How long a pass waits until others can see a transaction.
const UNSEEN: Duration = Duration::from_secs(1);

/// What a reader at work remembers between passes.
#[derive(Default)]
pub(crate) struct State {
    /// Everything before this position has landed.
    pub(crate) drained: Lsn,
    /// When the oldest change was committed that has not landed, as far as is known.
    pub(crate) oldest: Option<i64>,
    /// Pauses after failures of a cache.
    pub(crate) pauses: Pauses,
}

impl State {
    /// Whether the last pass has reached the end of the log.
    pub(crate) fn is_drained(&self) -> bool {
        self.oldest.is_none() && self.pauses.left().is_none()
    }

    /// What follows a pass that has read up to a transaction which was committed at `last`. `drained` follows one that has read all.
    fn next(&mut self, end: End, last: Option<i64>, drained: Next) -> Next {
        match end {
            End::Drained => {
                self.pauses.reset();
                drained
            }
            End::Full => {
                // The next changes were committed at about the time of the last one.
                self.oldest = last;
                Next::More
            }
            End::Failed => {
                self.pauses.begin();
                Next::Wait
            }
            End::Unseen | End::Stopped => Next::Wait,
        }
    }
}

/// How a pass has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// There are no more changes.
    Drained,
    /// There may be more.
    Full,
    /// Invalidations have failed.
    Failed,
    /// A transaction cannot be seen by others yet.
    Unseen,
    /// The reader is to end.
    Stopped,
}

/// A part of the log.
struct Part<'a> {
    changes: Changes<'a>,
    messages: u32,
    /// Transactions that others may not see yet.
    unseen: Vec<u32>,
    /// The end of the last transaction that was read, and of the last one that has landed.
    read: Lsn,
    landed: Lsn,
    transactions: u64,
    /// When the transaction under way was committed, and the oldest one that has not landed.
    open: Option<i64>,
    oldest: Option<i64>,
    last: Option<i64>,
}

impl<'a> Part<'a> {
    fn new(changes: Changes<'a>) -> Self {
        Self {
            changes,
            messages: 0,
            unseen: Vec::new(),
            read: Lsn::default(),
            landed: Lsn::default(),
            transactions: 0,
            open: None,
            oldest: None,
            last: None,
        }
    }

    fn take(&mut self, message: &[u8]) -> Result<(), Trouble> {
        let message =
            wire::read(message).map_err(|why| Trouble::from(crate::replication::watch::Stop::from(why)))?;
        match &message {
            Message::Begin { xid, committed } => {
                self.unseen.push(*xid);
                (self.open, self.last) = (Some(*committed), Some(*committed));
                self.oldest.get_or_insert(*committed);
            }
            Message::Commit { end } => {
                self.read = *end;
                self.open = None;
                self.transactions += 1;
            }
            _ => {}
        }
        Ok(self.changes.add(message)?)
    }

    /// All that was read has landed.
    fn land(&mut self) -> Landed {
        // Also if the transaction under way has more: its end is not read yet.
        self.landed = self.read;
        self.oldest = self.open;
        let changes = &mut self.changes;
        changes.clear();
        Landed {
            transactions: std::mem::take(&mut self.transactions),
            changes: std::mem::take(&mut changes.count),
            refused: std::mem::take(&mut changes.refused),
            reason: changes.reason.take(),
        }
    }
}

/// What follows a pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// The pass has seen the end of the log.
    Wait,
    /// There may be more.
    More,
    /// The publication has changed.
    Check,
}

impl Worker {
    /// Reads committed changes in their order, makes their invalidations, and then acknowledges the transactions that have wholly
    /// landed. A crash before that repeats them.
    pub(crate) async fn pass(
        &self,
        session: &mut Session,
        tables: &Tables,
        state: &mut State,
        memory: &mut Memory,
    ) -> Result<Next, Trouble> {
        let view = session.look().await?;
        let is_stuck = memory.is_stuck && self.missing == MissingSlot::Create;
        let Some(confirmed) = view.slot.confirmed().filter(|_| !is_stuck) else {
            let slot = view.slot.confirmed().map_or(view.slot, |_| SlotState::Stuck);
            self.renew(session, slot).await?;
            *state = State::default();
            memory.renewed();
            return Ok(Next::More);
        };
        self.see(&view, state.oldest);
        match self.close_gaps(session, memory, confirmed).await? {
            Gaps::Closed => {}
            Gaps::Found => return Ok(Next::Check),
            Gaps::Failed => {
                // Nobody knows when the missing changes were committed.
                state.oldest.get_or_insert(view.now);
                state.pauses.begin();
                return Ok(Next::Wait);
            }
        }
        if view.written <= state.drained {
            state.oldest = None;
            state.pauses.reset();
            return Ok(Next::Wait);
        }
        let (until, unwatched) = memory.range(state.drained.max(confirmed), view.written);
        let mut part = Part::new(Changes::new(&self.watches, tables, unwatched));
        let end = self.follow(session, &mut part, until).await;
        let end = end.inspect_err(|trouble| memory.learn(trouble, until))?;
        memory.is_stuck = false;
        // The log between the last transaction and its end at that time had no change of a watched table. If it were not
        // acknowledged, the server would keep it.
        let to = if end == End::Drained { part.landed.max(until) } else { part.landed };
        if to > confirmed {
            // Has somebody else moved the slot since the look? Then changes are missing in what was read. The next pass finds the gap.
            if session.look().await?.slot.confirmed() != Some(confirmed) {
                return Ok(Next::More);
            }
            memory.acknowledge(to);
            session.advance(to).await?;
        }
        (state.drained, state.oldest) = (to, part.oldest);
        let drained = if until < view.written { Next::More } else { Next::Wait };
        Ok(state.next(end, part.last, drained))
    }

    pub(crate) fn see(&self, view: &View, oldest: Option<i64>) {
        let SlotState::Usable { confirmed, kept } = view.slot else { return };
        let behind = |lsn: Lsn| view.written.0.saturating_sub(lsn.0);
        let age = oldest.map_or(0, |oldest| view.now.saturating_sub(oldest));
        let oldest = Duration::from_micros(u64::try_from(age).unwrap_or_default());
        self.shared.seen(Lag { lag_bytes: behind(confirmed), kept_bytes: behind(kept), oldest });
    }

    /// Reads the log before `until`.
    async fn follow(&self, session: &mut Session, part: &mut Part<'_>, until: Lsn) -> Result<End, Trouble> {
        session.open(until, MESSAGES).await?;
        let end = self.read(session, part).await?;
        session.close().await?;
        Ok(end)
    }

    /// Reads batches and makes their invalidations, until there is no more or something fails.
    async fn read(&self, session: &mut Session, part: &mut Part<'_>) -> Result<End, Trouble> {
        loop {
            let batch = self.options.batch;
            let fetched = session.fetch(batch, &mut |message| part.take(message)).await?;
            part.messages += fetched;
            // The slot can be read, so this reader is fit for the work.
            self.shared.role(Role::AtWork);
            if !self.seen(session, &mut part.unseen).await? {
                return Ok(End::Unseen);
            }
            if !self.apply(part).await {
                return Ok(End::Failed);
            }
            if fetched < batch {
                return Ok(if part.messages < MESSAGES { End::Drained } else { End::Full });
            }
            if self.stop.is_cancelled() {
                return Ok(End::Stopped);
            }
        }
    }

    /// Waits until others can see these transactions.
    ///
    /// The log has a transaction before others can see it:
    ///
    /// 1. A writer commits: PostgreSQL writes the commit to the log, and may wait for a synchronous standby; 2. this reader reads it,
    ///    and invalidates the key; 3. a lookup loads the row, and still sees the old one; 4. the transaction becomes visible. Nobody
    ///    would invalidate the key again.
    async fn seen(&self, session: &mut Session, xids: &mut Vec<u32>) -> Result<bool, Trouble> {
        let (begun, mut pause) = (Instant::now(), Duration::from_millis(1));
        while !xids.is_empty() {
            let snapshot = session.snapshot().await?;
            xids.retain(|xid| !snapshot.sees(*xid));
            let Some(xid) = xids.first() else { break };
            if begun.elapsed() >= UNSEEN || self.stop.is_cancelled() {
                self.shared.waits(format!(
                    "the transaction {xid} is in the log, but nobody can see it yet: its commit waits for a standby of \
                     `synchronous_standby_names`"
                ));
                return Ok(false);
            }
            sleep(pause).await;
            pause *= 2;
        }
        Ok(true)
    }

    async fn apply(&self, part: &mut Part<'_>) -> bool {
        for rows in part.changes.rows.chunks(TOGETHER) {
            let outcome = self.caches.apply(rows).await;
            for why in outcome.failures() {
                self.shared.cache_failed(why);
            }
            if !outcome.failed.is_empty() {
                return false;
            }
        }
        let landed = part.land();
        self.shared.landed(landed);
        true
    }
}
