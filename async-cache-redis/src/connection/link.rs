//! One physical connection, and the server process behind it.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU32, Ordering};

use async_cache_core::backend::RunId;
use redis::aio::MultiplexedConnection;
use redis::{Cmd, ErrorKind, FromRedisValue, Pipeline, RedisError, RedisResult, Script, ServerErrorKind};
use tokio::runtime::Handle;
use tokio_util::task::AbortOnDropHandle;

use super::opener::Opened;
use super::read_queue::ReadQueue;

/// A connection that has been through the handshake.
///
/// It never reconnects by itself, so the run id found in the handshake holds for as long as it
/// answers.
pub(crate) struct Link {
    connection: MultiplexedConnection,
    _driver: Option<AbortOnDropHandle<()>>,
    /// The server's run id, as the scripts are given it.
    run_text: String,
    pub(crate) run: RunId,
    /// Timeouts in a row.
    strikes: AtomicU32,
    pub(crate) reads: ReadQueue,
    /// The runtime that it was made on, and lives on.
    pub(crate) runtime: Handle,
}

/// The arguments that tell every script of its caller.
#[derive(Clone, Copy)]
pub(crate) struct Caller<'a> {
    /// The record of the namespace.
    pub(crate) record: &'a str,
    /// The highest sequence number that the caller knows of the partition.
    pub(crate) known_seq: u64,
}

impl Link {
    pub(crate) fn new(opened: Opened, run_text: String) -> Self {
        let mut hasher = DefaultHasher::new();
        run_text.hash(&mut hasher);
        let run = RunId(hasher.finish());
        Self {
            connection: opened.connection,
            _driver: opened.driver,
            run_text,
            run,
            strikes: AtomicU32::new(0),
            reads: ReadQueue::new(),
            runtime: Handle::current(),
        }
    }

    /// Notes an answer in time.
    pub(crate) fn answered(&self) {
        if self.strikes.load(Ordering::Relaxed) != 0 {
            self.strikes.store(0, Ordering::Relaxed);
        }
    }

    /// Notes a timeout; gives how many there have been in a row.
    pub(crate) fn timed_out(&self) -> u32 {
        self.strikes.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The call of a script: its keys, then the run id of this connection and the caller's own arguments.
    pub(crate) fn call(&self, script: &Script, keys: &[impl AsRef<[u8]>], caller: Caller<'_>) -> Cmd {
        let mut cmd = redis::cmd("EVALSHA");
        cmd.arg(script.get_hash()).arg(keys.len());
        for key in keys {
            cmd.arg(key.as_ref());
        }
        cmd.arg(&self.run_text).arg(caller.record).arg(caller.known_seq);
        cmd
    }

    /// Runs a command.
    pub(crate) async fn query<T: FromRedisValue>(&self, cmd: &Cmd) -> RedisResult<T> {
        cmd.query_async(&mut self.connection.clone()).await
    }

    /// Runs a script; loads it and tries again if the server has forgotten it.
    pub(crate) async fn script<T: FromRedisValue>(&self, script: &Script, call: &Cmd) -> RedisResult<T> {
        match self.query(call).await {
            Err(error) if forgotten(&error) => {
                script.load_async(&mut self.connection.clone()).await?;
                self.query(call).await
            }
            other => other,
        }
    }

    /// Runs a pipeline.
    pub(crate) async fn pipeline<T: FromRedisValue>(&self, pipeline: &Pipeline) -> RedisResult<T> {
        pipeline.query_async(&mut self.connection.clone()).await
    }

    /// Runs the calls of one script as one pipeline, in order.
    ///
    /// If the server has forgotten the script, everything from the first call it did not know is
    /// run again, not only the calls that failed:
    ///   1. a batch puts `k = a`, then `k = b`
    ///   2. another client's SCRIPT FLUSH and SCRIPT LOAD leave the first unknown, the second not
    ///   3. running only the first again would leave `k = a`
    pub(crate) async fn scripts<T: FromRedisValue>(
        &self,
        script: &Script,
        calls: &[Cmd],
    ) -> RedisResult<Vec<T>> {
        self.scripts_each(script, calls).await?.into_iter().collect()
    }

    /// Runs the calls of one script as one pipeline, in order, with an answer for each call. A single call
    /// goes without a pipeline.
    pub(crate) async fn scripts_each<T: FromRedisValue>(
        &self,
        script: &Script,
        calls: &[Cmd],
    ) -> RedisResult<Vec<RedisResult<T>>> {
        if let [call] = calls {
            return Ok(vec![self.script(script, call).await]);
        }
        let mut answers = self.script_pipeline(calls).await?;
        if let Some(first) = answers.iter().position(|answer| answer.as_ref().is_err_and(forgotten)) {
            script.load_async(&mut self.connection.clone()).await?;
            answers.truncate(first);
            answers.extend(self.script_pipeline(&calls[first..]).await?);
        }
        Ok(answers)
    }

    async fn script_pipeline<T: FromRedisValue>(&self, calls: &[Cmd]) -> RedisResult<Vec<RedisResult<T>>> {
        let mut pipeline = Pipeline::with_capacity(calls.len());
        for call in calls {
            pipeline.add_command(call.clone());
        }
        pipeline.ignore_errors();
        self.pipeline(&pipeline).await
    }
}

fn forgotten(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)
}
