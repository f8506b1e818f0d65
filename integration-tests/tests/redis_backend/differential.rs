//! Compares the in-process tier with the scripts. Random sequences of operations run on both, and all answers
//! and all events, in their order, must be equal.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_cache_core::backend::{
    Accept, Acquire, Acquired, Announce, Backend, BusEvent, Check, Fill, Filled, GRANT_PACE, Lease, Listener,
    NodeId, Region, RegionSpec, Token, WAKE_INLINE,
};
use async_cache_core::frame::{is_expired, unseal};
use async_cache_core::key::Key;
use async_cache_memory::MemoryBackend;
use bytes::Bytes;
use integration_tests::{Recorder, RedisServer};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tokio::runtime::Runtime;
use tokio::time::sleep;

use crate::rig::{LIFE, RECORD, frame, patient};

const KEYS: usize = 3;
const NODES: usize = 2;
const SHORT: Duration = Duration::from_millis(15);

/// An operation. Keys, leases and tokens are numbers, taken modulo the number of existing ones.
#[derive(Debug, Clone)]
enum Op {
    Get(usize),
    GetMany(Vec<usize>),
    State,
    Acquire(Vec<(usize, Wanted)>),
    /// A lease that is not renewed, and the time until after its end.
    AcquireAndLapse(usize),
    Fill(Vec<(usize, Size)>, Announce),
    Renew(Vec<usize>),
    Release(Vec<usize>),
    /// A fill with a lease that was never granted.
    FillUnasked(usize),
    Put(Vec<(usize, Size)>),
    /// A value, and the time until after its expiry.
    PutAndExpire(usize),
    PutLate(usize),
    Invalidate(Vec<usize>),
    Expire(Vec<usize>),
    Clear,
    LoseMemory,
}

#[derive(Debug, Clone, Copy)]
enum Wanted {
    Any,
    Known(usize),
    Other(usize),
    Nothing,
}

#[derive(Debug, Clone, Copy)]
enum Size {
    Empty,
    Small,
    /// The largest value that a wake-up carries.
    Inline,
    Large,
    /// A small value with time as a fallback.
    Kept,
}

fn one_op() -> impl Strategy<Value = (usize, Op)> {
    let n = 0..1000_usize;
    let key = 0..KEYS;
    let size = prop_oneof![
        3 => Just(Size::Small), 3 => Just(Size::Kept), 1 => Just(Size::Empty), 1 => Just(Size::Inline), 1 => Just(Size::Large)
    ];
    let wanted = prop_oneof![
        4 => Just(Wanted::Any), 1 => n.clone().prop_map(Wanted::Known),
        1 => n.clone().prop_map(Wanted::Other), 2 => Just(Wanted::Nothing)
    ];
    let announce = prop_oneof![Just(Announce::No), Just(Announce::Yes)];
    let few = 1..=3_usize;
    let op = prop_oneof![
        2 => key.clone().prop_map(Op::Get),
        1 => prop::collection::vec(key.clone(), few.clone()).prop_map(Op::GetMany),
        1 => Just(Op::State),
        9 => prop::collection::vec((key.clone(), wanted), few.clone()).prop_map(Op::Acquire),
        1 => key.clone().prop_map(Op::AcquireAndLapse),
        6 => (prop::collection::vec((n.clone(), size.clone()), few.clone()), announce)
            .prop_map(|(fills, announce)| Op::Fill(fills, announce)),
        2 => prop::collection::vec(n.clone(), few.clone()).prop_map(Op::Renew),
        2 => prop::collection::vec(n, few.clone()).prop_map(Op::Release),
        1 => key.clone().prop_map(Op::FillUnasked),
        3 => prop::collection::vec((key.clone(), size), few.clone()).prop_map(Op::Put),
        1 => key.clone().prop_map(Op::PutAndExpire),
        1 => key.clone().prop_map(Op::PutLate),
        3 => prop::collection::vec(key.clone(), few.clone()).prop_map(Op::Invalidate),
        3 => prop::collection::vec(key, few).prop_map(Op::Expire),
        1 => Just(Op::Clear),
        1 => Just(Op::LoseMemory),
    ];
    (0..NODES, op)
}

/// A tier, and two nodes on it.
struct Side {
    nodes: Vec<(Arc<dyn Region>, Arc<Recorder>)>,
    /// Every lease that was granted so far.
    leases: Vec<(Key, Lease)>,
    /// The sequence numbers at the start and after each loss of data. Other numbers are counted from them.
    bases: Vec<u64>,
    log: Vec<String>,
}

fn key(n: usize) -> Key {
    Key::from_encoded(format!("k{}", n % KEYS).as_bytes())
}

impl Side {
    async fn open(handles: &[Arc<dyn Backend>], namespace: &str) -> Self {
        let mut nodes = Vec::new();
        for (n, handle) in handles.iter().enumerate() {
            let heard = Recorder::new();
            let listener: Arc<dyn Listener> = Arc::clone(&heard) as _;
            let spec = RegionSpec::new(namespace, NodeId(n as u64 + 1), RECORD);
            let region = handle.open(spec, Arc::downgrade(&listener)).unwrap();
            region.state(0).await.unwrap();
            heard.heard(&BusEvent::Subscribed).await;
            heard.forget();
            nodes.push((region, heard));
        }
        let mut side = Self { nodes, leases: Vec::new(), bases: Vec::new(), log: Vec::new() };
        side.rebase().await;
        side
    }

    async fn rebase(&mut self) {
        self.bases.push(self.nodes[0].0.state(0).await.unwrap().seq);
    }

    /// A name for a number that is equal on both sides: how many losses of data came before it, and its
    /// distance from the last one.
    fn number(&self, seq: u64) -> String {
        match self.bases.iter().rposition(|base| *base <= seq) {
            Some(at) => format!("{at}+{}", seq - self.bases[at]),
            None => "before".to_owned(),
        }
    }

    fn value(&self, stored: Option<&Bytes>) -> String {
        let Some(stored) = stored else { return "nothing".to_owned() };
        let seq = unseal(stored).map(|seq| self.number(seq));
        let expired = if is_expired(stored) { ", expired" } else { "" };
        format!("{seq:?} and {:x} of {}{expired}", xxhash(&stored[12..]), stored.len())
    }

    fn acquired(&mut self, key: &Key, acquired: Acquired) -> String {
        match acquired {
            Acquired::Value(stored) => self.value(Some(&stored)),
            Acquired::Unchanged { seq: _, ends } => format!("unchanged, ends at {ends:?}"),
            Acquired::Granted(lease) => {
                self.leases.push((key.clone(), lease));
                format!("granted at {}", self.number(lease.seq))
            }
            // The two sides do not have the same real time.
            Acquired::Busy(left) if left <= GRANT_PACE => "cooling".to_owned(),
            Acquired::Busy(_) => "busy".to_owned(),
            Acquired::NoRoom { .. } => "no room".to_owned(),
        }
    }

    fn filled(&self, filled: Filled) -> String {
        match filled {
            Filled::Stored { seq } => format!("stored at {}", self.number(seq)),
            Filled::Refused => "refused".to_owned(),
        }
    }

    fn event(&self, event: &BusEvent) -> Option<String> {
        Some(match event {
            BusEvent::Invalidated { seq, key, .. } => format!("invalidated {key:?} at {}", self.number(*seq)),
            BusEvent::Expired { seq, key, .. } => format!("expired {key:?} at {}", self.number(*seq)),
            BusEvent::Cleared { seq, .. } => format!("cleared at {}", self.number(*seq)),
            BusEvent::Echo { seq, beat, .. } => format!("echo {beat} at {}", self.number(*seq)),
            BusEvent::Woken { key, value } => format!("woken {key:?} with {}", self.value(value.as_ref())),
            BusEvent::Stored { key } => format!("{key:?} is stored"),
            _ => return None,
        })
    }

    fn some(&self, leases: &[usize]) -> Vec<(Key, Lease)> {
        let pick = |n: &usize| self.leases.get(n % self.leases.len().max(1)).cloned();
        leases.iter().filter_map(pick).collect()
    }

    async fn run(&mut self, node: usize, op: &Op, count: &mut Tokens) {
        let region = Arc::clone(&self.nodes[node].0);
        let answer = match op {
            Op::Get(k) => self.value(region.read_one(&key(*k), Check::Plain).await.unwrap().value.as_ref()),
            Op::GetMany(ks) => {
                let read =
                    region.read(&ks.iter().map(|k| key(*k)).collect::<Vec<_>>(), Check::Plain).await.unwrap();
                format!("{:?}", read.values.iter().map(|v| self.value(v.as_ref())).collect::<Vec<_>>())
            }
            Op::State => {
                let state = region.state(0).await.unwrap();
                let floor =
                    if state.floor > self.bases[0] { self.number(state.floor) } else { String::new() };
                format!("{} above {floor}", self.number(state.seq))
            }
            Op::Acquire(asks) => {
                let ask = |(k, wanted): &(usize, Wanted)| (key(*k), count.ask(node, LIFE, *wanted));
                let asks: Vec<_> = asks.iter().map(ask).collect();
                let answers = region.acquire(&asks).await;
                let answers = asks.iter().zip(answers).map(|((k, _), a)| self.acquired(k, a.unwrap()));
                format!("{:?}", answers.collect::<Vec<_>>())
            }
            Op::AcquireAndLapse(k) => {
                let ask = count.ask(node, SHORT, Wanted::Any);
                let acquired = region.acquire_one(&key(*k), ask).await.unwrap();
                sleep(SHORT * 2).await;
                self.acquired(&key(*k), acquired)
            }
            Op::Fill(which, announce) => {
                let leases = self.some(&which.iter().map(|(n, _)| *n).collect::<Vec<_>>());
                let fill = |((key, lease), (_, size)): ((Key, Lease), &(usize, Size))| Fill {
                    frame: count.frame(lease.token, *size),
                    key,
                    lease,
                    life: LIFE,
                    announce: *announce,
                };
                let fills: Vec<Fill> = leases.into_iter().zip(which).map(fill).collect();
                let filled = region.fill(&fills).await.into_iter().map(|f| self.filled(f.unwrap()));
                format!("{:?}", filled.collect::<Vec<_>>())
            }
            Op::Renew(which) => format!("{:?}", region.renew(&self.some(which), LIFE).await.unwrap()),
            Op::Release(which) => format!("{:?}", region.release(&self.some(which)).await.is_ok()),
            Op::FillUnasked(k) => {
                let lease = Lease { token: count.token(node), seq: region.state(0).await.unwrap().seq };
                let frame = count.frame(lease.token, Size::Small);
                self.filled(
                    region
                        .fill_one(Fill {
                            key: key(*k).clone(),
                            lease,
                            frame,
                            life: LIFE,
                            announce: Announce::No,
                        })
                        .await
                        .unwrap(),
                )
            }
            Op::Put(entries) => self.put(&*region, node, entries, LIFE, u64::MAX >> 12, count).await,
            Op::PutAndExpire(k) => {
                let put = self.put(&*region, node, &[(*k, Size::Small)], SHORT, u64::MAX >> 12, count).await;
                sleep(SHORT * 2).await;
                put
            }
            Op::PutLate(k) => {
                let now = region.state(0).await.unwrap().time_ms;
                self.put(&*region, node, &[(*k, Size::Small)], LIFE, now - 1, count).await
            }
            Op::Invalidate(ks) => {
                let seqs = region.invalidate(&ks.iter().map(|k| key(*k)).collect::<Vec<_>>()).await.unwrap();
                format!("{:?}", seqs.iter().map(|seq| self.number(*seq)).collect::<Vec<_>>())
            }
            Op::Expire(ks) => {
                let seqs = region.expire(&ks.iter().map(|k| key(*k)).collect::<Vec<_>>()).await.unwrap();
                format!("{:?}", seqs.iter().map(|seq| self.number(*seq)).collect::<Vec<_>>())
            }
            Op::Clear => self.number(region.clear(0).await.unwrap()),
            Op::LoseMemory => unreachable!("not an operation of a region"),
        };
        if matches!(op, Op::Put(_) | Op::PutAndExpire(_) | Op::Invalidate(_) | Op::Expire(_)) {
            // Waits until no key cools. The remaining time differs between the two sides.
            sleep(GRANT_PACE + Duration::from_millis(3)).await;
        }
        self.log.push(format!("node {node} {op:?}: {answer}"));
    }

    async fn put(
        &self,
        region: &dyn Region,
        node: usize,
        entries: &[(usize, Size)],
        life: Duration,
        not_after: u64,
        count: &mut Tokens,
    ) -> String {
        let entry = |(k, size): &(usize, Size)| {
            let token = count.token(node);
            (key(*k), count.frame(token, *size))
        };
        let entries: Vec<_> = entries.iter().map(entry).collect();
        match region.put(&entries, life, not_after).await {
            Ok(seqs) => format!("{:?}", seqs.iter().map(|seq| self.number(*seq)).collect::<Vec<_>>()),
            Err(error) => format!("{:?}", error.kind()),
        }
    }

    /// The answers and events so far.
    async fn end(mut self) -> Vec<String> {
        for n in 0..self.nodes.len() {
            let (region, heard) = &self.nodes[n];
            region.heartbeat(0, 99).await.unwrap();
            heard.wait("the last echo", |e| matches!(e, BusEvent::Echo { .. }).then_some(())).await;
            let events: Vec<_> = heard.events().iter().filter_map(|event| self.event(event)).collect();
            self.log.push(format!("node {n} heard {events:#?}"));
        }
        self.log
    }
}

fn xxhash(bytes: &[u8]) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

/// Tokens and frames. They are equal on both sides for equal operations.
#[derive(Default)]
struct Tokens {
    count: u64,
}

impl Tokens {
    fn token(&mut self, node: usize) -> Token {
        self.count += 1;
        Token { node: NodeId(node as u64 + 1), counter: self.count }
    }

    fn ask(&mut self, node: usize, ttl: Duration, wanted: Wanted) -> Acquire {
        // A token of either node.
        let earlier = |n: usize| Token {
            node: NodeId((n % NODES) as u64 + 1),
            counter: (n as u64 / NODES as u64) % (self.count + 1),
        };
        let accept = match wanted {
            Wanted::Any => Accept::Any,
            Wanted::Known(n) => Accept::Known(earlier(n)),
            Wanted::Other(n) => Accept::Other(earlier(n)),
            Wanted::Nothing => Accept::Nothing,
        };
        Acquire { token: self.token(node), ttl, accept }
    }

    fn frame(&mut self, token: Token, size: Size) -> Bytes {
        let header = frame(token, b"").len() + 12;
        self.count += 1;
        let payload = match size {
            Size::Empty => Vec::new(),
            Size::Small => self.count.to_string().into_bytes(),
            Size::Kept => {
                [&1_u64.to_be_bytes()[..], &2_u64.to_be_bytes(), self.count.to_string().as_bytes()].concat()
            }
            Size::Inline => vec![7; WAKE_INLINE - header],
            Size::Large => vec![7; WAKE_INLINE - header + 1],
        };
        frame(token, &payload)
    }
}

async fn same(
    server: &RedisServer,
    redis: &[Arc<dyn Backend>],
    ops: &[(usize, Op)],
) -> Result<(), TestCaseError> {
    static NAMESPACES: AtomicU64 = AtomicU64::new(0);
    let namespace = format!("differential-{}", NAMESPACES.fetch_add(1, Ordering::Relaxed));
    let memory = MemoryBackend::new(1000);
    let handles: Vec<Arc<dyn Backend>> = (0..NODES).map(|_| Arc::new(memory.clone()) as _).collect();
    let mut double = Side::open(&handles, &namespace).await;
    let mut real = Side::open(redis, &namespace).await;
    let (mut of_double, mut of_real) = (Tokens::default(), Tokens::default());
    for (node, op) in ops {
        if matches!(op, Op::LoseMemory) {
            memory.restart(None);
            server.cli::<()>(&["FLUSHALL"]);
            double.rebase().await;
            real.rebase().await;
        } else {
            double.run(*node, op, &mut of_double).await;
            real.run(*node, op, &mut of_real).await;
        }
    }
    let (double, real) = (double.end().await, real.end().await);
    for (double, real) in double.iter().zip(&real) {
        prop_assert_eq!(double, real, "the double on the left, Redis on the right");
    }
    Ok(())
}

#[test]
fn the_double_does_what_the_scripts_do() {
    let runtime = Runtime::new().unwrap();
    let server = RedisServer::start();
    let redis: Vec<Arc<dyn Backend>> = runtime.block_on(async {
        let mut handles: Vec<Arc<dyn Backend>> = Vec::new();
        for _ in 0..NODES {
            handles.push(Arc::new(patient(server.url()).connect().await.unwrap()));
        }
        handles
    });
    let cases = std::env::var("CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(100);
    let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    let outcome = runner
        .run(&prop::collection::vec(one_op(), 1..30), |ops| runtime.block_on(same(&server, &redis, &ops)));
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
}
