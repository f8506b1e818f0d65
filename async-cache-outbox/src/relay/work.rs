//! The task of a relay: connect, wait for the lead, work, and begin again after a failure.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::database::{Lead, Session, Store};
use crate::relay::CONNECT_TIMEOUT;
use crate::relay::apply::Caches;
use crate::relay::builder::Options;
use crate::relay::pass::{Left, step};
use crate::relay::pause::Pauses;
use crate::relay::stats::{Role, Shared};

/// The shortest time between two looks at the whole table.
const FIGURES_EVERY: Duration = Duration::from_secs(1);

pub(crate) struct Worker {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) caches: Caches,
    pub(crate) options: Options,
    pub(crate) shared: Arc<Shared>,
    pub(crate) stop: CancellationToken,
}

impl Drop for Worker {
    /// Also if the task is aborted or panics: otherwise the metrics would say for ever that this relay is at work.
    fn drop(&mut self) {
        self.shared.role(Role::Ended);
    }
}

impl Worker {
    pub(crate) async fn run(mut self) {
        let mut pauses = Pauses::default();
        while !self.stop.is_cancelled() {
            let Err(error) = self.session(&mut pauses).await else { break };
            self.shared.role(Role::Connecting);
            self.shared.database_failed(&told(&error));
            self.stop.run_until_cancelled(sleep(pauses.next())).await;
        }
    }

    /// Works until the relay is stopped. An error ends the session, and with it the lead.
    async fn session(&mut self, pauses: &mut Pauses) -> sqlx::Result<()> {
        let mut session = step("connecting", self.store.connect(self.options.session_timeout)).await?;
        loop {
            if self.standby(&mut *session).await? == Lead::Elsewhere {
                return Ok(()); // stopped
            }
            step("reviving rows", session.revive()).await?;
            self.shared.role(Role::AtWork);
            pauses.reset();
            self.lead(&mut *session).await?;
            if self.stop.is_cancelled() {
                return step("giving the lead back", session.release()).await;
            }
        }
    }

    /// Waits until this relay is the one at work, or is stopped.
    async fn standby(&self, session: &mut dyn Session) -> sqlx::Result<Lead> {
        while !self.stop.is_cancelled() {
            if step("asking for the lead", session.lead()).await? == Lead::Held {
                return Ok(Lead::Held);
            }
            self.shared.role(Role::Standby);
            self.shared.publish();
            self.stop.run_until_cancelled(sleep(self.options.takeover_interval)).await;
        }
        Ok(Lead::Elsewhere)
    }

    /// Applies rows until the relay is stopped, or has lost the lead.
    async fn lead(&mut self, session: &mut dyn Session) -> sqlx::Result<()> {
        let mut looked: Option<Instant> = None;
        while !self.stop.is_cancelled() {
            if step("keeping the lead", session.lead()).await? == Lead::Elsewhere {
                return Ok(());
            }
            let left = self.pass(session).await?;
            if looked.is_none_or(|looked| looked.elapsed() >= FIGURES_EVERY) {
                self.look(session).await?;
                looked = Some(Instant::now());
            }
            if left == Left::Nothing {
                self.wait(session).await?;
            }
        }
        Ok(())
    }

    async fn look(&self, session: &mut dyn Session) -> sqlx::Result<()> {
        let figures = step("counting rows", session.figures(&self.caches.names)).await?;
        let unknown = match figures.unknown {
            0 => Vec::new(),
            _ => step("reading namespaces", session.unknown_namespaces(&self.caches.names)).await?,
        };
        self.shared.seen(figures, unknown);
        Ok(())
    }

    /// Waits for a reason to look at the table.
    async fn wait(&self, session: &mut dyn Session) -> sqlx::Result<()> {
        let poll = self.options.poll_interval;
        let limit = self.caches.next_ready().map_or(poll, |ready| ready.min(poll));
        tokio::select! {
            waited = session.wait(limit) => waited,
            () = self.shared.woken.notified() => Ok(()),
            () = self.stop.cancelled() => Ok(()),
        }
    }
}

/// The error in words, with the remedy where it is known.
fn told(error: &sqlx::Error) -> String {
    let text = match error {
        sqlx::Error::PoolTimedOut => format!("no connection to the database within {CONNECT_TIMEOUT:?}"),
        other => other.to_string(),
    };
    let missing = ["does not exist", "doesn't exist", "no such table"];
    match missing.iter().any(|words| text.contains(words)) {
        true => format!("{text}: create the table with `Outbox::migrate` or `Outbox::create_table_sql`"),
        false => text,
    }
}
