//! What lies between the nodes and the server: two routes for each node, one for commands and
//! their answers, one for messages, which know nothing of each other's order.
//!
//! A command is carried by a task of its own: it may be executed long after its caller has given
//! up, and two commands of one node in any order. Messages of one node keep their order.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_cache::MemoryBackend;
use async_cache::backend::{
    Acquire, Acquired, Announce, Backend, Baseline, BusEvent, Filled, Lease, Listener, Pulse, Read, ReadMany,
    Region, RegionSpec, Renewed, State,
};
use async_cache::key::Key;
use async_cache::{Error, ErrorKind, Result, Tags};
use async_trait::async_trait;
use bytes::Bytes;
use fastrand::Rng;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// How good the network is.
#[derive(Debug, Clone, Copy)]
pub struct Weather {
    /// Longest time on the way, usually.
    pub usual: Duration,
    /// Longest time on the way, at worst.
    pub worst: Duration,
    /// Share of commands, answers and messages that take long.
    pub slow: f64,
    /// Share of commands, and of answers, that are lost.
    pub lost_commands: f64,
    /// Share of messages that are lost without a sign.
    pub lost_messages: f64,
    /// How long a command may take.
    pub command_timeout: Duration,
}

/// The server, and what leads to it.
#[derive(Debug)]
pub struct Network {
    server: MemoryBackend,
    weather: Weather,
    /// Number of server processes so far: what was sent to an earlier one never arrives.
    epoch: AtomicU64,
    /// The weather has cleared up.
    clear: AtomicBool,
    /// Prints what passes.
    verbose: bool,
    start: Instant,
}

impl Network {
    /// A network in front of a server.
    #[must_use]
    pub fn new(server: MemoryBackend, weather: Weather, verbose: bool) -> Arc<Self> {
        let (epoch, clear, start) = (AtomicU64::new(0), AtomicBool::new(false), Instant::now());
        Arc::new(Self { server, weather, epoch, clear, verbose, start })
    }

    /// The way of one node to the server.
    #[must_use]
    pub fn link(self: &Arc<Self>, node: usize, seed: u64) -> Arc<Link> {
        Arc::new(Link {
            network: Arc::clone(self),
            node,
            rng: Mutex::new(Rng::with_seed(seed)),
            state: Mutex::new(LinkState {
                bus: Bus::Up,
                joined: false,
                queue: VecDeque::new(),
                last: Instant::now(),
                blocked_until: Instant::now(),
                unreachable_until: Instant::now(),
            }),
            news: Notify::new(),
        })
    }

    /// From now on nothing is lost, and nothing slow.
    pub fn clear_up(&self) {
        self.clear.store(true, Ordering::SeqCst);
    }

    /// Everything under way to the server is lost.
    pub fn server_died(&self) {
        self.epoch.fetch_add(1, Ordering::SeqCst);
    }
}

/// The way of one node: a backend for it to be built on.
pub struct Link {
    network: Arc<Network>,
    node: usize,
    rng: Mutex<Rng>,
    state: Mutex<LinkState>,
    news: Notify,
}

struct LinkState {
    bus: Bus,
    /// The server has begun to tell this node of changes.
    joined: bool,
    /// Messages under way, and when they are due.
    queue: VecDeque<(Instant, BusEvent)>,
    last: Instant,
    /// Nothing passes before, in either direction, on either route: the node is stopped.
    blocked_until: Instant,
    /// Commands fail at once before.
    unreachable_until: Instant,
}

/// The message route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bus {
    Up,
    /// Messages vanish.
    Deaf,
    /// There is no subscription.
    Down,
}

impl Link {
    /// Stops the node's traffic for a while: as if its process were stopped.
    pub fn block(&self, span: Duration) {
        let mut state = self.state.lock();
        state.blocked_until = state.blocked_until.max(Instant::now() + span);
        self.news.notify_one();
    }

    /// Makes commands fail at once for a while.
    pub fn unreachable(&self, span: Duration) {
        let mut state = self.state.lock();
        state.unreachable_until = state.unreachable_until.max(Instant::now() + span);
    }

    /// Whether commands are sent at all.
    #[must_use]
    pub fn is_reachable(&self) -> bool {
        self.state.lock().unreachable_until <= Instant::now()
    }

    /// Loses messages for a while without a sign.
    pub async fn go_deaf(self: Arc<Self>, span: Duration) {
        if self.take_down(Bus::Deaf) {
            sleep(span).await;
            self.state.lock().bus = Bus::Up;
        }
    }

    /// Ends the subscription: noticed after `notice`, acknowledged anew `after` that.
    pub async fn cut(self: Arc<Self>, notice: Duration, after: Duration) {
        if self.take_down(Bus::Down) {
            sleep(notice).await;
            self.queue(BusEvent::Lost);
            sleep(after).await;
            let joined = {
                let mut state = self.state.lock();
                state.bus = Bus::Up;
                state.joined
            };
            if joined {
                self.queue(BusEvent::Subscribed);
            }
        }
    }

    /// False if it is down already.
    fn take_down(&self, bus: Bus) -> bool {
        let mut state = self.state.lock();
        let was_up = state.bus == Bus::Up;
        if was_up {
            state.bus = bus;
            state.queue.retain(|(_, event)| bus == Bus::Deaf && *event == BusEvent::Subscribed);
        }
        was_up
    }

    fn queue(&self, event: BusEvent) {
        let due = Instant::now() + self.on_the_way();
        let mut state = self.state.lock();
        let due = due.max(state.last);
        state.last = due;
        state.queue.push_back((due, event));
        self.news.notify_one();
    }

    fn trace(&self, what: &str, detail: &dyn fmt::Debug) {
        if self.network.verbose {
            println!("{:6} node {} {what} {detail:?}", self.network.start.elapsed().as_millis(), self.node);
        }
    }

    fn chance(&self, share: f64) -> bool {
        share > 0.0 && !self.network.clear.load(Ordering::SeqCst) && self.rng.lock().f64() < share
    }

    fn on_the_way(&self) -> Duration {
        let weather = &self.network.weather;
        let slow = self.chance(weather.slow);
        let limit = if slow { weather.worst } else { weather.usual };
        Duration::from_millis(self.rng.lock().u64(..=limit.as_millis() as u64))
    }

    /// Takes its time; false if it never arrives.
    async fn travel(&self) -> bool {
        let lost = self.chance(self.network.weather.lost_commands);
        let span = self.on_the_way();
        if span.is_zero() {
            let turns = self.rng.lock().u8(..4);
            for _ in 0..turns {
                tokio::task::yield_now().await;
            }
        } else {
            sleep(span).await;
        }
        let blocked_until = self.state.lock().blocked_until;
        if blocked_until > Instant::now() {
            sleep_until(blocked_until).await;
        }
        !lost
    }

    async fn deliver(self: Arc<Self>, listener: Weak<dyn Listener>) {
        loop {
            let next = {
                let mut state = self.state.lock();
                let now = Instant::now();
                match state.queue.front() {
                    Some((due, _)) if (*due).max(state.blocked_until) <= now => {
                        Ok(state.queue.pop_front().map(|(_, event)| event))
                    }
                    Some((due, _)) => Err(Some((*due).max(state.blocked_until))),
                    None => Err(None),
                }
            };
            let Some(listener) = listener.upgrade() else { return };
            match next {
                Ok(event) => event.into_iter().for_each(|event| {
                    self.trace("hears", &event);
                    listener.notify(event);
                }),
                Err(due) => {
                    drop(listener);
                    let due = due.unwrap_or_else(|| Instant::now() + Duration::from_secs(1));
                    let _ = tokio::time::timeout_at(due, self.news.notified()).await;
                }
            }
        }
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").finish_non_exhaustive()
    }
}

/// What the server tells of a node goes on its way.
struct Relay {
    link: Arc<Link>,
}

impl Listener for Relay {
    fn notify(&self, event: BusEvent) {
        let first = {
            let mut state = self.link.state.lock();
            let first = event == BusEvent::Subscribed && !state.joined;
            state.joined |= first;
            if state.bus == Bus::Down || (state.bus == Bus::Deaf && !first) {
                return;
            }
            first
        };
        // Later comings and goings of the subscription are the link's own affair.
        if !first && matches!(event, BusEvent::Lost | BusEvent::Subscribed) {
            return;
        }
        if !first && self.link.chance(self.link.network.weather.lost_messages) {
            return;
        }
        self.link.queue(event);
    }
}

/// A [`Link`] as a backend.
#[derive(Debug, Clone)]
pub struct Wire(pub Arc<Link>);

impl Backend for Wire {
    fn open(&self, spec: RegionSpec, listener: Weak<dyn Listener>) -> Result<Arc<dyn Region>> {
        let relay = Arc::new(Relay { link: Arc::clone(&self.0) });
        let weak: Weak<dyn Listener> = Arc::downgrade(&(Arc::clone(&relay) as Arc<dyn Listener>));
        let server = self.0.network.server.open(spec, weak)?;
        tokio::spawn(Arc::clone(&self.0).deliver(listener));
        Ok(Arc::new(Distant { server, link: Arc::clone(&self.0), _relay: relay }))
    }
}

/// A region at the other end of a link.
struct Distant {
    server: Arc<dyn Region>,
    link: Arc<Link>,
    _relay: Arc<Relay>,
}

impl fmt::Debug for Distant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Distant")
    }
}

impl Distant {
    async fn send<T, C, F>(&self, name: &'static str, command: C) -> Result<T>
    where
        T: fmt::Debug + Send + 'static,
        C: FnOnce(Arc<dyn Region>) -> F + Send + 'static,
        F: Future<Output = Result<T>> + Send,
    {
        if !self.available() {
            return Err(Error::new(ErrorKind::Backend, "not tried: the server is away"));
        }
        let (answer, answered) = oneshot::channel();
        let (server, link) = (Arc::clone(&self.server), Arc::clone(&self.link));
        let epoch = link.network.epoch.load(Ordering::SeqCst);
        tokio::spawn(async move {
            let arrives = link.travel().await;
            if !arrives || link.network.epoch.load(Ordering::SeqCst) != epoch {
                return;
            }
            let outcome = command(server).await;
            link.trace(name, &outcome);
            if link.travel().await {
                let _ = answer.send(outcome);
            }
        });
        let answered = async {
            match answered.await {
                Ok(outcome) => outcome,
                Err(_) => std::future::pending().await,
            }
        };
        let late = |_| Error::new(ErrorKind::Backend, "no answer in time");
        timeout(self.command_timeout(), answered).await.map_err(late)?
    }
}

#[async_trait]
impl Region for Distant {
    fn partitions(&self) -> u16 {
        self.server.partitions()
    }

    fn available(&self) -> bool {
        self.link.is_reachable()
    }

    fn command_timeout(&self) -> Duration {
        self.link.network.weather.command_timeout
    }

    async fn get(&self, key: &Key) -> Result<Read> {
        let key = key.clone();
        self.send("get", move |server| async move { server.get(&key).await }).await
    }

    async fn get_many(&self, keys: &[Key]) -> Result<ReadMany> {
        let keys = keys.to_vec();
        self.send("get_many", move |server| async move { server.get_many(&keys).await }).await
    }

    async fn get_valid(&self, key: &Key) -> Result<Read> {
        let key = key.clone();
        self.send("get_valid", move |server| async move { server.get_valid(&key).await }).await
    }

    async fn get_many_valid(&self, keys: &[Key]) -> Result<ReadMany> {
        let keys = keys.to_vec();
        self.send("get_many_valid", move |server| async move { server.get_many_valid(&keys).await }).await
    }

    async fn baseline(&self, partition: u16) -> Result<Baseline> {
        self.send("baseline", move |server| async move { server.baseline(partition).await }).await
    }

    async fn state(&self, partition: u16) -> Result<State> {
        self.send("state", move |server| async move { server.state(partition).await }).await
    }

    async fn acquire(&self, key: &Key, ask: Acquire) -> Result<Acquired> {
        let key = key.clone();
        self.send("acquire", move |server| async move { server.acquire(&key, ask).await }).await
    }

    async fn fill(
        &self,
        key: &Key,
        lease: Lease,
        frame: Bytes,
        life: Duration,
        announce: Announce,
    ) -> Result<Filled> {
        let key = key.clone();
        self.send("fill", move |server| async move { server.fill(&key, lease, frame, life, announce).await })
            .await
    }

    async fn renew(&self, key: &Key, lease: Lease, ttl: Duration) -> Result<Renewed> {
        let key = key.clone();
        self.send("renew", move |server| async move { server.renew(&key, lease, ttl).await }).await
    }

    async fn release(&self, key: &Key, lease: Lease) -> Result<()> {
        let key = key.clone();
        self.send("release", move |server| async move { server.release(&key, lease).await }).await
    }

    async fn put(&self, entries: &[(Key, Bytes)], life: Duration, not_after_ms: u64) -> Result<Vec<u64>> {
        let entries = entries.to_vec();
        self.send("put", move |server| async move { server.put(&entries, life, not_after_ms).await }).await
    }

    async fn invalidate(&self, keys: &[Key]) -> Result<Vec<u64>> {
        let keys = keys.to_vec();
        self.send("invalidate", move |server| async move { server.invalidate(&keys).await }).await
    }

    async fn invalidate_tags(&self, partition: u16, tags: &Tags) -> Result<u64> {
        let tags = tags.clone();
        let change =
            move |server: Arc<dyn Region>| async move { server.invalidate_tags(partition, &tags).await };
        self.send("invalidate_tags", change).await
    }

    async fn clear(&self, partition: u16) -> Result<u64> {
        self.send("clear", move |server| async move { server.clear(partition).await }).await
    }

    async fn heartbeat(&self, partition: u16, beat: u64) -> Result<Pulse> {
        self.send("heartbeat", move |server| async move { server.heartbeat(partition, beat).await }).await
    }
}
