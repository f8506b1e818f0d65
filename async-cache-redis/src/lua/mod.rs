//! The Lua scripts. Each is built once: `epoch.lua`, the parts that it needs, then its own file.

use std::borrow::Cow;
use std::sync::LazyLock;

use async_cache_core::backend::{GRANT_PACE, WAKE_INLINE};
use async_cache_core::frame::{ENDS_OFFSET, EXTENSIONS_LEN_OFFSET, SEAL_LEN, TAGS_EXTENSION, TOKEN_OFFSET};
use async_cache_core::tags::MAX_TAGS;

mod script;
pub(crate) use script::Script;

const RIGHTS: &str = include_str!("rights.lua");

/// The commands that `rights.lua` tries.
#[cfg(feature = "tools")]
pub(crate) fn tried_commands() -> impl Iterator<Item = &'static str> {
    RIGHTS.lines().filter_map(|line| line.trim_start().strip_prefix("{'")?.split('\'').next())
}

/// Every script the backend runs.
pub(crate) struct Scripts {
    pub(crate) acquire: Script,
    pub(crate) fill: Script,
    pub(crate) renew: Script,
    pub(crate) release: Script,
    pub(crate) put: Script,
    pub(crate) invalidate: Script,
    pub(crate) expire: Script,
    pub(crate) clear: Script,
    pub(crate) heartbeat: Script,
    pub(crate) state: Script,
    /// In place of GET, where only the scripts prove which process answers.
    pub(crate) get: Script,
    pub(crate) get_valid: Script,
    pub(crate) baseline: Script,
    pub(crate) tag: Script,
    /// Asked in the handshake.
    pub(crate) rights: Script,
    /// Run by tools, and loaded by the first of them: nodes do not need it.
    #[cfg(feature = "tools")]
    pub(crate) inspect: Script,
    /// Of a cluster: many heartbeats in one command.
    #[cfg(feature = "cluster")]
    pub(crate) heartbeats: Script,
    /// The command by which they publish.
    pub(crate) publish: &'static str,
    /// The text of `change.lua`, or of a mutant of it.
    change: Cow<'static, str>,
}

impl Scripts {
    /// Builds the scripts around `change.lua`, or a version of it that lacks a rule.
    pub(crate) fn new(change: impl Into<Cow<'static, str>>) -> Self {
        Self::build(change.into(), None, PLAIN)
    }

    /// These scripts with a run token in their text.
    pub(crate) fn marked(&self, token: &str) -> Self {
        Self::build(self.change.clone(), Some(token), PLAIN)
    }

    fn build(text: Cow<'static, str>, token: Option<&str>, dialect: Dialect) -> Self {
        const SEAL: &str = include_str!("seal.lua");
        const LEASE: &str = include_str!("lease.lua");
        const WAKE: &str = include_str!("wake.lua");
        const TAGS: &str = include_str!("tags.lua");
        const VALID: &str = include_str!("valid.lua");
        let named = |code: &str| code.replace("'PUBLISH'", &format!("'{}'", dialect.publish));
        let join = |parts: &[&str]| {
            let code = named(&joined(token, parts));
            Script::new(&code)
        };
        let change = &*text;
        Self {
            acquire: join(&[SEAL, LEASE, TAGS, VALID, include_str!("acquire.lua")]),
            fill: join(&[SEAL, WAKE, change, TAGS, include_str!("fill.lua")]),
            renew: join(&[include_str!("renew.lua")]),
            release: join(&[WAKE, include_str!("release.lua")]),
            put: join(&[SEAL, LEASE, WAKE, change, TAGS, include_str!("put.lua")]),
            invalidate: join(&[LEASE, WAKE, change, include_str!("invalidate.lua")]),
            expire: join(&[SEAL, LEASE, WAKE, change, TAGS, VALID, include_str!("expire.lua")]),
            clear: join(&[change, include_str!("clear.lua")]),
            heartbeat: join(&[include_str!("heartbeat.lua")]),
            state: join(&[include_str!("state.lua")]),
            get: join(&[include_str!("get.lua")]),
            get_valid: join(&[SEAL, TAGS, VALID, include_str!("get_valid.lua")]),
            baseline: join(&[TAGS, include_str!("baseline.lua")]),
            tag: join(&[change, TAGS, include_str!("tag.lua")]),
            rights: Script::new(&named(RIGHTS)),
            #[cfg(feature = "tools")]
            inspect: join(&[SEAL, LEASE, TAGS, VALID, include_str!("inspect.lua")]),
            #[cfg(feature = "cluster")]
            heartbeats: {
                let beat = named(&joined(None, &[include_str!("heartbeat.lua")]));
                let beat = format!("local function beat(KEYS, ARGV)\n{beat}\nend\n");
                Script::new(&[dialect.head, &beat, include_str!("heartbeats.lua")].concat())
            },
            publish: dialect.publish,
            change: text,
        }
    }

    /// The scripts that operations run.
    pub(crate) fn all(&self) -> [&Script; 14] {
        let Self {
            acquire,
            fill,
            renew,
            release,
            put,
            invalidate,
            expire,
            clear,
            heartbeat,
            state,
            get,
            get_valid,
            baseline,
            tag,
            rights: _,
            #[cfg(feature = "cluster")]
                heartbeats: _,
            #[cfg(feature = "tools")]
                inspect: _,
            publish: _,
            change: _,
        } = self;
        [
            acquire, fill, renew, release, put, invalidate, expire, clear, heartbeat, state, get, get_valid,
            baseline, tag,
        ]
    }
}

/// The arguments that tell every script of its caller.
#[derive(Clone, Copy)]
pub(crate) struct Caller<'a> {
    /// The record of the namespace.
    pub(crate) record: &'a str,
    /// The highest sequence number that the caller knows of the partition.
    pub(crate) known_seq: u64,
}

/// How a change is numbered and announced.
pub(crate) const CHANGE: &str = include_str!("change.lua");

/// What differs between servers.
#[derive(Clone, Copy)]
struct Dialect {
    /// The command that publishes.
    publish: &'static str,
    /// The first line of the script of many heartbeats.
    #[cfg(feature = "cluster")]
    head: &'static str,
}

/// Redis before 7.0 knows no first line with flags, and allows what the flags of [`SHARDED`] ask for.
const PLAIN: Dialect = Dialect {
    publish: "PUBLISH",
    #[cfg(feature = "cluster")]
    head: "",
};

static SCRIPTS: LazyLock<Scripts> = LazyLock::new(|| Scripts::new(CHANGE));

/// For a Redis Cluster from 7.0 on: a message goes to the subscribers of its slot alone.
#[cfg(feature = "cluster")]
static SHARDED: LazyLock<Scripts> = LazyLock::new(|| {
    // Names of different slots are allowed, and writing when memory is full, as for a single heartbeat.
    let head = "#!lua flags=allow-cross-slot-keys,allow-oom\n";
    Scripts::build(CHANGE.into(), None, Dialect { publish: "SPUBLISH", head })
});

/// The scripts for a Redis Cluster from 7.0 on, built once.
#[cfg(feature = "cluster")]
pub(crate) fn sharded_scripts() -> &'static Scripts {
    &SHARDED
}

/// The scripts, built once.
pub(crate) fn scripts() -> &'static Scripts {
    &SCRIPTS
}

/// The run token, if there is one, and the core's constants, `epoch.lua`, then the parts: the epoch is checked first in
/// every script.
fn joined(token: Option<&str>, parts: &[&str]) -> String {
    let token = token.map_or_else(|| "false".to_owned(), |token| format!("'{token}'"));
    let mut code = format!(
        "local RUN_TOKEN = {token}\n\
         local PACE, INLINE, TOKEN_AT, MAX_TAGS, TAGS_KIND = {}, {WAKE_INLINE}, {}, {MAX_TAGS}, {TAGS_EXTENSION}\n\
         local ENDS_AT, EXTENSIONS_AT, FRAME_EXTENSIONS_AT = {}, {}, {}\n",
        GRANT_PACE.as_millis(),
        TOKEN_OFFSET + 1,
        ENDS_OFFSET + 1,
        EXTENSIONS_LEN_OFFSET + 1,
        EXTENSIONS_LEN_OFFSET - SEAL_LEN + 1,
    );
    code.push_str(include_str!("epoch.lua"));
    for part in parts {
        code.push_str(part);
    }
    code
}
