//! One pass over the table.

use std::time::Duration;

use tokio::time::timeout;

use crate::database::{Page, Row, Session};
use crate::relay::STEP_TIMEOUT;
use crate::relay::apply::Outcome;
use crate::relay::work::Worker;

/// The most pages of a pass. After them the next pass begins at the first row again.
const PAGES: usize = 64;

/// Whether rows may be left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Left {
    /// The pass has seen the last row.
    Nothing,
    /// There are more pages.
    More,
}

impl Worker {
    /// Reads the rows from the first to the last, makes their invalidations, and deletes those that have landed.
    ///
    /// The position is kept within a pass only. A cursor that outlived the pass would lose rows:
    ///
    /// 1. A transaction writes row 5, and does not commit yet; 2. another transaction writes row 6 and commits; 3. the relay
    ///    applies row 6; 4. the first transaction commits. A relay that asked for ids above 6 would never see row 5. The next
    ///    pass does.
    ///
    /// Within a pass the position skips rows that stay, and the remains of deleted rows.
    pub(crate) async fn pass(&mut self, session: &mut dyn Session) -> sqlx::Result<Left> {
        let ready = self.caches.ready();
        if ready.is_empty() {
            return Ok(Left::Nothing);
        }
        let mut after = i64::MIN;
        let mut rows = self.page(session, after, &ready).await?;
        for _ in 0..PAGES {
            let Some(last) = rows.last() else { return Ok(Left::Nothing) };
            after = last.id;
            let full = rows.len() == self.options.batch as usize;
            let next =
                async { if full { self.page(&mut *session, after, &ready).await } else { Ok(Vec::new()) } };
            let (outcome, next) = tokio::join!(self.caches.apply(&rows), next);
            let failed = !outcome.failed.is_empty();
            self.settle(session, &rows, outcome).await?;
            if failed || self.stop.is_cancelled() {
                // The namespaces that are left begin a new pass, without those that have failed.
                return Ok(if failed { Left::More } else { Left::Nothing });
            }
            rows = next?;
            step("keeping the lead", session.lead()).await?;
        }
        Ok(Left::More)
    }

    async fn page(
        &self,
        session: &mut dyn Session,
        after: i64,
        namespaces: &[String],
    ) -> sqlx::Result<Vec<Row>> {
        step("reading rows", session.page(&Page { after, namespaces, limit: self.options.batch })).await
    }

    /// Deletes the rows that have landed, and notes the others.
    async fn settle(
        &mut self,
        session: &mut dyn Session,
        rows: &[Row],
        outcome: Outcome,
    ) -> sqlx::Result<()> {
        let mut tried: Vec<String> = rows.iter().map(|row| row.namespace.clone()).collect();
        tried.sort_unstable();
        tried.dedup();
        self.caches.learn(&tried, &outcome.failed);
        for why in outcome.failures() {
            self.shared.cache_failed(why);
        }
        if !outcome.landed.is_empty() {
            step("deleting rows", session.delete(&outcome.landed)).await?;
            self.shared.applied(outcome.landed.len());
        }
        for (reason, ids) in &outcome.unreadable {
            self.shared.unreadable(format!("{} rows, the first with id {}: {reason}", ids.len(), ids[0]));
            step("noting unreadable rows", session.refuse(ids, reason)).await?;
        }
        Ok(())
    }
}

/// Runs a statement under its deadline. After it the session must be dropped.
pub(crate) async fn step<T>(what: &str, statement: impl Future<Output = sqlx::Result<T>>) -> sqlx::Result<T> {
    within(STEP_TIMEOUT, what, statement).await
}

/// Runs a statement under a deadline. After it the session must be dropped.
pub(crate) async fn within<T>(
    limit: Duration,
    what: &str,
    statement: impl Future<Output = sqlx::Result<T>>,
) -> sqlx::Result<T> {
    timeout(limit, statement).await.unwrap_or_else(|_| {
        let late = format!("{what} took longer than {limit:?}");
        Err(sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, late)))
    })
}
