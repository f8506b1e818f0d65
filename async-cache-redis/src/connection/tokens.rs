//! The run token: how a connection knows that the same server process answers, without INFO and behind a proxy.
//!
//! The text of the scripts contains a token, and Redis 7 and Valkey do not replicate scripts. So a process that knows the
//! scripts of a token is the one into which they were loaded, and NOSCRIPT is the proof of another one. `M` has the
//! token where it otherwise has the run id. These rules keep the proof valid:
//!
//! * The scripts of a token are loaded once, by the connection that has made the token up. Nobody ever loads them again:
//!   a process that is given the scripts of an older one would pass for it.
//! * A token that is found in `M` is used only if the process knows its scripts.
//! * A new token replaces only the token in `M` whose scripts the process did not know. Otherwise nodes with different
//!   tokens would begin new epochs in turns. The new token begins an epoch (`epoch.lua`).
//! * A connection keeps its token. If a call finds the script unknown, or another token in `M`, the connection is given
//!   up, and the next one begins again.
//! * No plain GET is sent: any process would answer it.
//!
//! The model in `integration-tests/tests/model/tokens` visits the interleavings.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_cache_core::backend::RunId;
use parking_lot::RwLock;
use redis::aio::MultiplexedConnection;
use redis::{Pipeline, RedisError, RedisResult, Value, cmd};
use tokio::sync::Mutex;

use crate::lua::{Caller, Script, Scripts};
use crate::reply::server_error_code;

/// A token begins with it, and no run id does.
const MARK: &str = "t:";
/// How often a connection tries to agree on a token with the other nodes.
const ATTEMPTS: u32 = 16;
/// The longest pause before a token is made up: another node may be about to install one, and each takes memory of the
/// server.
const PAUSE: Duration = Duration::from_millis(30);
/// A script that no server knows.
const UNKNOWN: &str = "0000000000000000000000000000000000000000";

/// The tokens of one connection.
pub(super) struct Tokens {
    scripts: &'static Scripts,
    /// By the name of `M`.
    agreed: RwLock<HashMap<Vec<u8>, Arc<Marked>>>,
    /// The token that this connection has made up, if it had to.
    own: Mutex<Option<Arc<Marked>>>,
}

/// The scripts of a token.
pub(crate) struct Marked {
    run: RunId,
    /// The hash of each script without a token, and the one with it.
    hashes: Vec<(String, String)>,
    scripts: Scripts,
}

impl Marked {
    fn new(scripts: &Scripts, token: &str) -> Self {
        let marked = scripts.marked(token);
        let hash = |script: &Script| script.hash().to_owned();
        let hashes = scripts.all().map(hash).into_iter().zip(marked.all().map(hash)).collect();
        let mut hasher = DefaultHasher::new();
        token.hash(&mut hasher);
        Self { run: RunId(hasher.finish()), hashes, scripts: marked }
    }

    fn hash(&self, script: &Script) -> &str {
        let found = self.hashes.iter().find(|(plain, _)| plain == script.hash());
        found.map_or(UNKNOWN, |(_, marked)| marked)
    }

    /// Whether the process knows all of them. One command: all answers are of one process.
    async fn are_known(&self, connection: &mut MultiplexedConnection) -> RedisResult<bool> {
        let mut exists = cmd("SCRIPT");
        exists.arg("EXISTS");
        for (_, hash) in &self.hashes {
            exists.arg(hash);
        }
        let known: Vec<bool> = exists.query_async(connection).await?;
        Ok(known.len() == self.hashes.len() && known.into_iter().all(|known| known))
    }

    /// Loads them, and makes sure that they are in one process: it may have been replaced in between.
    async fn load(&self, connection: &mut MultiplexedConnection) -> RedisResult<()> {
        let mut pipeline = Pipeline::new();
        for script in self.scripts.all() {
            pipeline.add_command(script.load()).ignore();
        }
        let () = pipeline.query_async(connection).await?;
        if self.are_known(connection).await? { Ok(()) } else { Err(replaced()) }
    }

    /// Runs `inspect.lua`, which only tools load. Returns `None` if another process answers than the token's, or if `M`
    /// has another token by now.
    #[cfg(feature = "tools")]
    pub(crate) async fn inspect<T: redis::FromRedisValue>(
        &self,
        connection: &mut MultiplexedConnection,
        call: impl FnOnce(&Script) -> redis::Cmd,
    ) -> RedisResult<Option<T>> {
        let script = &self.scripts.inspect;
        let mut pipeline = Pipeline::new();
        pipeline.add_command(script.load()).ignore().add_command(call(script));
        let answer = match pipeline.query_async::<(T,)>(connection).await {
            Ok((answer,)) => answer,
            Err(error) if server_error_code(&error) == OTHER_RUN => return Ok(None),
            Err(error) => return Err(error),
        };
        // Afterwards: the connection may have been led to another process in between.
        Ok(self.are_known(connection).await?.then_some(answer))
    }

    /// Puts the token in the place of another one, or of none.
    async fn install(
        &self,
        connection: &mut MultiplexedConnection,
        meta: &[u8],
        was: &[u8],
        caller: Caller<'_>,
    ) -> RedisResult<Installed> {
        let mut call = cmd("EVALSHA");
        call.arg(self.scripts.state.hash()).arg(1).arg(meta);
        call.arg(was).arg(caller.record).arg(caller.known_seq);
        match call.query_async::<Value>(connection).await {
            Ok(_) => Ok(Installed::Done),
            Err(error) if server_error_code(&error) == OTHER_RUN => Ok(Installed::OtherFound),
            Err(error) => Err(error),
        }
    }
}

/// The answer of `epoch.lua` if `M` has a token that neither the script has nor the caller has named.
pub(super) const OTHER_RUN: &str = "OTHERRUN";

/// When the token of a partition was agreed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Agreed {
    Before,
    Now,
}

enum Installed {
    Done,
    OtherFound,
}

impl Tokens {
    pub(super) fn new(scripts: &'static Scripts) -> Self {
        Self { scripts, agreed: RwLock::default(), own: Mutex::default() }
    }

    /// The hash of a script for a partition on which the nodes have agreed.
    pub(super) fn hash(&self, meta: &[u8], script: &Script) -> String {
        self.agreed.read().get(meta).map_or(UNKNOWN, |marked| marked.hash(script)).to_owned()
    }

    /// The identity of the process, for a partition on which the nodes have agreed.
    pub(super) fn run(&self, meta: &[u8]) -> Option<RunId> {
        self.agreed.read().get(meta).map(|marked| marked.run)
    }

    /// Agrees with the other nodes on the token of a partition, once for each connection.
    pub(super) async fn agree(
        &self,
        connection: &mut MultiplexedConnection,
        meta: &[u8],
        caller: Caller<'_>,
    ) -> RedisResult<Agreed> {
        let known = || self.agreed.read().contains_key(meta);
        if known() {
            return Ok(Agreed::Before);
        }
        let mut own = self.own.lock().await;
        if known() {
            return Ok(Agreed::Before);
        }
        for attempt in 0..ATTEMPTS {
            let found = token_in(connection, meta).await?;
            if let Some(marked) = known_scripts(connection, self.scripts, &found).await? {
                self.agreed.write().insert(meta.to_vec(), Arc::new(marked));
                return Ok(Agreed::Now);
            }
            if own.is_none() && attempt == 0 {
                tokio::time::sleep(PAUSE.mul_f64(fastrand::f64())).await;
                continue;
            }
            let mine = match &*own {
                Some(mine) => Arc::clone(mine),
                None => {
                    let mine = Arc::new(Marked::new(self.scripts, &made_up()));
                    mine.load(connection).await?;
                    Arc::clone(own.insert(mine))
                }
            };
            if let Installed::Done = mine.install(connection, meta, &found, caller).await? {
                self.agreed.write().insert(meta.to_vec(), mine);
                return Ok(Agreed::Now);
            }
        }
        Err(replaced())
    }
}

/// What `M` has in place of a run id; empty if nothing.
async fn token_in(connection: &mut MultiplexedConnection, meta: &[u8]) -> RedisResult<Vec<u8>> {
    let found: RedisResult<Option<Vec<u8>>> = cmd("HGET").arg(meta).arg("r").query_async(connection).await;
    match found {
        Ok(found) => Ok(found.unwrap_or_default()),
        // `M` has another type. The script reports that.
        Err(error) if server_error_code(&error) == "WRONGTYPE" => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn token(found: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(found).ok()?;
    let digits = text.strip_prefix(MARK)?;
    (digits.len() == 32 && digits.bytes().all(|byte| byte.is_ascii_hexdigit())).then(|| text.to_owned())
}

fn made_up() -> String {
    format!("{MARK}{:032x}", fastrand::u128(..))
}

/// The scripts of the token that was found in `M`, if the process that answers knows them. Loads and installs nothing.
pub(super) async fn known_scripts(
    connection: &mut MultiplexedConnection,
    scripts: &Scripts,
    found: &[u8],
) -> RedisResult<Option<Marked>> {
    let Some(token) = token(found) else { return Ok(None) };
    let marked = Marked::new(scripts, &token);
    Ok(marked.are_known(connection).await?.then_some(marked))
}

/// The connection is of no more use.
fn replaced() -> RedisError {
    io::Error::new(io::ErrorKind::ConnectionReset, "another server process answers on this connection").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_tokens_are_taken_for_tokens() {
        let own = made_up();
        assert_eq!(token(own.as_bytes()), Some(own.clone()));
        assert_ne!(own, made_up());
        for other in
            ["", "t:", "0123456789012345678901234567890123456789", "t:' redis.call('FLUSHALL') --xxxxxxx"]
        {
            assert_eq!(token(other.as_bytes()), None, "{other}");
        }
    }
}
