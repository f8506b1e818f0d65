//! Without the feature `outbox` there is none, and sqlx is not compiled.

use std::path::Path;

use async_cache::TieredCache;

use crate::catalogue::Product;
use crate::instance::chain;
use crate::messages::RelayFigures;
use crate::shared::built_without;
use crate::writer::{Committed, Errand};

pub(crate) fn check() -> Result<(), String> {
    Err(chain(&built_without("outbox")))
}

#[expect(clippy::unused_async, reason = "with the feature it waits for the database")]
pub(crate) async fn migrate(_: &Path) -> Result<(), String> {
    check()
}

/// There is none.
pub(crate) enum Relay {}

impl Relay {
    #[expect(clippy::unused_async, reason = "with the feature it waits for the database")]
    pub(crate) async fn start(_: &Path, _: &TieredCache<u32, Product>) -> Result<Self, String> {
        Err(chain(&built_without("outbox")))
    }

    pub(crate) fn figures(&self) -> RelayFigures {
        match *self {}
    }

    #[expect(clippy::unused_async, reason = "with the feature it waits for the relay")]
    pub(crate) async fn shutdown(&self) {
        match *self {}
    }
}

#[expect(clippy::unused_async, reason = "with the feature it waits for the database")]
pub(crate) async fn commit(_: &Errand) -> Result<Committed, String> {
    Err(chain(&built_without("outbox")))
}

#[cfg(test)]
mod tests {
    #[test]
    fn an_outbox_is_refused_with_the_command_that_builds_it() {
        let why = super::check().expect_err("there is no outbox");
        let remedy = "cargo run --release -p async-cache-demo --features outbox -- ..";
        assert_eq!(why, format!("the demo is built without the feature `outbox`: {remedy}"));
    }
}
