//! The Lua scripts, each built once: parts joined in front of its own file.

use std::sync::LazyLock;

use async_cache_core::backend::{GRANT_PACE, WAKE_INLINE};
use async_cache_core::frame::{ENDS_OFFSET, EXTENSIONS_LEN_OFFSET, SEAL_LEN, TAGS_EXTENSION, TOKEN_OFFSET};
use async_cache_core::tags::MAX_TAGS;
use redis::Script;

#[cfg(feature = "testing")]
use crate::testing::Mutant;
use crate::testing::Switch;

/// Every script the backend runs.
pub(crate) struct Scripts {
    pub(crate) acquire: Script,
    pub(crate) fill: Script,
    pub(crate) renew: Script,
    pub(crate) release: Script,
    pub(crate) put: Script,
    pub(crate) invalidate: Script,
    pub(crate) clear: Script,
    pub(crate) heartbeat: Script,
    pub(crate) state: Script,
    pub(crate) get_valid: Script,
    pub(crate) baseline: Script,
    pub(crate) tag: Script,
    /// What the handshake asks.
    pub(crate) rights: Script,
}

impl Scripts {
    /// Those that operations run.
    pub(crate) fn all(&self) -> [&Script; 12] {
        let Self {
            acquire,
            fill,
            renew,
            release,
            put,
            invalidate,
            clear,
            heartbeat,
            state,
            get_valid,
            baseline,
            tag,
            rights: _,
        } = self;
        [acquire, fill, renew, release, put, invalidate, clear, heartbeat, state, get_valid, baseline, tag]
    }
}

static SCRIPTS: LazyLock<Scripts> = LazyLock::new(|| build(include_str!("change.lua")));

/// The scripts, but for what a mutant takes out of them.
pub(crate) fn scripts(switch: Switch) -> &'static Scripts {
    #[cfg(feature = "testing")]
    if switch.is(Mutant::RefusedChangeKeepsNumber) {
        static NUMBER_KEPT: LazyLock<Scripts> = LazyLock::new(|| {
            const TAKEN_BACK: &str = "    redis.call('HSET', M, 's', whole(s))\n";
            let change = include_str!("change.lua");
            assert!(change.contains(TAKEN_BACK), "what the mutant takes out is not there");
            build(&change.replace(TAKEN_BACK, ""))
        });
        return &NUMBER_KEPT;
    }
    let _ = switch;
    &SCRIPTS
}

fn build(change: &str) -> Scripts {
    const SEAL: &str = include_str!("seal.lua");
    const LEASE: &str = include_str!("lease.lua");
    const WAKE: &str = include_str!("wake.lua");
    const TAGS: &str = include_str!("tags.lua");
    const VALID: &str = include_str!("valid.lua");
    Scripts {
        acquire: join(&[SEAL, LEASE, TAGS, VALID, include_str!("acquire.lua")]),
        fill: join(&[SEAL, WAKE, change, TAGS, include_str!("fill.lua")]),
        renew: join(&[include_str!("renew.lua")]),
        release: join(&[WAKE, include_str!("release.lua")]),
        put: join(&[SEAL, LEASE, WAKE, change, TAGS, include_str!("put.lua")]),
        invalidate: join(&[LEASE, WAKE, change, include_str!("invalidate.lua")]),
        clear: join(&[change, include_str!("clear.lua")]),
        heartbeat: join(&[include_str!("heartbeat.lua")]),
        state: join(&[include_str!("state.lua")]),
        get_valid: join(&[SEAL, TAGS, VALID, include_str!("get_valid.lua")]),
        baseline: join(&[TAGS, include_str!("baseline.lua")]),
        tag: join(&[change, TAGS, include_str!("tag.lua")]),
        rights: Script::new(include_str!("rights.lua")),
    }
}

/// The core's constants, the fence, then the parts: the fence comes first in every script.
fn join(parts: &[&str]) -> Script {
    let mut code = format!(
        "local PACE, INLINE, TOKEN_AT, MAX_TAGS, TAGS_KIND = {}, {WAKE_INLINE}, {}, {MAX_TAGS}, {TAGS_EXTENSION}\n\
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
    Script::new(&code)
}
