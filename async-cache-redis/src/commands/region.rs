//! One namespace: each operation one command, one script or one pipeline.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_cache_core::backend::{
    Acquire, Acquired, Announce, Baseline, Fill, Filled, Lease, Pulse, Read, ReadMany, Region, RegionSpec,
    Renewed, State, TAG_TABLE,
};
use async_cache_core::key::Key;
use async_cache_core::{Error, ErrorKind, Result, Tags};
use async_trait::async_trait;
use bytes::Bytes;
use redis::{Cmd, RedisError, RedisResult, Value};

use crate::commands::calls::{acquired, filled, renewed};
use crate::commands::orphan::Orphan;
use crate::connection::failure::{Fault, said};
use crate::connection::rights;
use crate::connection::slots::{Line, Purpose};
use crate::inner::Shared;
use crate::keys::{Home, ValueName};
use crate::pubsub::bus::Member;

/// Longest life of a value: Redis refuses expiries whose sum with its clock overflows.
const MAX_LIFE: Duration = Duration::from_secs(100 * 366 * 24 * 3600);

/// How long a load may take before its tagged value is refused for what the tag table has dropped.
const LOAD: Duration = Duration::from_secs(60);

/// Tags and their numbers, as a hash is answered by a script.
type TagList = Vec<(Vec<u8>, u64)>;

pub(crate) struct RedisRegion {
    pub(crate) shared: Arc<Shared>,
    pub(crate) spec: RegionSpec,
    /// What is kept in `M`: the caller's record and the number of partitions.
    record: String,
    pub(crate) node: String,
    pub(crate) homes: Vec<Home>,
    member: Arc<Member>,
    /// The record has been compared in partition 0.
    checked: AtomicBool,
    /// Another region may have its name since.
    closed: AtomicBool,
}

impl RedisRegion {
    pub(crate) fn new(shared: Arc<Shared>, spec: RegionSpec, homes: Vec<Home>, member: Arc<Member>) -> Self {
        let record = format!("{};partitions={}", spec.record, homes.len());
        let node = spec.node.to_string();
        Self {
            shared,
            spec,
            record,
            node,
            homes,
            member,
            checked: AtomicBool::new(false),
            closed: AtomicBool::new(false),
        }
    }

    pub(crate) fn home(&self, key: &Key) -> &Home {
        &self.homes[usize::from(key.partition(self.partitions()))]
    }

    fn home_of(&self, partition: u16) -> Result<&Home> {
        self.homes.get(usize::from(partition)).ok_or_else(|| {
            let count = self.homes.len();
            let message = format!("partition {partition} does not exist: there are {count}");
            Error::new(ErrorKind::Config, message).in_namespace(&self.spec.namespace)
        })
    }

    /// A connection for one operation.
    ///
    /// Nodes with different numbers of partitions share partition 0 only, so that is where they
    /// find out: it is visited before anything is done to another.
    pub(crate) async fn line(&self, purpose: Purpose, doing: &str) -> Result<Line<'_>> {
        let line = self.pick(purpose, doing).await?;
        if self.homes.len() > 1 && !self.checked.load(Ordering::Relaxed) {
            self.read_state(&line, 0).await.map_err(|fault| self.error(doing, fault))?;
            self.checked.store(true, Ordering::Relaxed);
        }
        Ok(line)
    }

    pub(crate) async fn pick(&self, purpose: Purpose, doing: &str) -> Result<Line<'_>> {
        self.shared.connected(purpose).await;
        self.shared.slots.pick(purpose).map_err(|fault| self.error(doing, fault))
    }

    /// The call of a script about one key, ready for its own arguments.
    pub(crate) fn key_call(&self, line: &Line<'_>, script: &redis::Script, key: &Key) -> Cmd {
        let partition = key.partition(self.partitions());
        self.call(line, script, partition, &self.home(key).of_key(key))
    }

    /// The call of a script about a partition, ready for its own arguments.
    fn call(
        &self,
        line: &Line<'_>,
        script: &redis::Script,
        partition: u16,
        keys: &[impl AsRef<[u8]>],
    ) -> Cmd {
        line.link.call(script, keys, (&self.record, self.spec.known.seq(partition)))
    }

    async fn script<T: redis::FromRedisValue>(
        &self,
        doing: &str,
        line: &Line<'_>,
        script: &redis::Script,
        call: &Cmd,
    ) -> Result<T> {
        line.answer(line.link.script(script, call)).await.map_err(|fault| self.error(doing, fault))
    }

    async fn read_state(&self, line: &Line<'_>, partition: u16) -> Result<(u64, u64, u64), Fault> {
        let meta = [self.homes[usize::from(partition)].meta()];
        let call = self.call(line, &self.shared.scripts.state, partition, &meta);
        line.answer(line.link.script(&self.shared.scripts.state, &call)).await
    }

    /// Says what was being done, and what can be done about it.
    pub(crate) fn error(&self, doing: &str, fault: Fault) -> Error {
        let server = &self.shared.server;
        let backend = |what: String| Error::new(ErrorKind::Backend, what);
        let error = match fault {
            Fault::Down(outage) if outage.lasting => Error::new(
                ErrorKind::Config,
                format!(
                    "{doing}: not tried, Redis at {server} cannot be used with these settings ({})",
                    outage.cause
                ),
            )
            .because(outage.cause),
            Fault::Down(outage) => backend(format!(
                "{doing}: not tried, Redis at {server} has been unreachable for {:.1?}",
                outage.since.elapsed()
            ))
            .because(outage.cause),
            Fault::Timeout(limit) => backend(format!(
                "{doing}: Redis at {server} did not answer within {limit:?}; the command may yet be executed"
            )),
            Fault::Broken(cause) => {
                backend(format!("{doing}: the connection to Redis at {server} was lost")).because(cause)
            }
            Fault::Forbidden(cause) => Error::new(
                ErrorKind::Config,
                format!(
                    "{doing}: Redis at {server} does not permit it to this user; {}",
                    rights::remedy(&self.spec.namespace)
                ),
            )
            .because(cause),
            Fault::Refused { code, detail, cause } => match code.as_str() {
                "BADRECORD" => Error::new(
                    ErrorKind::Config,
                    format!(
                        "{doing}: this node is built as `{}`, the namespace in Redis as `{detail}`; use another \
                         namespace, or if it is the same type under another name `.schema(\"..\")` with the one it \
                         had, or delete the key `{}` in Redis once no node uses the old one",
                        self.record,
                        String::from_utf8_lossy(self.homes[0].meta()),
                    ),
                ),
                "BADSTATE" => Error::new(
                    ErrorKind::Config,
                    format!(
                        "{doing}: the key `{detail}` in Redis is not a hash, so another program uses it; delete \
                         it or use another namespace"
                    ),
                ),
                "LATE" => backend(format!("{doing}: expired before it was executed, nothing was changed"))
                    .with_known_effect(),
                // Both are said to the first write of a script.
                "OOM" => {
                    backend(format!("{doing}: Redis at {server} has no memory left, nothing was changed"))
                        .because(cause)
                        .with_known_effect()
                }
                "MISCONF" => backend(format!(
                    "{doing}: Redis at {server} cannot write to its disk, nothing was changed"
                ))
                .because(cause)
                .with_known_effect(),
                _ => backend(format!("{doing}: Redis at {server} answered with an error")).because(cause),
            },
        };
        error.in_namespace(&self.spec.namespace)
    }

    /// An answer that no version of our scripts gives.
    pub(crate) fn nonsense(&self, doing: &str) -> Error {
        let message = format!("{doing}: Redis at {} gave an answer of another shape", self.shared.server);
        Error::new(ErrorKind::Backend, message).in_namespace(&self.spec.namespace)
    }
}

/// Redis' unit for spans; at least one.
pub(crate) fn millis(span: Duration) -> u64 {
    u64::try_from(span.min(MAX_LIFE).as_millis()).unwrap_or(u64::MAX).max(1)
}

/// A stored value; a wrong type is an absent one.
pub(crate) fn stored(answer: RedisResult<Value>) -> RedisResult<Option<Bytes>> {
    match answer {
        Ok(value) => Ok(bytes(value)),
        Err(error) if wrong_type(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A stored value, of a command that answers nothing for a wrong type.
pub(crate) fn bytes(value: Value) -> Option<Bytes> {
    match value {
        Value::BulkString(bytes) => Some(bytes.into()),
        _ => None,
    }
}

fn wrong_type(error: &RedisError) -> bool {
    said(error).0 == "WRONGTYPE"
}

#[async_trait]
impl Region for RedisRegion {
    fn partitions(&self) -> u16 {
        // At most 1024, see the builder.
        self.homes.len() as u16
    }

    fn close(&self) {
        if !self.closed.swap(true, Ordering::AcqRel) {
            self.shared.bus.leave(&self.member);
            self.shared.names.lock().remove(&self.spec.namespace);
        }
    }

    fn available(&self) -> bool {
        self.shared.slots.available()
    }

    fn command_timeout(&self) -> Duration {
        self.shared.slots.deadlines.write
    }

    async fn get(&self, key: &Key) -> Result<Read> {
        const DOING: &str = "reading a value";
        self.shared.connected(Purpose::Read).await;
        let line = self.shared.slots.meet().map_err(|fault| self.error(DOING, fault))?;
        let name = ValueName { home: self.home(key), key };
        let value = line.read(&name).await.map_err(|fault| self.error(DOING, fault))?;
        Ok(Read { run: line.link.run, value })
    }

    async fn get_many(&self, keys: &[Key]) -> Result<ReadMany> {
        match self.read_many(keys).await {
            // What MGET may not read, scripts may.
            Err(error) if error.kind() == ErrorKind::Config => self.read_many_valid(keys).await,
            read => read,
        }
    }

    async fn get_valid(&self, key: &Key) -> Result<Read> {
        const DOING: &str = "reading a value";
        let line = self.line(Purpose::Read, DOING).await?;
        let call = self.key_call(&line, &self.shared.scripts.get_valid, key);
        let value: Value = self.script(DOING, &line, &self.shared.scripts.get_valid, &call).await?;
        Ok(Read { run: line.link.run, value: bytes(value) })
    }

    async fn get_many_valid(&self, keys: &[Key]) -> Result<ReadMany> {
        self.read_many_valid(keys).await
    }

    async fn state(&self, partition: u16) -> Result<State> {
        const DOING: &str = "reading the state of the namespace";
        self.home_of(partition)?;
        let line = self.line(Purpose::Read, DOING).await?;
        let (seq, floor, time_ms) =
            self.read_state(&line, partition).await.map_err(|fault| self.error(DOING, fault))?;
        Ok(State { run: line.link.run, seq, floor, time_ms })
    }

    async fn baseline(&self, partition: u16) -> Result<Baseline> {
        const DOING: &str = "reading the state and the tags of the namespace";
        let home = self.home_of(partition)?;
        let line = self.line(Purpose::Read, DOING).await?;
        let call = self.call(&line, &self.shared.scripts.baseline, partition, &home.with_tags());
        let (seq, floor, time_ms, tag_floor, young, old): (_, _, _, _, TagList, TagList) =
            self.script(DOING, &line, &self.shared.scripts.baseline, &call).await?;
        let tags = young.into_iter().chain(old).filter(|(tag, _)| !tag.is_empty());
        let tags = tags.map(|(tag, seq)| (tag.into(), seq)).collect();
        Ok(Baseline { state: State { run: line.link.run, seq, floor, time_ms }, tag_floor, tags })
    }

    async fn acquire(&self, key: &Key, ask: Acquire) -> Result<Acquired> {
        const DOING: &str = "asking for a value or the lease to load it";
        let line = self.line(Purpose::Read, DOING).await?;
        let call = self.acquire_call(&line, key, &ask);
        let orphan = Orphan::new(&self.shared, &line.link, vec![self.release_call(&line, key, ask.token)]);
        let answer: Result<Vec<Value>> = self.script(DOING, &line, &self.shared.scripts.acquire, &call).await;
        let temporary = answer.as_ref().is_err_and(Error::is_temporary);
        if !temporary {
            orphan.settled();
        }
        acquired(answer?, ask.token).ok_or_else(|| self.nonsense(DOING))
    }

    async fn acquire_many(&self, asks: &[(Key, Acquire)]) -> Vec<Result<Acquired>> {
        self.ask_many(asks).await
    }

    async fn fill_many(&self, fills: &[Fill]) -> Vec<Result<Filled>> {
        self.store_many(fills).await
    }

    async fn renew_many(&self, leases: &[(Key, Lease)], ttl: Duration) -> Result<Vec<Renewed>> {
        self.extend_many(leases, ttl).await
    }

    async fn release_many(&self, leases: &[(Key, Lease)]) -> Result<()> {
        self.give_back_many(leases).await
    }

    async fn fill(
        &self,
        key: &Key,
        lease: Lease,
        frame: Bytes,
        life: Duration,
        announce: Announce,
    ) -> Result<Filled> {
        const DOING: &str = "storing a loaded value";
        let line = self.line(Purpose::Write, DOING).await?;
        let call = self.fill_call(&line, key, &lease, &frame, life, announce);
        Ok(filled(self.script(DOING, &line, &self.shared.scripts.fill, &call).await?))
    }

    async fn renew(&self, key: &Key, lease: Lease, ttl: Duration) -> Result<Renewed> {
        const DOING: &str = "renewing a lease";
        let line = self.line(Purpose::Write, DOING).await?;
        let call = self.renew_call(&line, key, &lease, ttl);
        Ok(renewed(self.script(DOING, &line, &self.shared.scripts.renew, &call).await?))
    }

    async fn release(&self, key: &Key, lease: Lease) -> Result<()> {
        const DOING: &str = "releasing a lease";
        let line = self.line(Purpose::Write, DOING).await?;
        let call = self.release_call(&line, key, lease.token);
        self.script(DOING, &line, &self.shared.scripts.release, &call).await
    }

    async fn put(&self, entries: &[(Key, Bytes)], life: Duration, not_after_ms: u64) -> Result<Vec<u64>> {
        self.put_many(entries, life, not_after_ms).await
    }

    async fn invalidate(&self, keys: &[Key]) -> Result<Vec<u64>> {
        self.invalidate_many(keys).await
    }

    async fn clear(&self, partition: u16) -> Result<u64> {
        const DOING: &str = "clearing the namespace";
        let home = self.home_of(partition)?;
        let line = self.line(Purpose::Write, DOING).await?;
        let call = self.call(&line, &self.shared.scripts.clear, partition, &home.with_tags());
        self.script(DOING, &line, &self.shared.scripts.clear, &call).await
    }

    async fn invalidate_tags(&self, partition: u16, tags: &Tags) -> Result<u64> {
        const DOING: &str = "invalidating tags";
        let home = self.home_of(partition)?;
        let line = self.line(Purpose::Write, DOING).await?;
        let mut call = self.call(&line, &self.shared.scripts.tag, partition, &home.with_tags());
        call.arg(tags.packed()).arg(TAG_TABLE / 2).arg(millis(LOAD));
        self.script(DOING, &line, &self.shared.scripts.tag, &call).await
    }

    async fn heartbeat(&self, partition: u16, beat: u64) -> Result<Pulse> {
        const DOING: &str = "sending a heartbeat";
        let home = self.home_of(partition)?;
        let line = self.line(Purpose::Read, DOING).await?;
        let mut call = self.call(&line, &self.shared.scripts.heartbeat, partition, &[home.meta()]);
        call.arg(&self.node).arg(beat);
        let vitals = &self.shared.bus.vitals;
        // Only what is subscribed already is sure to hear its echo.
        let sent = self.member.live().then(|| vitals.now());
        let time_ms = self.script(DOING, &line, &self.shared.scripts.heartbeat, &call).await?;
        if let Some(sent) = sent {
            vitals.pulse(sent);
        }
        Ok(Pulse { run: line.link.run, time_ms })
    }
}

impl Drop for RedisRegion {
    fn drop(&mut self) {
        self.close();
    }
}

impl fmt::Debug for RedisRegion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisRegion")
            .field("namespace", &self.spec.namespace)
            .field("node", &self.spec.node)
            .field("server", &self.shared.server)
            .finish_non_exhaustive()
    }
}
