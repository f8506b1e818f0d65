//! Every figure of `Stats`, exactly, whichever verb looks up and whichever tiers there are.

use std::collections::HashMap;
use std::time::Duration;

use async_cache_core::testing::{No, Source, ms, until};
use async_cache_core::{
    Amended, BoxError, Codec, ErrorKind, Event, Loaded, Result, TieredCache, TieredCacheBuilder,
    UnreadableCause,
};
use async_cache_memory::MemoryBackend;
use futures_util::future::{BoxFuture, FutureExt, join_all};

use crate::figures::adds;
use crate::key;
use crate::stage::{Cache, Holder, Stage};

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

/// All of them, each on tiers of its own; or those that have an L2.
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

#[tokio::test(start_paused = true)]
async fn a_miss_and_then_a_hit() {
    for case in cases(|builder| builder).await {
        case.adds(async || assert_eq!(case.ask(now).await.unwrap(), Some(1)), &LOADED).await;
        let hit = [("l1_hits", case.has_l1()), ("l2_hits", 1 - case.has_l1())];
        case.adds(async || assert_eq!(case.ask(now).await.unwrap(), Some(1)), &hit).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_load_that_fails() {
    for case in cases(|builder| builder.load_timeout(ms(200))).await {
        let loads: [(Load, ErrorKind); 3] = [
            (failing, ErrorKind::Loader),
            (panicking, ErrorKind::LoaderPanicked),
            (slow, ErrorKind::Timeout),
        ];
        for (load, cause) in loads {
            let failed = |event: &Event| matches!(event, Event::LoadFailed { kind, .. } if *kind == cause);
            let fail = async || assert_eq!(case.ask(load).await.unwrap_err().kind(), cause);
            case.adds_and_tells(fail, &FAILED, &[failed]).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_crowd() {
    for case in cases(|builder| builder).await {
        let crowd =
            async || assert!(join_all((0..10).map(|_| case.ask(slow))).await.iter().all(Result::is_ok));
        case.adds(crowd, &[("misses", 1), ("loads", 1), ("coalesced_waits", 9)]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_choice_that_cannot_be() {
    for case in cases(|builder| builder).await {
        let amended = [LOADED[0], LOADED[1], ("amended_choices", 1)];
        let choose = async || assert_eq!(case.ask(of_no_life).await.unwrap(), Some(1));
        let told = |event: &Event| matches!(event, Event::ChoiceAmended { to: Amended::Uncached, .. });
        case.adds_and_tells(choose, &amended, &[told]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_value_that_cannot_be_written_or_read() {
    for case in cases(|builder| builder).await {
        let unwritten = [LOADED[0], LOADED[1], ("codec_failures", case.has_l2())];
        let write = async || assert_eq!(case.ask(unwritable).await.unwrap(), Some(UNWRITABLE));
        if case.tiers == Tiers::L1 {
            case.adds(write, &unwritten).await;
            continue;
        }
        let told = |event: &Event| matches!(event, Event::NotEncoded { .. });
        case.adds_and_tells(write, &unwritten, &[told]).await;
        case.cache.invalidate("k").await.unwrap();
        case.other().insert("k", UNREADABLE).await.unwrap();
        let unread = [LOADED[0], LOADED[1], ("codec_failures", 1), ("unreadable", 1)];
        let read = async || assert_eq!(case.ask(now).await.unwrap(), Some(1));
        let told = |event: &Event| matches!(event, Event::Unreadable { cause: UnreadableCause::Codec, .. });
        case.adds_and_tells(read, &unread, &[told]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn answers_that_have_expired() {
    for case in cases(|builder| builder.stale_for(MINUTE)).await {
        case.expires().await;
        let excused = [("stale_served", 1), ("loads", 1), ("load_failures", 1)];
        case.adds(async || assert_eq!(case.ask(failing).await.unwrap(), Some(1)), &excused).await;
        case.adds(async || assert_eq!(case.ask(now).await.unwrap(), Some(1)), &[("stale_served", 1)]).await;
    }
    let behind = [("stale_served", 1), ("loads", 1)];
    for case in cases(|builder| builder.stale_for(MINUTE).stale_while_revalidate(true)).await {
        case.expires().await;
        case.adds(async || assert_eq!(case.ask(slow).await.unwrap(), Some(1)), &behind).await;
    }
    for case in cases(|builder| builder.stale_for(MINUTE).soft_timeout(ms(100))).await {
        case.expires().await;
        case.adds(async || assert_eq!(case.ask(slow).await.unwrap(), Some(1)), &behind).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_load_that_an_invalidation_meets() {
    for case in cases(|builder| builder).await {
        let overtaken = async || {
            let change = async {
                case.source.begun(1).await;
                case.cache.invalidate("k").await.unwrap();
                case.source.let_go(1);
            };
            assert_eq!(tokio::join!(case.ask(held), change).0.unwrap(), Some(1));
        };
        let met = [
            LOADED[0],
            LOADED[1],
            ("fills_rejected", 1),
            ("invalidations_sent", 1),
            ("invalidations_received", case.has_l2()),
        ];
        case.adds_and_tells(overtaken, &met, &[|event: &Event| matches!(event, Event::FillRejected { .. })])
            .await;
    }
}

/// One call of the loader, and an error for each key that it could not load.
#[tokio::test(start_paused = true)]
async fn keys_of_a_batch_that_fail() {
    for case in cases(|builder| builder).await.into_iter().filter(|case| case.way == Way::Loader) {
        let each = |keys: Vec<String>| async move {
            let load = |key: String| if key == "k" { (key, Ok(1)) } else { (key, Err::<u64, _>(No(1))) };
            keys.into_iter().map(load).collect::<HashMap<_, _>>()
        };
        let load = async || {
            let found =
                case.cache.data_loader_each(each).build().load_many(["k", "l", "m"].map(String::from)).await;
            assert_eq!(found.iter().filter(|found| found.is_err()).count(), 2);
        };
        let failed = [("misses", 3), ("loads", 1), ("load_failures", 2)];
        let mut events = case.cache.subscribe();
        case.adds(load, &failed).await;
        let told = crate::told::told(&mut events);
        let told =
            told.iter().filter(|event| matches!(event, Event::LoadFailed { kind: ErrorKind::Loader, .. }));
        assert_eq!(told.count(), 2);
    }
}

/// Fresh, and to be refreshed soon: whether or not it is refreshed behind the answer, it is a hit.
#[tokio::test(start_paused = true)]
async fn a_value_that_is_to_be_refreshed_soon() {
    for case in cases(|builder| builder.refresh_ahead(100.0)).await {
        assert_eq!(case.ask(slow).await.unwrap(), Some(1));
        tokio::time::sleep(Duration::from_secs(299)).await;
        let before = case.cache.stats();
        assert_eq!(case.cache.get("k").await.unwrap().as_deref(), Some(&1));
        assert_eq!(case.ask(now).await.unwrap(), Some(1));
        let after = case.cache.stats();
        let hits = (after.l1_hits - before.l1_hits, after.l2_hits - before.l2_hits);
        assert_eq!(hits, (2 * case.has_l1(), 2 - 2 * case.has_l1()), "{:?}, {:?}", case.way, case.tiers);
        until("nothing is under way", || case.cache.is_idle()).await;
    }
}

/// Another caller has stored a value meanwhile: it answers in the place of the failure.
#[tokio::test(start_paused = true)]
async fn a_load_that_fails_where_there_is_a_value_by_then() {
    for case in cases(|builder| builder).await {
        let overtaken = async || {
            let change = async {
                case.source.begun(1).await;
                case.cache.insert("k", 7).await.unwrap();
                case.source.let_go(1);
            };
            assert_eq!(tokio::join!(case.ask(held_and_failing), change).0.unwrap(), Some(7));
        };
        let found = [
            ("l1_hits", case.has_l1()),
            ("l2_hits", 1 - case.has_l1()),
            ("loads", 1),
            ("load_failures", 1),
            ("invalidations_sent", 1),
            ("invalidations_received", case.has_l2()),
        ];
        case.adds(overtaken, &found).await;
    }
}

/// Another node loads: its value answers here, or it takes too long.
#[tokio::test(start_paused = true)]
async fn a_load_of_another_node() {
    for case in cases(|builder| builder.wait_timeout(ms(500))).await {
        if case.tiers == Tiers::L1 {
            continue;
        }
        let other = case.other();
        other.insert("k", 1).await.unwrap();
        let mut holder = Holder::beside(&case.stage);
        let value = holder.frame(&key()).await;
        other.invalidate("k").await.unwrap();
        let lease = holder.lease(&key()).await;
        let filled = async || {
            let fill = async {
                until("it waits", || case.cache.stats().lease_waits == 1).await;
                holder.fill(&key(), lease, &value).await;
            };
            assert_eq!(tokio::join!(case.ask(failing), fill).0.unwrap(), Some(1));
        };
        case.adds(filled, &[("l2_hits", 1), ("lease_waits", 1)]).await;

        other.invalidate("k").await.unwrap();
        let _lease = holder.lease(&key()).await;
        let impatient = [LOADED[0], LOADED[1], ("lease_waits", 1), ("fills_rejected", 1)];
        case.adds(async || assert_eq!(case.ask(now).await.unwrap(), Some(1)), &impatient).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_load_that_l2_has_no_room_for() {
    for case in cases(|builder| builder).await {
        if case.tiers == Tiers::L1 {
            continue;
        }
        case.stage.is_full();
        let full = [LOADED[0], LOADED[1], ("fills_rejected", 1)];
        case.adds(async || assert_eq!(case.ask(now).await.unwrap(), Some(1)), &full).await;
    }
}

/// One error of L2 for each question that failed, and one lookup.
#[tokio::test(start_paused = true)]
async fn a_load_while_l2_is_away() {
    for case in cases(|builder| builder).await {
        if case.tiers == Tiers::L1 {
            continue;
        }
        case.stage.reads_fail();
        let away = [LOADED[0], LOADED[1], ("l2_errors", 1)];
        case.adds(async || assert_eq!(case.ask(now).await.unwrap(), Some(1)), &away).await;
    }
}

/// Keys that are too long to be cached are loaded all the same.
#[tokio::test(start_paused = true)]
async fn keys_that_are_too_long() {
    let long = "x".repeat(2_000);
    for case in cases(|builder| builder).await {
        let all = |keys: Vec<String>| async move {
            Ok::<_, No>(keys.into_iter().map(|key| (key, 1)).collect::<HashMap<_, _>>())
        };
        let none = |_: Vec<String>| async { Err::<HashMap<String, u64>, _>(No(0)) };
        let load = async || match case.way {
            Way::Loader => drop(case.cache.data_loader(all).build().load(long.clone()).await.unwrap()),
            _ => drop(case.cache.get_many_or_load([long.as_str()], all).await.unwrap()),
        };
        case.adds(load, &LOADED).await;
        let fail = async || match case.way {
            Way::Loader => drop(case.cache.data_loader(none).build().load(long.clone()).await.unwrap_err()),
            _ => drop(case.cache.get_many_or_load([long.as_str()], none).await.unwrap_err()),
        };
        case.adds(fail, &FAILED).await;
        let each = |keys: Vec<String>| async move {
            keys.into_iter().map(|key| (key, Err::<u64, _>(No(1)))).collect::<HashMap<_, _>>()
        };
        let each =
            async || drop(case.cache.data_loader_each(each).build().load(long.clone()).await.unwrap_err());
        case.adds(each, &FAILED).await;
    }
}

/// The same of verbs without a loader: of one key, and of two.
#[tokio::test(start_paused = true)]
async fn lookups_without_a_loader() {
    let two = ["k".to_owned(), "l".to_owned()];
    for case in cases(|builder| builder).await {
        let get = async || drop(case.cache.get("k").await.unwrap());
        let contains = async || _ = case.cache.contains("k").await.unwrap();
        let get_many = async || drop(case.cache.get_many(two.iter()).await.unwrap());
        case.adds(get, &[("misses", 1)]).await;
        case.adds(contains, &[("misses", 1)]).await;
        case.adds(get_many, &[("misses", 2)]).await;

        case.cache.insert_many(two.clone().map(|key| (key, 1))).await.unwrap();
        let hits =
            |count: u64| [("l1_hits", count * case.has_l1()), ("l2_hits", count * (1 - case.has_l1()))];
        case.adds(get, &hits(1)).await;
        case.adds(contains, &hits(1)).await;
        case.adds(get_many, &hits(2)).await;

        // It has expired, and is a fallback: of no use here.
        case.expires().await;
        case.adds(get, &[("misses", 1)]).await;
        case.adds(get_many, &[("misses", 1), hits(1)[0], hits(1)[1]]).await;

        if case.tiers != Tiers::L1 {
            case.cache.invalidate_all().await.unwrap();
            case.stage.reads_fail();
            case.adds(
                async || drop(case.cache.get("k").await.unwrap_err()),
                &[("misses", 1), ("l2_errors", 1)],
            )
            .await;
            let many = async || drop(case.cache.get_many(two.iter()).await.unwrap_err());
            case.adds(many, &[("misses", 2), ("l2_errors", 1)]).await;
        }
    }
}

/// What is heard of another node's changes, of one's own, and of what was missed.
#[tokio::test(start_paused = true)]
async fn changes_heard_and_missed() {
    for case in cases(|builder| builder).await.into_iter().filter(|case| case.tiers == Tiers::Both) {
        let other = case.other();
        for _ in 0..2 {
            let keys = async || drop(other.invalidate_many(["a", "b"]).await.unwrap());
            case.adds(keys, &[("invalidations_received", 2)]).await;
            case.adds(
                async || drop(other.invalidate_tag("t").await.unwrap()),
                &[("invalidations_received", 1)],
            )
            .await;
            case.adds(async || drop(other.invalidate_all().await.unwrap()), &[("invalidations_received", 1)])
                .await;
            case.adds(async || drop(other.insert("k", 1).await.unwrap()), &[("invalidations_received", 1)])
                .await;
        }
        let missed = async || {
            case.stage.hold_events();
            other.invalidate("a").await.unwrap();
            until("it is on the way", || case.stage.held_events() > 0).await;
            case.stage.lose_held_events();
            other.invalidate("b").await.unwrap();
            until("it is missed", || case.cache.stats().flushes > 0).await;
        };
        case.adds(missed, &[("invalidations_received", 1), ("flushes", 1)]).await;
    }
}
