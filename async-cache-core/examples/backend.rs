//! A shared tier: one partition, in a map behind a lock. A backend for a real server has to do the same.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_cache_core::backend::{
    Accept, Acquire, Acquired, Announce, Backend, Baseline, BusEvent, Check, Effect, Fill, Filled,
    GRANT_PACE, Info, Lease, Listener, NodeId, Pulse, ReadMany, Region, RegionSpec, Renewed, RunId, State,
    TAG_TABLE, WAKE_INLINE,
};
use async_cache_core::frame::{ends_of, expired, frame_tags, is_expired, seal, tags_of, token_of, unseal};
use async_cache_core::key::Key;
use async_cache_core::testing::conformance::{self, Subject};
use async_cache_core::{Error, ErrorKind, Result, Tags};
use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::Instant;

/// The server. Its memory is never replaced, so its run never changes.
const RUN: RunId = RunId(1);

#[derive(Debug, Default, Clone)]
struct Tier(Arc<Mutex<HashMap<String, Arc<Mutex<Namespace>>>>>);

#[derive(Debug)]
struct Namespace {
    record: String,
    began: Instant,
    seq: u64,
    floor: u64,
    values: HashMap<Key, (Bytes, Instant)>,
    tags: HashMap<Bytes, u64>,
    expired_tags: HashMap<Bytes, u64>,
    tag_floor: u64,
    locks: HashMap<Key, Lock>,
    nodes: Vec<Node>,
}

/// A node that listens for as long as its region lives.
#[derive(Debug)]
struct Node {
    id: NodeId,
    region: Weak<()>,
    listener: Weak<dyn Listener>,
}

/// The lock of a key: held under a lease, or `None` while the key cools.
#[derive(Debug)]
struct Lock {
    lease: Option<Lease>,
    until: Instant,
    waiting: BTreeSet<NodeId>,
}

impl Namespace {
    fn send(&self, to: Option<NodeId>, event: &BusEvent) {
        for node in self.nodes.iter().filter(|node| to.is_none_or(|to| to == node.id)) {
            if let (Some(_), Some(listener)) = (node.region.upgrade(), node.listener.upgrade()) {
                listener.notify(event.clone());
            }
        }
    }

    fn wake(&self, key: &Key, waiting: BTreeSet<NodeId>, value: Option<Bytes>) {
        let key = Bytes::copy_from_slice(key.as_bytes());
        let event = match value {
            Some(value) if value.len() > WAKE_INLINE => BusEvent::Stored { key },
            value => BusEvent::Woken { key, value },
        };
        waiting.into_iter().for_each(|node| self.send(Some(node), &event));
    }

    fn read(&self, key: &Key, check: Check) -> Option<Bytes> {
        let (value, expires) = self.values.get(key)?;
        let is_void = || unseal(value).is_none_or(|seq| seq < self.floor || self.voids(&tags_of(value), seq));
        let answers = *expires > Instant::now() && (check == Check::Plain || !is_void());
        match unseal(value).filter(|_| check == Check::Valid) {
            Some(seq) if self.expires(&tags_of(value), seq) => expired(value).filter(|_| answers),
            _ => answers.then(|| value.clone()),
        }
    }

    fn expires(&self, tags: &Tags, seq: u64) -> bool {
        tags.iter().any(|tag| self.expired_tags.get(tag).is_some_and(|last| *last > seq))
    }

    fn voids(&self, tags: &Tags, seq: u64) -> bool {
        !tags.is_empty()
            && (seq < self.tag_floor
                || tags.iter().any(|tag| self.tags.get(tag).is_some_and(|last| *last > seq)))
    }

    /// The lock of a key, if it still stands.
    fn lock(&mut self, key: &Key) -> Option<&mut Lock> {
        let floor = self.floor;
        let stands =
            |lock: &Lock| lock.until > Instant::now() && lock.lease.is_none_or(|lease| lease.seq >= floor);
        self.locks.get_mut(key).filter(|lock| stands(lock))
    }

    /// The nodes that wait, if this lease is held. The lock is gone then.
    fn end(&mut self, key: &Key, lease: Lease) -> Option<BTreeSet<NodeId>> {
        let held = self.locks.get(key)?;
        (held.lease == Some(lease) && held.until > Instant::now())
            .then(|| self.locks.remove(key))?
            .map(|it| it.waiting)
    }

    fn store(&mut self, key: &Key, seq: u64, frame: &[u8], life: Duration) -> Bytes {
        let value = Bytes::from([&seal(seq)[..], frame].concat());
        self.values.insert(key.clone(), (value.clone(), Instant::now() + life));
        value
    }

    /// Numbers a change of a key, and breaks its lease. Returns the nodes that waited.
    fn begin(&mut self, key: &Key) -> (u64, BTreeSet<NodeId>) {
        self.seq += 1;
        let waiting = match self.lock(key) {
            Some(lock) => {
                if lock.lease.take().is_some() {
                    lock.until = Instant::now() + GRANT_PACE;
                }
                std::mem::take(&mut lock.waiting)
            }
            None => self.locks.remove(key).map(|lock| lock.waiting).unwrap_or_default(),
        };
        (self.seq, waiting)
    }

    /// A change that expires a key: what has time as a fallback stays, with the seal that says so.
    fn expire(&mut self, key: &Key) -> u64 {
        let left = self.read(key, Check::Valid).and_then(|value| expired(&value));
        let (seq, waiting) = self.begin(key);
        if let (Some(value), Some((_, until))) = (left, self.values.remove(key)) {
            self.values.insert(key.clone(), (value, until));
        }
        let key_bytes = Bytes::copy_from_slice(key.as_bytes());
        self.send(None, &BusEvent::Expired { partition: 0, seq, key: key_bytes });
        self.wake(key, waiting, None);
        seq
    }

    /// A change of tags: a new number in the table of its effect, and a message to all.
    fn change_tags(&mut self, tags: &Tags, effect: Effect) -> u64 {
        self.seq += 1;
        if self.tags.len().max(self.expired_tags.len()) + tags.iter().count() > TAG_TABLE {
            self.tags.clear();
            self.expired_tags.clear();
            self.tag_floor = self.seq;
        }
        let (seq, names) = (self.seq, tags.clone());
        let (table, event) = match effect {
            Effect::Void => (&mut self.tags, BusEvent::TagsInvalidated { partition: 0, seq, tags: names }),
            Effect::Expire => {
                (&mut self.expired_tags, BusEvent::TagsExpired { partition: 0, seq, tags: names })
            }
        };
        table.extend(tags.iter().map(|tag| (Bytes::copy_from_slice(tag), seq)));
        self.send(None, &event);
        seq
    }

    /// A change of a key: a new number, a broken lease, and a message to all before anybody is woken.
    fn change(&mut self, key: &Key, value: Option<(&[u8], Duration)>) -> u64 {
        let (seq, waiting) = self.begin(key);
        let stored = match value {
            Some((frame, life)) => Some(self.store(key, seq, frame, life)),
            None => self.values.remove(key).and(None),
        };
        self.send(
            None,
            &BusEvent::Invalidated { partition: 0, seq, key: Bytes::copy_from_slice(key.as_bytes()) },
        );
        self.wake(key, waiting, stored);
        seq
    }

    fn acquire(&mut self, node: NodeId, key: &Key, ask: Acquire) -> Acquired {
        if let Some(value) = self.read(key, Check::Valid) {
            let token = token_of(&value);
            match ask.accept {
                Accept::Known(known) if token == Some(known) && !is_expired(&value) => {
                    return Acquired::Unchanged { seq: self.seq, ends: ends_of(&value) };
                }
                Accept::Other(other) if token == Some(other) => {}
                Accept::Nothing => {}
                Accept::Any | Accept::Known(_) | Accept::Other(_) => return Acquired::Value(value),
            }
        }
        if let Some(lock) = self.lock(key) {
            if let Some(lease) = lock.lease.filter(|lease| lease.token == ask.token) {
                return Acquired::Granted(lease);
            }
            lock.waiting.insert(node);
            return Acquired::Busy(lock.until - Instant::now());
        }
        let waiting = self.locks.remove(key).map(|lock| lock.waiting).unwrap_or_default();
        let lease = Lease { token: ask.token, seq: self.seq };
        self.locks.insert(key.clone(), Lock { lease: Some(lease), until: Instant::now() + ask.ttl, waiting });
        Acquired::Granted(lease)
    }

    fn fill(&mut self, Fill { key, lease, frame, life, announce }: &Fill) -> Filled {
        let Some(waiting) = self.end(key, *lease) else { return Filled::Refused };
        let tags = frame_tags(frame);
        if lease.seq < self.floor || self.voids(&tags, lease.seq) || self.expires(&tags, lease.seq) {
            self.wake(key, waiting, None);
            return Filled::Refused;
        }
        let seq = match announce {
            Announce::No => lease.seq,
            Announce::Yes => self.change(key, None),
        };
        let value = self.store(key, seq, frame, *life);
        self.wake(key, waiting, Some(value));
        Filled::Stored { seq }
    }

    fn time_ms(&self) -> u64 {
        1_000_000 + self.began.elapsed().as_millis() as u64
    }
}

/// The tags of a table, or those that are asked for.
fn listed(table: &HashMap<Bytes, u64>, asked: Option<&Tags>) -> Vec<(Bytes, u64)> {
    let is_asked = |tag: &[u8]| asked.is_none_or(|asked| asked.iter().any(|it| it == tag));
    table.iter().filter(|(tag, _)| is_asked(tag)).map(|(tag, seq)| (tag.clone(), *seq)).collect()
}

impl Backend for Tier {
    fn open(&self, spec: RegionSpec, listener: Weak<dyn Listener>) -> Result<Arc<dyn Region>> {
        let mut namespaces = self.0.lock();
        let namespace = namespaces.entry(spec.namespace).or_insert_with(|| {
            Arc::new(Mutex::new(Namespace {
                record: spec.record.clone(),
                began: Instant::now(),
                seq: 1,
                floor: 0,
                values: HashMap::new(),
                tags: HashMap::new(),
                expired_tags: HashMap::new(),
                tag_floor: 0,
                locks: HashMap::new(),
                nodes: Vec::new(),
            }))
        });
        if namespace.lock().record != spec.record {
            return Err(Error::new(
                ErrorKind::Config,
                "other nodes use this namespace with another codec or type",
            ));
        }
        Ok(Arc::new(View {
            namespace: Arc::clone(namespace),
            node: spec.node,
            listener: Mutex::new(Some(listener)),
            alive: Arc::new(()),
        }))
    }
}

/// One namespace, as one node sees it.
#[derive(Debug)]
struct View {
    namespace: Arc<Mutex<Namespace>>,
    node: NodeId,
    /// Taken by the first operation, which subscribes.
    listener: Mutex<Option<Weak<dyn Listener>>>,
    alive: Arc<()>,
}

impl View {
    fn run<T>(&self, operation: impl FnOnce(&mut Namespace) -> T) -> T {
        let mut namespace = self.namespace.lock();
        if let Some(listener) = self.listener.lock().take() {
            namespace.nodes.retain(|node| node.region.strong_count() > 0);
            namespace.nodes.push(Node { id: self.node, region: Arc::downgrade(&self.alive), listener });
            namespace.send(Some(self.node), &BusEvent::Subscribed);
        }
        operation(&mut namespace)
    }
}

fn exists(partition: u16) -> Result<()> {
    let error =
        || Error::new(ErrorKind::Config, format!("partition {partition} does not exist: there is one"));
    (partition == 0).then_some(()).ok_or_else(error)
}

#[async_trait]
impl Region for View {
    fn info(&self) -> Info {
        Info { partitions: 1, deadline: Duration::from_secs(1), available: true }
    }

    async fn read(&self, keys: &[Key], check: Check) -> Result<ReadMany> {
        Ok(ReadMany { run: RUN, values: self.run(|it| keys.iter().map(|key| it.read(key, check)).collect()) })
    }

    async fn baseline(&self, partition: u16, tags: Option<&Tags>) -> Result<Baseline> {
        exists(partition)?;
        Ok(self.run(|it| Baseline {
            state: State { run: RUN, seq: it.seq, floor: it.floor, time_ms: it.time_ms() },
            tag_floor: it.tag_floor,
            tags: listed(&it.tags, tags),
            expired_tags: listed(&it.expired_tags, tags),
        }))
    }

    async fn acquire(&self, asks: &[(Key, Acquire)]) -> Vec<Result<Acquired>> {
        self.run(|it| asks.iter().map(|(key, ask)| Ok(it.acquire(self.node, key, *ask))).collect())
    }

    async fn fill(&self, fills: &[Fill]) -> Vec<Result<Filled>> {
        self.run(|it| fills.iter().map(|fill| Ok(it.fill(fill))).collect())
    }

    async fn renew(&self, leases: &[(Key, Lease)], ttl: Duration) -> Result<Vec<Renewed>> {
        let renew = |it: &mut Namespace, (key, lease): &(Key, Lease)| match it.lock(key) {
            Some(lock) if lock.lease == Some(*lease) => {
                lock.until = Instant::now() + ttl;
                Renewed::Held
            }
            _ => Renewed::Lost,
        };
        Ok(self.run(|it| leases.iter().map(|lease| renew(it, lease)).collect()))
    }

    async fn release(&self, leases: &[(Key, Lease)]) -> Result<()> {
        self.run(|it| {
            for (key, lease) in leases {
                if let Some(waiting) = it.end(key, *lease) {
                    it.wake(key, waiting, None);
                }
            }
        });
        Ok(())
    }

    async fn put(&self, entries: &[(Key, Bytes)], life: Duration, not_after_ms: u64) -> Result<Vec<u64>> {
        self.run(|it| {
            if it.time_ms() > not_after_ms {
                return Err(Error::new(ErrorKind::Backend, "an insert was given up before it was executed"));
            }
            Ok(entries.iter().map(|(key, frame)| it.change(key, Some((frame, life)))).collect())
        })
    }

    async fn invalidate(&self, keys: &[Key]) -> Result<Vec<u64>> {
        Ok(self.run(|it| keys.iter().map(|key| it.change(key, None)).collect()))
    }

    async fn invalidate_tags(&self, partition: u16, tags: &Tags) -> Result<u64> {
        exists(partition)?;
        Ok(self.run(|it| it.change_tags(tags, Effect::Void)))
    }

    async fn expire(&self, keys: &[Key]) -> Result<Vec<u64>> {
        Ok(self.run(|it| keys.iter().map(|key| it.expire(key)).collect()))
    }

    async fn expire_tags(&self, partition: u16, tags: &Tags) -> Result<u64> {
        exists(partition)?;
        Ok(self.run(|it| it.change_tags(tags, Effect::Expire)))
    }

    async fn clear(&self, partition: u16) -> Result<u64> {
        exists(partition)?;
        Ok(self.run(|it| {
            it.seq += 1;
            it.floor = it.seq;
            it.tags.clear();
            it.expired_tags.clear();
            it.send(None, &BusEvent::Cleared { partition, seq: it.seq });
            it.seq
        }))
    }

    async fn heartbeat(&self, partition: u16, beat: u64) -> Result<Pulse> {
        exists(partition)?;
        Ok(self.run(|it| {
            it.send(Some(self.node), &BusEvent::Echo { partition, seq: it.seq, beat });
            Pulse { run: RUN, time_ms: it.time_ms() }
        }))
    }
}

#[async_trait]
impl Subject for Tier {
    async fn handle(&self) -> Arc<dyn Backend> {
        Arc::new(self.clone())
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    conformance::run(&Tier::default()).await;
}
