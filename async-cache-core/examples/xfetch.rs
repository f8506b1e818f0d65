//! Refreshing ahead of expiry, against the theory; and what jitter does to expiries. In virtual
//! time: `cargo run --release -p async-cache-core --example xfetch --features testing`.
//!
//! XFetch: with loads that take Δ and r lookups a second, each of which draws a U and refreshes if
//! now − Δ·β·ln(U) ≥ expiry, the first refresh begins on average Δ·β·(ln(r·Δ·β) + γ) ahead of the
//! expiry; and if nothing keeps lookups from refreshing while one is at it, there are e^(1/β)
//! refreshes for each expiry. With single-flight and the lease there is one.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_cache_core::TieredCache;
use async_cache_core::backend::{Expiry, Tick};
use async_cache_memory::MemoryBackend;
use tokio::time::{Instant, sleep};

type Cache = TieredCache<u64, u64>;

const GAMMA: f64 = 0.577_215_664_9;
const TTL: Duration = Duration::from_secs(60);
const COST: Duration = Duration::from_millis(500);
const LOOKUPS_A_SECOND: u64 = 200;

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() {
    println!(
        "| β | refreshes per expiry, unlocked | e^(1/β) | one process | three nodes | lead (s) | theory (s) |"
    );
    println!("|---|---|---|---|---|---|---|");
    for beta in [0.5, 1.0, 2.0] {
        let (unlocked, lead) = unlocked(beta, 4000);
        let (one, one_lead) = cached(beta, 1, 100).await;
        let (fleet, _) = cached(beta, 3, 100).await;
        let theory =
            COST.as_secs_f64() * beta * ((LOOKUPS_A_SECOND as f64 * COST.as_secs_f64() * beta).ln() + GAMMA);
        println!(
            "| {beta} | {unlocked:.2} | {:.2} | {one:.2} | {fleet:.2} | {lead:.3}, cached {one_lead:.3} | {theory:.3} |",
            (1.0 / beta).exp()
        );
    }
    spread().await;
}

/// Lookups at their rate up to an expiry, with nothing between them and the source. Refreshes per
/// expiry, and how far ahead the first began, on average.
fn unlocked(beta: f64, expiries: u32) -> (f64, f64) {
    let (mut refreshes, mut lead) = (0_u64, 0.0);
    let expires = Tick(0).after(TTL);
    let life = Expiry::new(expires, expires, TTL, COST.mul_f64(beta));
    for _ in 0..expiries {
        let mut first = None;
        // Lookups come at random, at the rate.
        let mut now = life.ripens;
        loop {
            let gap = -(1.0 - fastrand::f64()).ln() / LOOKUPS_A_SECOND as f64;
            now = now.after(Duration::from_secs_f64(gap));
            // The first refresh has landed: there is a new value.
            if first.is_some_and(|begun: Tick| now >= begun.after(COST)) {
                break;
            }
            if now >= expires || life.is_drawn(now, 1.0 - fastrand::f64()) {
                refreshes += 1;
                first.get_or_insert(now);
            }
        }
        lead += first.map_or(0.0, |begun| expires.since(begun).as_secs_f64());
    }
    (refreshes as f64 / f64::from(expiries), lead / f64::from(expiries))
}

/// What the source sees: loads, and the lives of the values they replace.
#[derive(Default)]
struct Ledger {
    loads: u32,
    lives: u32,
    lead: f64,
    /// When the newest value was loaded, and whether a load to replace it has begun.
    newest: Option<(Instant, bool)>,
}

impl Ledger {
    fn begun(&mut self) {
        let Some((loaded, replaced)) = &mut self.newest else { return };
        self.loads += 1;
        if !std::mem::replace(replaced, true) {
            self.lives += 1;
            self.lead += TTL.as_secs_f64() - loaded.elapsed().as_secs_f64();
        }
    }

    fn ended(&mut self) {
        self.newest = Some((Instant::now(), false));
    }
}

/// Lookups at the rate, spread over nodes. Loads for each life, and how far ahead of its end they
/// began, on average.
async fn cached(beta: f64, nodes: usize, minutes: u64) -> (f64, f64) {
    let tier = MemoryBackend::new(10);
    let nodes: Vec<Cache> = (0..nodes).map(|_| node(&tier, beta)).collect();
    let ledger = Arc::new(Mutex::new(Ledger::default()));
    let mut turn = 0;
    for _ in 0..minutes * 60 * LOOKUPS_A_SECOND {
        let ledger = Arc::clone(&ledger);
        let load = move || async move {
            ledger.lock().expect("never poisoned").begun();
            sleep(COST).await;
            ledger.lock().expect("never poisoned").ended();
            Ok::<_, std::io::Error>(0)
        };
        nodes[turn].get_or_load(&1, load).await.expect("it loads");
        turn = (turn + 1) % nodes.len();
        let gap = -(1.0 - fastrand::f64()).ln() / LOOKUPS_A_SECOND as f64;
        sleep(Duration::from_secs_f64(gap)).await;
    }
    let ledger = ledger.lock().expect("never poisoned");
    let lives = f64::from(ledger.lives);
    (f64::from(ledger.loads) / lives, ledger.lead / lives)
}

fn node(tier: &MemoryBackend, beta: f64) -> Cache {
    let builder = TieredCache::builder().namespace("rows").l1(MemoryBackend::new(10)).l2(tier.clone());
    builder.ttl(TTL).refresh_ahead(beta).build().expect("a valid cache")
}

/// A thousand keys filled at once: when do they expire?
async fn spread() {
    let cache: Cache = TieredCache::builder()
        .l1(MemoryBackend::new(10_000))
        .ttl(TTL)
        .ttl_jitter(0.1)
        .build()
        .expect("a valid cache");
    for key in 0..1000 {
        cache.get_or_load(&key, || async { Ok::<_, std::io::Error>(0) }).await.expect("it loads");
    }
    sleep(TTL.mul_f64(0.9)).await;
    let keys: Vec<u64> = (0..1000).collect();
    let mut before = 1000;
    print!("\n1,000 keys of 60 s with jitter 0.1, filled at once, expire in each half second from 54 s on:");
    for _ in 0..12 {
        sleep(Duration::from_millis(500)).await;
        let left = cache.get_many(keys.iter()).await.expect("L1 answers").iter().flatten().count();
        print!(" {}", before - left);
        before = left;
    }
    println!("; left: {before}");
}
