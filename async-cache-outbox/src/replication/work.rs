//! The task of a log reader: connect, wait for the lead, work, and begin again after a failure.

use std::sync::Arc;
use std::time::Duration;

use sqlx::PgPool;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::database::Lead;
use crate::relay::apply::Caches;
use crate::relay::builder::Options;
use crate::relay::pass::step;
use crate::relay::pause::Pauses;
use crate::relay::stats::Role;
use crate::replication::check::check;
use crate::replication::gaps::Memory;
use crate::replication::pass::{Next, State};
use crate::replication::slot::{Session, SlotState};
use crate::replication::stats::Shared;
use crate::replication::trouble::{Trouble, told};
use crate::replication::watch::Watch;
use crate::replication::{LogNames, MissingSlot};

/// How often a reader looks whether the publication is still as it must be.
const CHECK_EVERY: Duration = Duration::from_secs(10);

pub(crate) struct Worker {
    pub(crate) pool: PgPool,
    pub(crate) names: LogNames,
    pub(crate) watches: Vec<Watch>,
    pub(crate) caches: Caches,
    pub(crate) options: Options,
    pub(crate) read_timeout: Duration,
    pub(crate) missing: MissingSlot,
    pub(crate) shared: Arc<Shared>,
    pub(crate) stop: CancellationToken,
}

impl Drop for Worker {
    /// Also if the task is aborted or panics: otherwise the metrics would say for ever that this reader is at work.
    fn drop(&mut self) {
        self.shared.role(Role::Ended);
    }
}

impl Worker {
    pub(crate) async fn run(self) {
        let (mut pauses, mut memory) = (Pauses::default(), Memory::default());
        while !self.stop.is_cancelled() {
            let Err(trouble) = self.session(&mut pauses, &mut memory).await else { break };
            self.shared.role(Role::Connecting);
            self.shared.database_failed(&self.told(&trouble));
            self.stop.run_until_cancelled(sleep(pauses.next())).await;
        }
    }

    fn told(&self, trouble: &Trouble) -> String {
        match trouble.is_lasting() {
            true => format!("{}: {}", told(trouble), self.remedy(SlotState::Stuck)),
            false => told(trouble),
        }
    }

    /// Works until the reader is stopped. An error ends the session, and with it the lead.
    async fn session(&self, pauses: &mut Pauses, memory: &mut Memory) -> Result<(), Trouble> {
        let (names, silence) = (self.names.clone(), self.options.session_timeout);
        let connect = Session::connect(&self.pool, names, silence, self.read_timeout);
        let mut session = step("connecting", connect).await?;
        self.remember(&mut session, memory).await?;
        while !self.stop.is_cancelled() {
            if session.lead().await? == Lead::Held {
                self.lead(&mut session, pauses, memory).await?;
                return Ok(session.release().await?);
            }
            self.shared.role(Role::Standby);
            memory.stand_by();
            self.shared.publish();
            self.stop.run_until_cancelled(sleep(self.options.takeover_interval)).await;
        }
        Ok(())
    }

    /// Applies changes until the reader is stopped.
    async fn lead(
        &self,
        session: &mut Session,
        pauses: &mut Pauses,
        memory: &mut Memory,
    ) -> Result<(), Trouble> {
        let mut state = State::default();
        while !self.stop.is_cancelled() {
            // Before the check, so that a reader that is refused also tells what the server keeps for it.
            let view = session.look().await?;
            let behind = memory.behind_since(view.now);
            self.see(&view, Some(state.oldest.map_or(behind, |oldest| oldest.min(behind))));
            let (checked, tables) =
                (Instant::now(), check(&mut session.connection, &self.names, &self.watches).await?);
            while !self.stop.is_cancelled() && checked.elapsed() < CHECK_EVERY {
                let next = self.pass(session, &tables, &mut state, memory).await?;
                pauses.reset();
                if next == Next::Wait && state.is_drained() {
                    memory.drained();
                }
                match next {
                    Next::Check => break,
                    Next::Wait => self.wait(&state).await,
                    Next::More => {}
                }
            }
        }
        Ok(())
    }

    /// Waits for a reason to look at the log.
    async fn wait(&self, state: &State) {
        let limit = state.pauses.left().unwrap_or(self.options.poll_interval);
        tokio::select! {
            () = sleep(limit) => {}
            () = self.shared.woken.notified() => {}
            () = self.stop.cancelled() => {}
        }
    }
}
