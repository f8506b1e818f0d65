//! Every figure of `Stats`, exactly, whichever verb looks up and whichever tiers there are.

mod alone;
mod fleet;

use std::collections::HashMap;
use std::time::Duration;

use async_cache_core::testing::{No, Source, ms, until};
use async_cache_core::{BoxError, Codec, Event, Loaded, Result, TieredCache, TieredCacheBuilder};
use async_cache_memory::MemoryBackend;
use futures_util::future::{BoxFuture, FutureExt};

use crate::figures::adds;
use crate::stage::{Cache, Stage};

type Builder = TieredCacheBuilder<String, u64>;

const MINUTE: Duration = Duration::from_secs(60);
/// A value that no codec here writes, and one that the second kind does not read.
const UNWRITABLE: u64 = 13;
const UNREADABLE: u64 = 14;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Reads {
    All,
    NotAll,
}

impl Codec<u64> for Reads {
    fn name(&self) -> &'static str {
        "picky"
    }

    fn encode(&self, value: &u64, out: &mut Vec<u8>) -> std::result::Result<(), BoxError> {
        if *value == UNWRITABLE {
            return Err("it cannot be written".into());
        }
        out.extend_from_slice(&value.to_be_bytes());
        Ok(())
    }

    fn decode(&self, bytes: &[u8]) -> std::result::Result<u64, BoxError> {
        match u64::from_be_bytes(bytes.try_into()?) {
            UNREADABLE if *self == Self::NotAll => Err("it cannot be read".into()),
            value => Ok(value),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Tiers {
    L1,
    L2,
    Both,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Way {
    One,
    Optional,
    Many,
    Loader,
}

/// One combination of verb and tiers: a cache, and what lies behind it.
struct Case {
    tiers: Tiers,
    way: Way,
    stage: Stage,
    cache: Cache,
    source: Source,
}

/// All of them, each on tiers of its own.
async fn cases(with: impl Fn(Builder) -> Builder) -> Vec<Case> {
    let mut all = Vec::new();
    for tiers in [Tiers::L1, Tiers::L2, Tiers::Both] {
        for way in [Way::One, Way::Optional, Way::Many, Way::Loader] {
            let stage = Stage::on(&MemoryBackend::new(1_000));
            let builder = with(TieredCache::builder().namespace("rows"));
            let l1 = MemoryBackend::new(1_000);
            let builder = match tiers {
                Tiers::L1 => builder.l1(l1),
                Tiers::L2 => builder.l2_with(stage.clone(), Reads::NotAll),
                Tiers::Both => builder.l1(l1).l2_with(stage.clone(), Reads::NotAll),
            };
            let cache = builder.build().unwrap();
            until("it serves", || cache.is_serving()).await;
            all.push(Case { tiers, way, stage, cache, source: Source::new() });
        }
    }
    all
}

type Loading<T> = BoxFuture<'static, std::result::Result<T, No>>;
type Query = Loading<Loaded<u64>>;
type Load = fn(Source) -> Query;

impl Case {
    fn has_l1(&self) -> u64 {
        u64::from(self.tiers != Tiers::L2)
    }

    fn has_l2(&self) -> u64 {
        u64::from(self.tiers != Tiers::L1)
    }

    /// Another node on the same tier, which reads and writes everything.
    fn other(&self) -> Cache {
        TieredCache::builder().namespace("rows").l2_with(self.stage.beside(), Reads::All).build().unwrap()
    }

    /// Looks the key up by this verb.
    async fn ask(&self, load: Load) -> Result<Option<u64>> {
        let source = self.source.clone();
        let given = move || load(source.clone());
        match self.way {
            Way::One => self.cache.get_or_load("k", given).await.map(|value| Some(*value)),
            Way::Optional => {
                let load = move || given().map(|found| found.map(Some));
                self.cache.get_or_load_optional("k", load).await.map(|found| found.map(|value| *value))
            }
            Way::Many => {
                let found = self.cache.get_many_or_load(["k"], batch(given)).await?;
                Ok(found[0].as_deref().copied())
            }
            Way::Loader => {
                let found = self.cache.data_loader(batch(given)).build().load("k".to_owned()).await?;
                Ok(found.as_deref().copied())
            }
        }
    }

    async fn adds(&self, what: impl AsyncFnOnce(), expected: &[(&'static str, u64)]) {
        let case = format!("{:?}, {:?}", self.way, self.tiers);
        adds(&self.cache, what, expected, &case).await;
    }

    /// The same, and what is told of it: each event once.
    async fn adds_and_tells(
        &self,
        what: impl AsyncFnOnce(),
        expected: &[(&'static str, u64)],
        events: &[impl Fn(&Event) -> bool],
    ) {
        let mut told = self.cache.subscribe();
        self.adds(what, expected).await;
        let told = crate::told::told(&mut told);
        for event in events {
            let times = told.iter().filter(|told| event(told)).count();
            assert_eq!(times, 1, "{:?}, {:?}: {told:?}", self.way, self.tiers);
        }
    }

    /// A value that has expired, and is a fallback.
    async fn expires(&self) {
        self.cache.insert("k", 1).ttl(ms(500)).stale_for(60 * MINUTE).await.unwrap();
        tokio::time::sleep(ms(600)).await;
    }
}

fn batch(
    given: impl Fn() -> Query + Clone + Send + Sync + 'static,
) -> impl Fn(Vec<String>) -> Loading<HashMap<String, Loaded<u64>>> + Clone {
    move |keys| {
        let load = given();
        async move { Ok(HashMap::from([(keys[0].clone(), load.await?)])) }.boxed()
    }
}

fn unwritable(source: Source) -> Query {
    async move { source.now().await.map(|_| Loaded::new(UNWRITABLE)) }.boxed()
}

fn now(source: Source) -> Query {
    async move { source.now().await.map(Loaded::new) }.boxed()
}

fn slow(source: Source) -> Query {
    async move { source.slow(ms(500)).await.map(Loaded::new) }.boxed()
}

fn held(source: Source) -> Query {
    async move { source.held().await.map(Loaded::new) }.boxed()
}

fn failing(source: Source) -> Query {
    async move { source.failing().await.map(Loaded::new) }.boxed()
}

fn held_and_failing(source: Source) -> Query {
    async move { source.held().await.and(Err(No(1))) }.boxed()
}

fn panicking(source: Source) -> Query {
    async move { if source.version() > 0 { panic!("out of cheese") } else { Err(No(0)) } }.boxed()
}

fn of_no_life(source: Source) -> Query {
    async move { source.now().await.map(|value| Loaded::new(value).ttl(Duration::ZERO)) }.boxed()
}

const LOADED: [(&str, u64); 2] = [("misses", 1), ("loads", 1)];
const FAILED: [(&str, u64); 3] = [("misses", 1), ("loads", 1), ("load_failures", 1)];
