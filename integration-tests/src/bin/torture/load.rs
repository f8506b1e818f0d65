//! The loads of a node, and whether they were needed.
//!
//! A load is *needed* unless another load of its key is under way in the fleet, or the value of the last load
//! has not expired. It is judged only if nothing else explains it: in quiet time, without a pause since the
//! other load began, and without a change or refresh of the key.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_cache::Loaded;
use async_cache::testing::No;
use fastrand::Rng;
use tokio::time::sleep;

use crate::drawn::storm;
use crate::ledger::{Count, Ledger, STORMS_AT, now};
use crate::mutant::{Mutants, Planted};
use crate::need::{self, Answers, Begun};
use crate::node::Handle;
use crate::promise::What;
use crate::value::{Expiry, Value};
use crate::write::tag_of;

/// After this time a pause of a process or of the connection to the server has been noted.
pub(crate) const SETTLED: Duration = Duration::from_millis(500);

/// The reason for a load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// No tier had a value.
    Missing,
    /// The load was requested whatever is cached, or it is a refresh before the expiry.
    Anyhow,
}

/// A query of the database. It reads the version, and then takes its time to return it, so that the answer is
/// often old when it arrives.
#[derive(Debug, Clone)]
pub(crate) struct Load {
    ledger: &'static Ledger,
    handle: usize,
    key: usize,
    life: Expiry,
    purpose: Purpose,
    takes: Duration,
    fails: bool,
    /// The time at which its call began.
    called: u64,
    mutant: Option<Planted>,
}

impl Load {
    pub(crate) fn draw(handle: &Handle, key: usize, life: Expiry, rng: &mut Rng) -> Self {
        let takes = match rng.u32(..1000) {
            0..2 => Duration::from_millis(rng.u64(1000..2500)),
            2..20 => Duration::from_millis(rng.u64(20..150)),
            20..500 => Duration::from_millis(rng.u64(1..5)),
            _ => Duration::ZERO,
        };
        let (ledger, fails) = (handle.ledger, rng.u32(..500) == 0);
        let mutants = &handle.args.mutant;
        let all = [Planted::MangledValue, Planted::AgeTold];
        let mutant = all.into_iter().find(|planted| mutants.has(*planted) && rng.u8(..8) == 0);
        let (handle, purpose, called) = (handle.index, Purpose::Missing, now());
        Self { ledger, handle, key, life, purpose, takes, fails, called, mutant }
    }

    /// Makes it a load that runs whatever is cached.
    pub(crate) fn anyhow(self) -> Self {
        Self { purpose: Purpose::Anyhow, ..self }
    }

    pub(crate) fn takes(self, takes: Duration) -> Self {
        Self { takes, fails: false, ..self }
    }

    pub(crate) async fn run(self) -> Result<Loaded<Value>, No> {
        let running = Running::begin(&self, (What::LoadBegins, self.key));
        if !self.takes.is_zero() {
            sleep(self.takes).await;
        }
        if self.fails {
            return Err(No(0));
        }
        Ok(running.brings(self.life))
    }

    /// Runs a load that may find nothing.
    pub(crate) async fn run_optional(self, finds: bool) -> Result<Option<Loaded<Value>>, No> {
        if finds {
            return self.run().await.map(Some);
        }
        let running = Running::begin(&self, (What::LoadBegins, self.key));
        sleep(self.takes.max(Duration::from_millis(5))).await;
        running.finds_nothing();
        Ok(None)
    }

    /// Runs a load of many keys, and leaves some of them out.
    pub(crate) async fn run_many(
        self,
        keys: Vec<u64>,
        leaves_out: u64,
    ) -> Result<HashMap<u64, Loaded<Value>>, No> {
        let all: Vec<Running> =
            keys.iter().map(|key| Running::begin(&self, (What::BatchBegins, *key as usize))).collect();
        sleep(self.takes.max(Duration::from_millis(1))).await;
        let mut found = HashMap::new();
        for running in all {
            let key = running.key as u64;
            if key % 8 == leaves_out {
                running.finds_nothing();
            } else {
                let lives = running.key >= crate::ledger::KEYS;
                let life = if lives { crate::lives::life_of(running.key) } else { self.life };
                found.insert(key, running.brings(life));
            }
        }
        Ok(found)
    }
}

/// A load of one key under way. Its `Drop` notes the end, however it ends.
#[derive(Debug)]
struct Running {
    ledger: &'static Ledger,
    handle: usize,
    key: usize,
    version: u64,
    began: u64,
    purpose: Purpose,
    ended: What,
    mutant: Option<Planted>,
}

impl Running {
    fn begin(load: &Load, (how, key): (What, usize)) -> Self {
        let how = match (how, load.purpose) {
            (What::LoadBegins, Purpose::Anyhow) => What::ReloadBegins,
            _ => how,
        };
        let Load { ledger, handle, purpose, mutant, .. } = *load;
        let began = now();
        ledger.add(handle, Count::Loads, 1);
        ledger.loading(handle, key).fetch_add(1, Ordering::AcqRel);
        let row = ledger.row(key);
        if purpose == Purpose::Anyhow {
            row.touched_at().fetch_max(began, Ordering::AcqRel);
        } else if key >= crate::ledger::KEYS {
            let begun = Begun { handle, key, called: load.called, at: began };
            need::judge(ledger, begun, Answers::Loaded);
        }
        if key >= STORMS_AT {
            storm::loads(ledger, key);
        }
        row.load_began().fetch_max(began, Ordering::AcqRel);
        let version = row.committed().load(Ordering::SeqCst);
        ledger.note(key, handle, how, version);
        Self { ledger, handle, key, version, began, purpose, ended: What::LoadFails, mutant }
    }

    fn brings(mut self, life: Expiry) -> Loaded<Value> {
        self.ended = What::LoadEnds;
        let mut value = Value::new(self.key, self.version, life);
        if self.mutant == Some(Planted::MangledValue) {
            value.mangle();
        }
        if self.mutant == Some(Planted::AgeTold) {
            value.ttl_ns /= 100;
            value.loaded_at = value.loaded_at.saturating_sub(4_000_000_000);
        }
        let row = self.ledger.row(self.key);
        let (since, until) = row.lives();
        since.store(self.began, Ordering::Release);
        until.store(value.loaded_at + value.ttl_ns, Ordering::Release);
        Loaded::new(value).ttl(life.ttl).stale_for(life.stale_for).tag(tag_of(self.key))
    }

    fn finds_nothing(mut self) {
        self.ended = What::LoadFindsNothing;
        self.ledger.row(self.key).lives().1.store(0, Ordering::Release);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let (ledger, row) = (self.ledger, self.ledger.row(self.key));
        if self.purpose == Purpose::Anyhow {
            row.touched_at().fetch_max(now(), Ordering::AcqRel);
        }
        ledger.note(self.key, self.handle, self.ended, self.version);
        row.filled_by().store(self.handle as u64, Ordering::Release);
        row.filled_at().fetch_max(now(), Ordering::AcqRel);
        // The count of a killed predecessor may have been reset already.
        let less = |running: u64| Some(running.saturating_sub(1));
        let _ = ledger.loading(self.handle, self.key).fetch_update(Ordering::AcqRel, Ordering::Acquire, less);
    }
}
