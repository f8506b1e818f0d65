//! Creates a slot that is missing, lost, or cannot be followed.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::replication::MissingSlot;
use crate::replication::slot::{Session, SlotState};
use crate::replication::trouble::Trouble;
use crate::replication::work::Worker;

/// How long the creation of a slot may take before the reader says what it waits for.
const SIGN_AFTER: Duration = Duration::from_secs(2);
const WAITS: &str = "the slot is created when the transactions that began before have ended. Which ones run: SELECT pid, xact_start, query \
    FROM pg_stat_activity WHERE backend_xid IS NOT NULL ORDER BY xact_start; SELECT gid, prepared FROM pg_prepared_xacts";

impl Worker {
    /// Creates the slot if the user has asked for that. Otherwise it tells the remedy.
    ///
    /// A new slot knows no earlier change. So the namespaces are cleared, behind the position at which it begins. The slot gets its
    /// name after that: wherever this process is killed, a slot with that name has missed nothing.
    pub(crate) async fn renew(&self, session: &mut Session, state: SlotState) -> Result<(), Trouble> {
        if state == SlotState::Foreign || self.missing == MissingSlot::Refuse {
            return Err(Trouble::Refused(self.remedy(state)));
        }
        if matches!(state, SlotState::Lost | SlotState::Stuck) {
            session.remove().await?;
        }
        self.patiently(async {
            session.create_new().await?;
            self.all_seen(session).await
        })
        .await?;
        self.clear().await?;
        session.keep_new().await?;
        self.shared.created();
        Ok(())
    }

    /// Waits for something that other transactions hold up, and says so if it takes a while.
    async fn patiently<T>(&self, wanted: impl Future<Output = T>) -> T {
        let mut wanted = std::pin::pin!(wanted);
        tokio::select! {
            done = &mut wanted => return done,
            () = sleep(SIGN_AFTER) => {}
        }
        self.shared.waits(WAITS.to_owned());
        wanted.await
    }

    /// Waits for the end of all transactions that run now. Of those that the slot has not got, some may be committed and not visible yet:
    /// a lookup behind the clear would load the row as it was before them.
    async fn all_seen(&self, session: &mut Session) -> Result<(), Trouble> {
        let (begun, now) = (Instant::now(), session.number().await?);
        while session.snapshot().await?.oldest_running < now {
            if begun.elapsed() > self.read_timeout || self.stop.is_cancelled() {
                return Err(Trouble::Refused(WAITS.to_owned()));
            }
            sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    async fn clear(&self) -> Result<(), Trouble> {
        self.invalidate_all(self.caches.names.iter()).await.map_err(|error| {
            let what = format!("clearing the namespaces for a new slot: {error}");
            self.shared.cache_failed(what.clone());
            Trouble::Refused(what)
        })
    }

    pub(crate) fn remedy(&self, state: SlotState) -> String {
        let (slot, namespaces) = (&self.names.slot, self.caches.names.join("`, `"));
        let create = format!("SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')");
        let clear = format!(
            "and clear the namespaces (`{namespaces}`) after that: the slot knows no earlier change. \
             `.missing_slot(MissingSlot::Create)` does both"
        );
        match state {
            SlotState::Foreign => format!(
                "the slot has another plugin than `pgoutput`, belongs to another database, or is temporary: give this reader \
                 another name with `ChangeLog::new`, or remove the slot: SELECT pg_drop_replication_slot('{slot}')"
            ),
            SlotState::Lost => format!(
                "the server has removed log that the slot needed (`max_slot_wal_keep_size`), so changes are lost. Remove the slot, \
                 SELECT pg_drop_replication_slot('{slot}'), create it again, {create}, {clear}"
            ),
            SlotState::Stuck => format!(
                "the slot cannot be followed from where it stands. Remove it, SELECT pg_drop_replication_slot('{slot}'), create it \
                 again, {create}, {clear}"
            ),
            SlotState::Missing | SlotState::Usable { .. } => {
                format!("there is no slot. Create it, {create}, {clear}")
            }
        }
    }
}
