//! Gaps of the log: changes that were not published, or that somebody else has taken from the slot. The namespaces that depend on
//! them are invalidated.

use std::collections::BTreeSet;

use crate::change::Kind;
use crate::database::Row;
use crate::replication::coverage::{Coverage, open_since_before};
use crate::replication::slot::Session;
use crate::replication::stats::Landed;
use crate::replication::trouble::Trouble;
use crate::replication::watch::{Stop, Unwatched};
use crate::replication::wire::Lsn;
use crate::replication::work::Worker;

/// What a reader remembers over its sessions.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// What the publication covered at the last look.
    coverage: Option<Coverage>,
    /// The position of the slot as this reader has last seen it, or has moved it since. None if another reader may have been at work
    /// since.
    acknowledged: Option<Lsn>,
    gap: Gap,
    /// Since when the end of the log has not been reached, by the clock of the server.
    behind: Option<i64>,
    /// The log before this position has changes of tables that are not watched, and that were published when they were made.
    unwatched: Lsn,
    /// The slot cannot be followed from where it stands.
    pub(crate) is_stuck: bool,
}

/// Namespaces that are to be invalidated.
#[derive(Debug, Default)]
struct Gap {
    namespaces: BTreeSet<String>,
    /// Above the numbers of the transactions that ran when the gap was found.
    number: Option<u64>,
    is_invalidated: bool,
}

/// How it stands with gaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gaps {
    /// The log can be read.
    Closed,
    /// The first invalidation of a gap has landed. The publication may have changed, so it must be checked again.
    Found,
    /// Invalidations have failed. Nothing may be acknowledged.
    Failed,
}

impl Memory {
    /// Another reader is at work. What it does with the slot is no surprise.
    pub(crate) fn stand_by(&mut self) {
        (self.acknowledged, self.behind, self.is_stuck) = (None, None, false);
    }

    /// The slot is new, and the namespaces were cleared when the transactions that ran had ended.
    pub(crate) fn renewed(&mut self) {
        (self.acknowledged, self.unwatched, self.is_stuck) = (None, Lsn::default(), false);
        self.gap = Gap::default();
    }

    /// Since when the end of the log has not been reached. It is `now`, unless a look before has found that, too.
    pub(crate) fn behind_since(&mut self, now: i64) -> i64 {
        *self.behind.get_or_insert(now)
    }

    /// The end of the log is reached.
    pub(crate) fn drained(&mut self) {
        self.behind = None;
    }

    /// This reader is about to acknowledge.
    pub(crate) fn acknowledge(&mut self, to: Lsn) {
        self.acknowledged = self.acknowledged.max(Some(to));
    }

    /// Where the next pass ends, and what it does with changes of tables that are not watched. `from` is where it begins.
    ///
    /// The log before `unwatched` was written before the last check, and that has found every table of the publication watched.
    pub(crate) fn range(&self, from: Lsn, written: Lsn) -> (Lsn, Unwatched) {
        match self.unwatched > from {
            true => (self.unwatched.min(written), Unwatched::Invalidate),
            false => (written, Unwatched::Stop),
        }
    }

    /// Notes what has stopped the reading of the log before this position.
    pub(crate) fn learn(&mut self, trouble: &Trouble, until: Lsn) {
        match trouble {
            Trouble::Stopped(Stop::NotWatched { .. }) => self.unwatched = until,
            trouble => self.is_stuck |= trouble.is_lasting(),
        }
    }

    fn note(&mut self, namespaces: BTreeSet<String>) {
        self.gap.namespaces.extend(namespaces);
        (self.gap.number, self.gap.is_invalidated) = (None, false);
    }
}

impl Worker {
    /// Looks at the publication for the first time. An earlier process may have found a gap, and has not seen its end.
    pub(crate) async fn remember(&self, session: &mut Session, memory: &mut Memory) -> Result<(), Trouble> {
        if memory.coverage.is_none() {
            let coverage = self.coverage(session).await?;
            let open = open_since_before(&mut session.connection, &self.names, &self.watches).await?;
            if !open.is_empty() {
                self.tell(
                    "a transaction is open that is older than what is published of its tables, so its changes may be missing in the log: \
                     the namespaces of these tables are invalidated",
                );
                memory.note(open);
            }
            memory.coverage = Some(coverage);
        }
        Ok(())
    }

    async fn coverage(&self, session: &mut Session) -> Result<Coverage, Trouble> {
        Coverage::read(&mut session.connection, &self.names, &self.watches).await
    }

    /// Looks for gaps, and invalidates the namespaces that depend on them. Called behind a look at the end of the log, so that a gap
    /// before that end is found before the log is acknowledged.
    pub(crate) async fn close_gaps(
        &self,
        session: &mut Session,
        memory: &mut Memory,
        confirmed: Lsn,
    ) -> Result<Gaps, Trouble> {
        let coverage = self.coverage(session).await?;
        let before = memory.coverage.replace(coverage.clone());
        let changed = before.map(|before| coverage.changed_since(&before, &self.watches)).unwrap_or_default();
        if !changed.is_empty() {
            self.tell(
                "the publication or its tables have changed, so changes may be missing in the log: the namespaces of these tables are \
                 invalidated",
            );
            memory.note(changed);
        }
        if memory.acknowledged.replace(confirmed).is_some_and(|acknowledged| confirmed > acknowledged) {
            self.tell("somebody else has moved the slot or created it again, so changes are lost: the namespaces are invalidated");
            memory.note(self.caches.names.iter().cloned().collect());
        }
        self.invalidate_gap(session, &mut memory.gap).await
    }

    fn tell(&self, reason: &str) {
        self.shared.landed(Landed { reason: Some(reason.to_owned()), ..Landed::default() });
    }

    /// Invalidates the namespaces of a gap when it was found, and again when the transactions that ran then have ended:
    ///
    /// 1. A transaction changes a row of a table that is not published; 2. the table is published; 3. this reader finds the gap, and
    ///    invalidates the namespace; 4. a lookup loads the old row; 5. the transaction is committed, and its change is not in the log.
    async fn invalidate_gap(&self, session: &mut Session, gap: &mut Gap) -> Result<Gaps, Trouble> {
        if gap.namespaces.is_empty() {
            return Ok(Gaps::Closed);
        }
        let number = match gap.number {
            Some(number) => number,
            None => *gap.number.insert(session.number().await?),
        };
        let have_ended = session.snapshot().await?.oldest_running >= number;
        let is_found = !std::mem::replace(&mut gap.is_invalidated, true);
        if (is_found || have_ended)
            && let Err(error) = self.invalidate_all(gap.namespaces.iter()).await
        {
            self.shared.cache_failed(error);
            gap.is_invalidated = !is_found;
            return Ok(Gaps::Failed);
        }
        if have_ended {
            *gap = Gap::default();
        }
        Ok(if is_found { Gaps::Found } else { Gaps::Closed })
    }

    /// Invalidates whole namespaces.
    pub(crate) async fn invalidate_all(
        &self,
        namespaces: impl Iterator<Item = &String>,
    ) -> Result<(), String> {
        let all = |namespace: &String| Row {
            id: 0,
            namespace: namespace.clone(),
            kind: Kind::All.text().to_owned(),
            data: Vec::new(),
        };
        let rows: Vec<Row> = namespaces.map(all).collect();
        match self.caches.apply(&rows).await.failed.first() {
            None => Ok(()),
            Some((_, error)) => Err(format!("{error:#}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn while_another_reader_works_this_one_is_not_behind() {
        let mut memory = Memory::default();
        assert_eq!((memory.behind_since(5), memory.behind_since(7)), (5, 5));
        memory.stand_by();
        assert_eq!(memory.behind_since(9), 9);
    }

    #[test]
    fn a_pass_ends_at_the_end_of_the_log() {
        let mut memory = Memory::default();
        let stop = Stop::NotWatched { table: "\"public\".\"teams\"".to_owned(), remedy: "" };
        memory.learn(&Trouble::Stopped(stop), Lsn(10));
        assert_eq!(memory.range(Lsn(3), Lsn(20)), (Lsn(10), Unwatched::Invalidate));
        assert_eq!(memory.range(Lsn(10), Lsn(20)), (Lsn(20), Unwatched::Stop));
        // The server has crashed, and lost what was not on disk.
        assert_eq!(memory.range(Lsn(3), Lsn(5)), (Lsn(5), Unwatched::Invalidate));
    }
}
