//! The database, as loaders read it.

use std::time::Duration;

use async_cache::testing::No;
use fastrand::Rng;
use tokio::time::sleep;

use super::book::{Book, Fate};
use crate::surface::{Ask, Brought, Call, Options, Source, Tiers, Verb, What, Written};

/// The rows, as the loaders of one node read them.
#[derive(Clone)]
pub(super) struct Database {
    pub(super) book: Book,
    pub(super) node: usize,
}

/// The behavior of one run of a loader.
struct Manner {
    before: u64,
    after: u64,
    end: End,
    size: usize,
    choice: Options,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Brings,
    BringsUncached,
    Unchanged,
    Fails,
    Panics,
    Hangs,
}

impl Manner {
    fn draw(book: &Book, ask: &Ask) -> Self {
        let pages = book.pages();
        let plan = &pages.plan;
        let runs = pages.loads.len() as u64;
        let mut rng = Rng::with_seed(plan.seed ^ ask.call.id.rotate_left(32) ^ runs);
        let end = match rng.u32(..100) < plan.odd_loads {
            true => [End::BringsUncached, End::Fails, End::Fails, End::Panics, End::Hangs][rng.usize(..5)],
            false if ask.previous.is_some() && rng.bool() => End::Unchanged,
            false => End::Brings,
        };
        let mut choice = Options::default();
        if rng.u8(..6) == 0 {
            choice.ttl = Some(Duration::from_millis([40, 500][rng.usize(..2)]));
        }
        if rng.u8(..10) == 0 {
            choice.stale_for = Some(Duration::from_millis([100, 5_000][rng.usize(..2)]));
        }
        if rng.u8(..10) == 0 {
            choice.ttl_jitter = Some([0.1, 0.5][rng.usize(..2)]);
        }
        if plan.common_tiers() != Tiers::L2 && rng.u8(..12) == 0 {
            choice.l1_ttl = Some(Duration::from_millis([20, 200][rng.usize(..2)]));
        }
        if plan.common_tiers() != Tiers::L2 && rng.u8(..20) == 0 {
            choice.refresh_ahead = Some([1.0, 5.0][rng.usize(..2)]);
        }
        if rng.u8(..4) == 0 {
            choice.tags = vec!["chosen".to_owned()];
        }
        let long = if rng.u8(..20) == 0 { rng.u64(..400) } else { 0 };
        Self {
            before: rng.u64(..=plan.load / 4),
            after: rng.u64(..=plan.load) + long,
            end,
            size: rng.usize(..=plan.size),
            choice,
        }
    }
}

impl Source for Database {
    fn run(&self, ask: Ask) -> impl Future<Output = Result<Vec<Brought>, No>> + Send + 'static {
        let Self { book, node } = self.clone();
        async move {
            let manner = Manner::draw(&book, &ask);
            let running = Running { loads: book.load_begins(node, &ask), book: book.clone() };
            sleep_ms(manner.before).await;
            let versions: Vec<u64> = {
                let pages = book.pages();
                ask.keys.iter().map(|key| pages.versions[*key as usize]).collect()
            };
            sleep_ms(manner.after).await;
            match manner.end {
                End::Fails => return Err(No(0)),
                End::Panics => std::panic::panic_any(super::Planned),
                End::Hangs => std::future::pending().await,
                End::Brings | End::BringsUncached | End::Unchanged => {}
            }
            let rows = ask.keys.iter().zip(versions).zip(&running.loads);
            Ok(rows
                .map(|((key, version), load)| brought(&book, &ask, &manner, (*key, version, *load)))
                .collect())
        }
    }

    fn to_store(&self, call: &Call, key: u64) -> Written {
        let mut pages = self.book.pages();
        let version = pages.versions[key as usize];
        let mut rng = Rng::with_seed(pages.plan.seed ^ call.id ^ key << 20);
        let size = rng.usize(..=pages.plan.size);
        let load = pages.insert_begins(self.node, call, key);
        let at = pages.loads[load].begun;
        Written::new((key, version), load as u64, at.ms, call.effective.life_ms(), size)
    }
}

fn brought(book: &Book, ask: &Ask, manner: &Manner, (key, version, load): (u64, u64, usize)) -> Brought {
    let kept = manner.choice.over(&ask.call.effective);
    let mut pages = book.pages();
    let absent = pages.plan.is_absent(key, version);
    let mut rng = Rng::with_seed(pages.plan.seed ^ (load as u64) << 8);
    let refused = ask.call.verb == Verb::LoadEach && rng.u32(..100) < pages.plan.odd_loads;
    let fate = match manner.end {
        End::Unchanged if ask.previous.is_some() => Fate::Unchanged,
        _ if refused => Fate::Failed,
        _ if absent && !ask.call.verb.takes_absence() => Fate::Failed,
        _ if absent && ask.call.verb.takes_many() && rng.bool() => Fate::LeftOut,
        _ if absent => Fate::Absent,
        End::BringsUncached => Fate::Uncached,
        _ => Fate::Value,
    };
    // A loader chooses options for values only. An absence is stored with the options of the call.
    let kept = if fate == Fate::Absent { ask.call.effective.clone() } else { kept };
    let previous = ask.previous.as_ref().map(|previous| previous.origin as usize);
    pages.load_ends(load, fate, &kept, previous);
    let at = pages.loads[load].ended;
    let what = match fate {
        Fate::Unchanged => What::Unchanged,
        Fate::Failed if refused => What::Refused,
        Fate::Absent | Fate::Failed => What::Absent,
        Fate::LeftOut => What::LeftOut,
        Fate::Running | Fate::Value | Fate::Uncached => {
            What::Value(Written::new((key, version), load as u64, at.ms, kept.life_ms(), manner.size))
        }
    };
    Brought { key, what, choice: manner.choice.clone(), cached: fate != Fate::Uncached }
}

async fn sleep_ms(span: u64) {
    if span > 0 {
        sleep(Duration::from_millis(span)).await;
    }
}

/// A run of a loader. If it is dropped, the loads that have not ended have failed.
struct Running {
    book: Book,
    loads: Vec<usize>,
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut pages = self.book.pages();
        for load in &self.loads {
            if pages.loads[*load].fate == Fate::Running {
                pages.load_ends(*load, Fate::Failed, &Options::default(), None);
            }
        }
    }
}
