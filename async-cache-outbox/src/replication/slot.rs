//! The statements on a replication slot: one connection, and an advisory lock for the lead.

use std::time::Duration;

use futures_util::TryStreamExt;
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, PgConnection, PgPool, Row as _};
use tokio::runtime::{Handle, RuntimeFlavor};

use crate::database::Lead;
use crate::database::postgres::{SLOT_LOCK_CLASS, single};
use crate::relay::pass::{step, within};
use crate::replication::LogNames;
use crate::replication::trouble::Trouble;
use crate::replication::wire::Lsn;

/// The shortest limit for a transaction of this session that waits for Redis.
const SHORTEST_WAIT: Duration = Duration::from_secs(60);
/// The catalog is searched first, whatever the settings of the user say. Then their schemas, for the tables without a schema.
const OWN_CATALOG: &str = "SELECT pg_catalog.set_config('search_path', pg_catalog.concat_ws(', ', 'pg_catalog', \
    (SELECT pg_catalog.string_agg(pg_catalog.quote_ident(name), ', ') \
    FROM pg_catalog.unnest(pg_catalog.current_schemas(false)) AS name)), false)";
/// The most messages that are handed over together, and about the most of their bytes.
const MESSAGES_TOGETHER: usize = 64;
const BYTES_TOGETHER: usize = 1 << 20;
/// The cursor over the messages.
const CURSOR: &str = "async_cache_log";

/// One connection of a reader. After an error it is dropped, and with it the lead.
pub(crate) struct Session {
    pub(crate) connection: PgConnection,
    pub(crate) names: LogNames,
    /// How long the server may need to read the log.
    read_timeout: Duration,
    lead: Lead,
}

/// The server and the slot, at one moment.
#[derive(Debug, Clone)]
pub(crate) struct View {
    /// Everything before this position is on disk.
    pub(crate) written: Lsn,
    /// The server's clock, in microseconds since 2000.
    pub(crate) now: i64,
    pub(crate) slot: SlotState,
}

/// The state of the slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SlotState {
    Missing,
    /// Of another plugin or database.
    Foreign,
    /// The server has removed log that the slot still needed.
    Lost,
    /// The server cannot send what is behind its position. The caller finds that out.
    Stuck,
    /// `confirmed`: the changes before it are acknowledged. `kept`: the server keeps its log from here on.
    Usable {
        confirmed: Lsn,
        kept: Lsn,
    },
}

impl SlotState {
    /// The position up to which the changes are acknowledged, if the slot is usable.
    pub(crate) fn confirmed(self) -> Option<Lsn> {
        match self {
            Self::Usable { confirmed, .. } => Some(confirmed),
            Self::Missing | Self::Foreign | Self::Lost | Self::Stuck => None,
        }
    }
}

impl Session {
    /// Connects. After a silence of `session_timeout` the server ends the session.
    pub(crate) async fn connect(
        pool: &PgPool,
        names: LogNames,
        session_timeout: Duration,
        read_timeout: Duration,
    ) -> sqlx::Result<Self> {
        let mut connection = single(pool).acquire().await?.detach();
        sqlx::raw_sql(OWN_CATALOG).execute(&mut connection).await?;
        let silence = session_timeout.as_millis();
        let waiting = session_timeout.max(SHORTEST_WAIT).as_millis();
        // Servers before version 14 do not have all of these. The last one ends the reading of the log for a process that is gone.
        let settings = format!(
            "SELECT set_config(s.name, wanted.value, false) FROM pg_settings s JOIN (VALUES \
             ('idle_session_timeout', '{silence}'), ('idle_in_transaction_session_timeout', '{waiting}'), \
             ('statement_timeout', '0'), ('jit', 'off'), ('client_connection_check_interval', '1000')) AS wanted (name, value) \
             ON s.name = wanted.name"
        );
        sqlx::raw_sql(AssertSqlSafe(settings)).execute(&mut connection).await?;
        Ok(Self { connection, names, read_timeout, lead: Lead::Elsewhere })
    }

    async fn run(&mut self, what: &str, sql: String) -> sqlx::Result<()> {
        let done = sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut self.connection);
        within(self.read_timeout, what, done).await.map(drop)
    }

    fn lock(&self, function: &str) -> String {
        format!("SELECT {function}({SLOT_LOCK_CLASS}, hashtext('{}'))", self.names.slot)
    }

    /// Tries to become the one reader at work. The lock ends with the connection, so it needs no renewal.
    pub(crate) async fn lead(&mut self) -> sqlx::Result<Lead> {
        if self.lead == Lead::Elsewhere {
            let ask = AssertSqlSafe(self.lock("pg_try_advisory_lock"));
            let taken = sqlx::query_scalar(ask).fetch_one(&mut self.connection);
            if step("asking for the lead", taken).await? {
                self.lead = Lead::Held;
            }
        }
        Ok(self.lead)
    }

    /// Gives the lead back.
    pub(crate) async fn release(&mut self) -> sqlx::Result<()> {
        self.lead = Lead::Elsewhere;
        self.run("giving the lead back", self.lock("pg_advisory_unlock")).await
    }

    /// Looks at the slot.
    pub(crate) async fn look(&mut self) -> sqlx::Result<View> {
        let sql = "SELECT pg_wal_lsn_diff(pg_current_wal_flush_lsn(), '0/0')::bigint, \
                   ((extract(epoch FROM clock_timestamp()) - 946684800) * 1000000)::bigint, \
                   s.plugin = 'pgoutput' AND s.database = current_database() AND NOT s.temporary, \
                   s.slot_name IS NOT NULL, s.wal_status = 'lost', \
                   pg_wal_lsn_diff(s.confirmed_flush_lsn, '0/0')::bigint, \
                   pg_wal_lsn_diff(s.restart_lsn, '0/0')::bigint \
                   FROM (SELECT 1) AS one LEFT JOIN pg_replication_slots s ON s.slot_name = $1";
        let row = sqlx::query(sql).bind(&self.names.slot).fetch_one(&mut self.connection);
        let row: PgRow = step("looking at the slot", row).await?;
        let lsn = |bytes: Option<i64>| bytes.map(|bytes| Lsn(bytes.cast_unsigned()));
        let (own, exists): (Option<bool>, bool) = (row.try_get(2)?, row.try_get(3)?);
        let lost: Option<bool> = row.try_get(4)?;
        let slot = match (exists, own, lsn(row.try_get(5)?), lsn(row.try_get(6)?)) {
            (false, ..) => SlotState::Missing,
            (true, Some(true), Some(confirmed), Some(kept)) if lost != Some(true) => {
                SlotState::Usable { confirmed, kept }
            }
            (true, Some(true), ..) => SlotState::Lost,
            (true, ..) => SlotState::Foreign,
        };
        Ok(View { written: lsn(row.try_get(0)?).unwrap_or_default(), now: row.try_get(1)?, slot })
    }

    /// Opens a cursor over the messages of the transactions that were committed before `until`. After `most` messages it ends
    /// with the transaction under way. Nothing is consumed.
    ///
    /// The server collects the messages, on disk if they are many. So neither side holds a large transaction in memory.
    pub(crate) async fn open(&mut self, until: Lsn, most: u32) -> sqlx::Result<()> {
        let LogNames { slot, publication } = &self.names;
        let sql = format!(
            "BEGIN ISOLATION LEVEL READ COMMITTED; DECLARE {CURSOR} NO SCROLL CURSOR FOR SELECT data FROM \
             pg_logical_slot_peek_binary_changes('{slot}', '{until}', {most}, \
             'proto_version', '1', 'publication_names', '\"{publication}\"')"
        );
        self.run("opening the log", sql).await
    }

    /// Hands over the next messages, `most` of them. Returns how many there were.
    pub(crate) async fn fetch(
        &mut self,
        most: u32,
        take: &mut (dyn FnMut(&[u8]) -> Result<(), Trouble> + Send),
    ) -> Result<u32, Trouble> {
        let sql = AssertSqlSafe(format!("FETCH {most} FROM {CURSOR}"));
        let mut rows = sqlx::query(sql).persistent(false).fetch(&mut self.connection);
        let (mut count, mut bytes, mut waiting) = (0, 0, Vec::with_capacity(MESSAGES_TOGETHER));
        loop {
            let row = within(self.read_timeout, "reading the log", rows.try_next()).await?;
            let is_end = row.is_none();
            if let Some(row) = row {
                bytes += row.try_get::<&[u8], _>(0)?.len();
                waiting.push(row);
                count += 1;
            }
            let is_full = waiting.len() == MESSAGES_TOGETHER || bytes >= BYTES_TOGETHER;
            if is_full || (is_end && !waiting.is_empty()) {
                may_block(|| waiting.drain(..).try_for_each(|row: PgRow| take(row.try_get(0)?)))?;
                bytes = 0;
            }
            if is_end {
                return Ok(count);
            }
        }
    }

    /// Closes the cursor.
    pub(crate) async fn close(&mut self) -> sqlx::Result<()> {
        self.run("closing the log", "COMMIT".to_owned()).await
    }

    /// Which transactions have ended for everybody.
    pub(crate) async fn snapshot(&mut self) -> Result<Snapshot, Trouble> {
        let sql = "SELECT pg_current_snapshot()::text";
        let text: String =
            step("reading a snapshot", sqlx::query_scalar(sql).fetch_one(&mut self.connection)).await?;
        Snapshot::read(&text)
            .ok_or_else(|| Trouble::Refused(format!("`{text}` is no snapshot that is known")))
    }

    /// A number of a transaction above those of all that run. The `next` of a snapshot is no such number: transactions that began
    /// after the last one that has ended are above it.
    pub(crate) async fn number(&mut self) -> Result<u64, Trouble> {
        let sql = "SELECT pg_current_xact_id()::text";
        let text: String =
            step("reading a number", sqlx::query_scalar(sql).fetch_one(&mut self.connection)).await?;
        text.parse().map_err(|_| Trouble::Refused(format!("`{text}` is no number of a transaction")))
    }

    /// Acknowledges the changes before this position. The server writes it to disk with its next checkpoint; after a crash it may
    /// remember an older one.
    pub(crate) async fn advance(&mut self, to: Lsn) -> sqlx::Result<()> {
        let slot = &self.names.slot;
        let sql = format!("SELECT 1 FROM pg_replication_slot_advance('{slot}', '{to}')");
        self.run("acknowledging changes", sql).await
    }

    /// The slot that [`keep_new`](Self::keep_new) copies.
    fn new_slot(&self) -> String {
        format!("{}_new", self.names.slot)
    }

    /// Creates a slot that ends with this session. The server waits for the transactions under way.
    pub(crate) async fn create_new(&mut self) -> sqlx::Result<()> {
        let sql = format!(
            "SELECT 1 FROM pg_create_logical_replication_slot('{}', 'pgoutput', true)",
            self.new_slot()
        );
        self.run("creating the slot", sql).await
    }

    /// Makes the slot a lasting one, under its name.
    pub(crate) async fn keep_new(&mut self) -> sqlx::Result<()> {
        let (new, slot) = (self.new_slot(), &self.names.slot);
        let copy = format!("SELECT 1 FROM pg_copy_logical_replication_slot('{new}', '{slot}', false)");
        self.run("creating the slot", copy).await?;
        self.run("creating the slot", format!("SELECT pg_drop_replication_slot('{new}')")).await
    }

    /// Removes the slot.
    pub(crate) async fn remove(&mut self) -> sqlx::Result<()> {
        let sql = format!("SELECT pg_drop_replication_slot('{}')", self.names.slot);
        self.run("removing the slot", sql).await
    }
}

/// The transactions whose end other sessions can see.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Snapshot {
    /// All before this one have ended.
    pub(crate) oldest_running: u64,
    /// This one and those behind it cannot be seen.
    next: u64,
    running: Vec<u64>,
}

impl Snapshot {
    /// Reads `xmin:xmax:xip,..`.
    fn read(text: &str) -> Option<Self> {
        let mut parts = text.split(':');
        let mut number = || parts.next()?.parse().ok();
        let (oldest_running, next) = (number()?, number()?);
        let running = parts.next()?.split(',').filter(|part| !part.is_empty());
        let running = running.map(|part| part.parse().ok()).collect::<Option<_>>()?;
        Some(Self { oldest_running, next, running })
    }

    /// Whether a transaction that was committed can be seen. The log has the lower half of its number.
    pub(crate) fn sees(&self, xid: u32) -> bool {
        let low = |number: u64| number as u32;
        let is_older = xid.wrapping_sub(low(self.next)).cast_signed() < 0;
        is_older && !self.running.iter().any(|running| low(*running) == xid)
    }
}

/// Runs code of the user, which may block its thread. The runtime's other tasks and timers go on, so that the limit of
/// [`Task::shutdown`](crate::task::Task::shutdown) holds. On a runtime of one thread nothing can go on.
fn may_block<T>(code: impl FnOnce() -> T) -> T {
    match Handle::current().runtime_flavor() {
        RuntimeFlavor::MultiThread => tokio::task::block_in_place(code),
        _ => code(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_tells_which_transactions_have_ended() {
        let snapshot = Snapshot::read("731:735:731,733").unwrap();
        let seen: Vec<u32> = (729..737).filter(|xid| snapshot.sees(*xid)).collect();
        assert_eq!(seen, [729, 730, 732, 734]);
        // The numbers of the log begin again after 2^32.
        let next = (5_u64 << 32) + 2;
        let snapshot = Snapshot::read(&format!("{}:{next}:{}", next - 4, next - 4)).unwrap();
        let seen: Vec<u32> = [u32::MAX - 2, u32::MAX - 1, u32::MAX, 0, 1, 2, 3].into();
        let seen: Vec<u32> = seen.into_iter().filter(|xid| snapshot.sees(*xid)).collect();
        assert_eq!(seen, [u32::MAX - 2, u32::MAX, 0, 1]);
        assert_eq!(Snapshot::read("731:731:").map(|snapshot| snapshot.running), Some(Vec::new()));
        assert_eq!(Snapshot::read("731:731"), None);
    }
}
