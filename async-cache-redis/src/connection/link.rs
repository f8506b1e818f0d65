//! One physical connection, and the server process behind it.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU32, Ordering};

use async_cache_core::backend::RunId;
use redis::aio::MultiplexedConnection;
use redis::{Cmd, FromRedisValue, Pipeline, RedisResult};
use tokio::runtime::Handle;
use tokio_util::task::AbortOnDropHandle;

use super::host::Opened;
use super::read_queue::ReadQueue;
use super::repeat::{Again, Calls, forgotten, repeat};
use super::tokens::{Agreed, Tokens};
#[cfg(feature = "tools")]
use super::tokens::{Marked, known_scripts};
use crate::lua::{Caller, Script, Scripts};

/// A connection that has been through the handshake.
///
/// It never reconnects by itself, so the run id found in the handshake holds for as long as it
/// answers.
pub(crate) struct Link {
    connection: MultiplexedConnection,
    _driver: Option<AbortOnDropHandle<()>>,
    known: Known,
    /// The identity of the server process. With tokens it is one value for all connections.
    pub(crate) run: RunId,
    /// Timeouts in a row.
    strikes: AtomicU32,
    pub(crate) reads: ReadQueue,
    /// The runtime that it was made on, and lives on.
    pub(crate) runtime: Handle,
    /// The scripts for this server.
    pub(crate) lua: &'static Scripts,
}

/// How the scripts learn which server process executes them.
pub(crate) enum Identity {
    /// By the run id that INFO has told.
    RunId(String),
    /// By the token in their text.
    Token,
}

enum Known {
    RunId(String),
    Tokens(Tokens),
}

impl Link {
    pub(crate) fn new(opened: Opened, identity: Identity, lua: &'static Scripts) -> Self {
        let mut hasher = DefaultHasher::new();
        let known = match identity {
            Identity::RunId(run) => {
                run.hash(&mut hasher);
                Known::RunId(run)
            }
            Identity::Token => Known::Tokens(Tokens::new(lua)),
        };
        let run = RunId(hasher.finish());
        Self {
            connection: opened.connection,
            _driver: opened.driver,
            known,
            run,
            strikes: AtomicU32::new(0),
            reads: ReadQueue::new(),
            runtime: Handle::current(),
            lua,
        }
    }

    /// The run id that is sent to the scripts. With tokens it is empty: no token is to be replaced.
    pub(crate) fn run_text(&self) -> &str {
        match &self.known {
            Known::RunId(run) => run,
            Known::Tokens(_) => "",
        }
    }

    /// Notes an answer in time.
    pub(crate) fn answered(&self) {
        if self.strikes.load(Ordering::Relaxed) != 0 {
            self.strikes.store(0, Ordering::Relaxed);
        }
    }

    /// Notes a timeout. Returns the number of timeouts in a row.
    pub(crate) fn timed_out(&self) -> u32 {
        self.strikes.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Whether only the scripts prove which process answers: then a plain read proves nothing.
    pub(crate) fn has_tokens(&self) -> bool {
        matches!(self.known, Known::Tokens(_))
    }

    /// The identity of the process that answers for a partition, by the name of its `M`.
    pub(crate) fn run_of(&self, meta: &[u8]) -> RunId {
        self.token_run(meta).unwrap_or(self.run)
    }

    /// The identity that a token proves, if the nodes have agreed on one.
    pub(super) fn token_run(&self, meta: &[u8]) -> Option<RunId> {
        match &self.known {
            Known::RunId(_) => None,
            Known::Tokens(tokens) => tokens.run(meta),
        }
    }

    /// Makes the connection ready for the scripts of a partition.
    pub(crate) async fn agree(&self, meta: &[u8], caller: Caller<'_>) -> RedisResult<Agreed> {
        match &self.known {
            Known::RunId(_) => Ok(Agreed::Before),
            Known::Tokens(tokens) => tokens.agree(&mut self.connection.clone(), meta, caller).await,
        }
    }

    /// The call of a script: its keys, of which `M` is the first, then the run id of this connection and the caller's own
    /// arguments.
    pub(crate) fn call(&self, script: &Script, keys: &[impl AsRef<[u8]>], caller: Caller<'_>) -> Cmd {
        let mut cmd = redis::cmd("EVALSHA");
        match &self.known {
            Known::RunId(_) => cmd.arg(script.hash()),
            Known::Tokens(tokens) => cmd.arg(tokens.hash(keys[0].as_ref(), script)),
        };
        cmd.arg(keys.len());
        for key in keys {
            cmd.arg(key.as_ref());
        }
        cmd.arg(self.run_text()).arg(caller.record).arg(caller.known_seq);
        cmd
    }

    /// The call of a script without keys: the run id of this connection, then the caller's own arguments.
    #[cfg(feature = "cluster")]
    pub(crate) fn call_without_keys(&self, script: &Script) -> Cmd {
        let mut cmd = redis::cmd("EVALSHA");
        cmd.arg(script.hash()).arg(0).arg(self.run_text());
        cmd
    }

    /// The scripts of the run token that was found in `M`, if the process that answers knows them.
    #[cfg(feature = "tools")]
    pub(crate) async fn known_scripts(&self, found: &[u8]) -> RedisResult<Option<Marked>> {
        known_scripts(&mut self.connection.clone(), self.lua, found).await
    }

    /// Runs `inspect.lua` with a run token in its text.
    #[cfg(feature = "tools")]
    pub(crate) async fn inspect<T: FromRedisValue>(
        &self,
        marked: &Marked,
        call: impl FnOnce(&Script) -> Cmd,
    ) -> RedisResult<Option<T>> {
        marked.inspect(&mut self.connection.clone(), call).await
    }

    /// Runs a command.
    pub(crate) async fn query<T: FromRedisValue>(&self, cmd: &Cmd) -> RedisResult<T> {
        cmd.query_async(&mut self.connection.clone()).await
    }

    /// Runs a pipeline.
    pub(crate) async fn pipeline<T: FromRedisValue>(&self, pipeline: &Pipeline) -> RedisResult<T> {
        pipeline.query_async(&mut self.connection.clone()).await
    }

    /// Runs a script. If the server has forgotten it, it is loaded and run again: see [`Again`].
    pub(crate) async fn script<T: FromRedisValue>(&self, script: &Script, call: &Cmd) -> RedisResult<T> {
        match self.query(call).await {
            Err(error) if forgotten(&error) && !self.has_tokens() => {
                let mut answer = [Err(error)];
                let calls = Calls { script, calls: std::slice::from_ref(call), again: Again::Forgotten };
                repeat(&mut self.connection.clone(), calls, &mut answer).await?;
                let [answer] = answer;
                answer
            }
            other => other,
        }
    }

    /// Runs the calls of one script as one pipeline, in order.
    pub(crate) async fn scripts<T: FromRedisValue>(&self, calls: Calls<'_>) -> RedisResult<Vec<T>> {
        self.scripts_each(calls).await?.into_iter().collect()
    }

    /// Runs the calls of one script as one pipeline, in order, with an answer for each call. A single call
    /// goes without a pipeline.
    pub(crate) async fn scripts_each<T: FromRedisValue>(
        &self,
        calls: Calls<'_>,
    ) -> RedisResult<Vec<RedisResult<T>>> {
        if let [call] = calls.calls {
            return Ok(vec![self.script(calls.script, call).await]);
        }
        let mut pipeline = Pipeline::with_capacity(calls.calls.len());
        for call in calls.calls {
            pipeline.add_command(call.clone());
        }
        pipeline.ignore_errors();
        let mut answers: Vec<RedisResult<T>> = self.pipeline(&pipeline).await?;
        // With tokens an unknown script proves that another process answers. So the script is not loaded again.
        if answers.len() == calls.calls.len() && !self.has_tokens() {
            repeat(&mut self.connection.clone(), calls, &mut answers).await?;
        }
        Ok(answers)
    }
}
