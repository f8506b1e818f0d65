//! Nodes, and the events that they receive.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

use crate::backend::{
    Accept, Acquire, Acquired, Announce, BusEvent, Check, Fill, Filled, Lease, Listener, NodeId, Region,
    RegionSpec, Token,
};
use crate::format::frame::{SEAL_LEN, TOKEN_OFFSET, seal};
use crate::format::key::Key;
use crate::testing::conformance::{Broken, Checked, Subject};

pub(super) const RECORD: &str = "conformance";
/// A life that does not end within a case.
pub(super) const LIFE: Duration = Duration::from_secs(3600);
/// A life whose end a case waits for.
pub(super) const SHORT: Duration = Duration::from_millis(60);
/// The limit for every wait.
const PATIENCE: Duration = Duration::from_secs(10);

/// A running case: its subject and its namespace.
pub(super) struct Bench<'a> {
    pub(super) subject: &'a dyn Subject,
    namespace: String,
}

impl<'a> Bench<'a> {
    pub(super) fn new(subject: &'a dyn Subject, case: &str) -> Self {
        Self { subject, namespace: format!("{case}-{:x}", fastrand::u32(..)) }
    }

    /// A subscribed node on a handle of its own.
    pub(super) async fn node(&self) -> Checked<Node> {
        self.node_in(&self.namespace, RECORD).await
    }

    pub(super) async fn two(&self) -> Checked<(Node, Node)> {
        Ok((self.node().await?, self.node().await?))
    }

    /// A subscribed node of another namespace.
    pub(super) async fn neighbour(&self) -> Checked<Node> {
        self.node_in(&format!("{}-beside", self.namespace), RECORD).await
    }

    /// A node with another record.
    pub(super) async fn stranger(&self) -> Checked<Node> {
        self.node_in(&self.namespace, "another record").await
    }

    async fn node_in(&self, namespace: &str, record: &str) -> Checked<Node> {
        let (id, heard) = (NodeId::random(), Arc::new(Ear::default()));
        let listener: Arc<dyn Listener> = Arc::clone(&heard) as _;
        let handle = self.subject.handle().await;
        let region = handle.open(RegionSpec::new(namespace, id, record), Arc::downgrade(&listener))?;
        let node = Node { region, heard, id, count: AtomicU64::new(0) };
        // A backend may wait with the subscription until the first operation.
        node.region.state(0).await?;
        node.heard.subscribed(node.region.info().partitions).await?;
        Ok(node)
    }
}

/// One node of a namespace.
pub(super) struct Node {
    pub(super) region: Arc<dyn Region>,
    pub(super) heard: Arc<Ear>,
    pub(super) id: NodeId,
    count: AtomicU64,
}

impl Node {
    pub(super) fn token(&self) -> Token {
        Token { node: self.id, counter: self.count.fetch_add(1, Ordering::Relaxed) + 1 }
    }

    pub(super) fn ask(&self) -> Acquire {
        Acquire { token: self.token(), ttl: LIFE, accept: Accept::Any }
    }

    pub(super) async fn acquire(&self, key: &Key) -> Checked<Acquired> {
        Ok(self.region.acquire_one(key, self.ask()).await?)
    }

    /// Whether the key is free for a load, whatever is stored.
    pub(super) async fn reload(&self, key: &Key) -> Checked<Acquired> {
        Ok(self.region.acquire_one(key, Acquire { accept: Accept::Nothing, ..self.ask() }).await?)
    }

    /// A lease that must be granted.
    pub(super) async fn lease(&self, key: &Key) -> Checked<Lease> {
        granted(self.acquire(key).await?)
    }

    /// Asks for a lease that another node holds. Returns the time until it expires.
    pub(super) async fn queue(&self, key: &Key) -> Checked<Duration> {
        match self.acquire(key).await? {
            Acquired::Busy(left) => Ok(left),
            other => Err(Broken(format!("while a lease is held: {other:?}"))),
        }
    }

    pub(super) async fn fill(&self, key: &Key, lease: Lease, payload: &[u8]) -> Checked<Filled> {
        let frame = frame(lease.token, payload);
        Ok(self
            .region
            .fill_one(Fill { key: key.clone(), lease, frame, life: LIFE, announce: Announce::No })
            .await?)
    }

    /// Puts a value. Returns its token, its number, and the bytes that must be stored.
    pub(super) async fn put(&self, key: &Key, payload: &[u8]) -> Checked<(Token, u64, Bytes)> {
        let token = self.token();
        let frame = frame(token, payload);
        let entry = [(key.clone(), frame.clone())];
        let seqs = self.region.put(&entry, LIFE, u64::MAX >> 12).await?;
        let seq = only(&seqs)?;
        Ok((token, seq, stored(seq, &frame)))
    }

    pub(super) async fn invalidate(&self, key: &Key) -> Checked<u64> {
        only(&self.region.invalidate(std::slice::from_ref(key)).await?)
    }

    pub(super) async fn read(&self, key: &Key) -> Checked<Option<Bytes>> {
        Ok(self.region.read_one(key, Check::Plain).await?.value)
    }

    pub(super) fn partition(&self, key: &Key) -> u16 {
        key.partition(self.region.info().partitions)
    }

    pub(super) async fn seq(&self, key: &Key) -> Checked<u64> {
        Ok(self.region.state(self.partition(key)).await?.seq)
    }

    /// Waits until this node has received all events so far of the key's partition.
    pub(super) async fn settle(&self, key: &Key) -> Checked {
        let (partition, beat) = (self.partition(key), self.token().counter | 1 << 40);
        self.region.heartbeat(partition, beat).await?;
        let echo = |event: &BusEvent| matches!(event, BusEvent::Echo { beat: b, .. } if *b == beat);
        self.heard.wait("the echo of a heartbeat", |event| echo(event).then_some(())).await
    }
}

pub(super) fn granted(acquired: Acquired) -> Checked<Lease> {
    match acquired {
        Acquired::Granted(lease) => Ok(lease),
        other => Err(Broken(format!("with nothing in the way of a lease: {other:?}"))),
    }
}

fn only(seqs: &[u64]) -> Checked<u64> {
    match seqs {
        [seq] => Ok(*seq),
        other => Err(Broken(format!("one change was answered by the numbers {other:?}"))),
    }
}

/// Notes the events that a node receives.
#[derive(Default)]
pub(super) struct Ear {
    events: Mutex<Vec<BusEvent>>,
    news: Notify,
}

impl Listener for Ear {
    fn notify(&self, event: BusEvent) {
        self.events.lock().push(event);
        self.news.notify_waiters();
    }
}

impl Ear {
    pub(super) fn events(&self) -> Vec<BusEvent> {
        self.events.lock().clone()
    }

    /// Waits for an event for which `want` returns something. Earlier events count, too.
    pub(super) async fn wait<T>(&self, what: &str, want: impl Fn(&BusEvent) -> Option<T>) -> Checked<T> {
        let search = async {
            loop {
                let news = self.news.notified();
                tokio::pin!(news);
                news.as_mut().enable();
                if let Some(found) = self.events.lock().iter().find_map(&want) {
                    return found;
                }
                news.await;
            }
        };
        timeout(PATIENCE, search).await.map_err(|_| Broken(format!("{what} was never heard")))
    }

    pub(super) async fn event(&self, event: &BusEvent) -> Checked {
        self.wait(&format!("{event:?}"), |heard| (heard == event).then_some(())).await
    }

    /// Waits for the subscription to all partitions, together or one by one.
    pub(super) async fn subscribed(&self, partitions: u16) -> Checked {
        for partition in 0..partitions {
            let subscribed = [BusEvent::Subscribed, BusEvent::PartitionSubscribed { partition }];
            self.wait("the subscription", |event| subscribed.contains(event).then_some(())).await?;
        }
        Ok(())
    }

    /// The wake-ups for a key that have arrived so far.
    pub(super) fn wakes(&self, key: &Key) -> Vec<BusEvent> {
        let about = |event: &BusEvent| match event {
            BusEvent::Woken { key: of, .. } | BusEvent::Stored { key: of } => of == key.as_bytes(),
            _ => false,
        };
        self.events().into_iter().filter(about).collect()
    }

    /// The values of the wake-ups for a key that have arrived so far.
    pub(super) fn woken(&self, key: &Key) -> Vec<Option<Bytes>> {
        let value = |event| match event {
            BusEvent::Woken { value, .. } => value,
            _ => None,
        };
        self.wakes(key).into_iter().map(value).collect()
    }

    /// The numbers of the changes of a partition that have arrived so far.
    pub(super) fn changes(&self, of: u16) -> Vec<u64> {
        let seq = |event| match event {
            BusEvent::Invalidated { partition, seq, .. }
            | BusEvent::Expired { partition, seq, .. }
            | BusEvent::TagsExpired { partition, seq, .. }
            | BusEvent::TagsInvalidated { partition, seq, .. }
            | BusEvent::Cleared { partition, seq }
                if partition == of =>
            {
                Some(seq)
            }
            _ => None,
        };
        self.events().into_iter().filter_map(seq).collect()
    }
}

/// Calls `probe` again until it returns something.
pub(super) async fn eventually<T>(
    what: &str,
    mut probe: impl AsyncFnMut() -> Checked<Option<T>>,
) -> Checked<T> {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        if let Some(found) = probe().await? {
            return Ok(found);
        }
        sleep(Duration::from_millis(2)).await;
    }
    Err(Broken(format!("not within {PATIENCE:?}: {what}")))
}

#[expect(clippy::needless_pass_by_value, reason = "calls read better without references")]
pub(super) fn same<T: PartialEq + Debug>(what: &str, seen: T, wanted: T) -> Checked {
    if seen == wanted { Ok(()) } else { Err(Broken(format!("{what}: {seen:?}, where {wanted:?} was due"))) }
}

pub(super) fn holds(what: &str, condition: bool) -> Checked {
    if condition { Ok(()) } else { Err(Broken(format!("not so: {what}"))) }
}

pub(super) fn key(text: &str) -> Key {
    Key::from_encoded(text.as_bytes())
}

/// A frame with its token where a stored value has it.
pub(super) fn frame(token: Token, payload: &[u8]) -> Bytes {
    let mut frame = vec![b'h'; TOKEN_OFFSET - SEAL_LEN];
    frame.extend_from_slice(&token.to_bytes());
    frame.extend_from_slice(payload);
    frame.into()
}

pub(super) fn stored(seq: u64, frame: &[u8]) -> Bytes {
    [&seal(seq)[..], frame].concat().into()
}
