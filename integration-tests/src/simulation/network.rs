//! The network between the nodes and the server. Each node has two routes: one for commands and their answers,
//! and one for messages. There is no order between the two routes.
//!
//! A command travels in its own task. So it may be executed long after its caller has given up, and two
//! commands of one node may be executed in any order. The messages of one node keep their order.

mod wire;
mod wires;

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_cache::MemoryBackend;
use async_cache::backend::{BusEvent, Listener};
use fastrand::Rng;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};

pub use wire::Wire;
pub use wires::Wires;
pub(super) use wires::server_of;

/// The quality of the network.
#[derive(Debug, Clone, Copy)]
pub struct Weather {
    /// The usual maximum delay in one direction.
    pub usual: Duration,
    /// The maximum delay in one direction.
    pub worst: Duration,
    /// The fraction of commands, answers and messages with a long delay.
    pub slow: f64,
    /// The fraction of commands, and of answers, that are lost.
    pub lost_commands: f64,
    /// The fraction of messages that are lost without a sign.
    pub lost_messages: f64,
    /// The time that the server takes for each lease of a command about many.
    pub per_key: Duration,
    /// The timeout of a command.
    pub command_timeout: Duration,
}

/// The server, and the links to it.
#[derive(Debug)]
pub struct Network {
    server: MemoryBackend,
    weather: Weather,
    /// The number of server processes so far. Data that was sent to an earlier one never arrives.
    epoch: AtomicU64,
    /// Whether the network has no faults any more.
    clear: AtomicBool,
    /// Whether the traffic is printed.
    verbose: bool,
    start: Instant,
}

impl Network {
    /// Makes a network in front of a server.
    #[must_use]
    pub fn new(server: MemoryBackend, weather: Weather, verbose: bool) -> Arc<Self> {
        let (epoch, clear, start) = (AtomicU64::new(0), AtomicBool::new(false), Instant::now());
        Arc::new(Self { server, weather, epoch, clear, verbose, start })
    }

    /// Makes the link of one node to the server.
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

    /// From now on no data is lost, and none is slow.
    pub fn clear_up(&self) {
        self.clear.store(true, Ordering::SeqCst);
    }

    /// Loses all commands that are under way to the server.
    pub fn server_died(&self) {
        self.epoch.fetch_add(1, Ordering::SeqCst);
    }
}

/// The link of one node. The node's backend uses it.
pub struct Link {
    network: Arc<Network>,
    node: usize,
    rng: Mutex<Rng>,
    state: Mutex<LinkState>,
    news: Notify,
}

struct LinkState {
    bus: Bus,
    /// Whether the server has begun to send changes to this node.
    joined: bool,
    /// The messages under way, and the times at which they arrive.
    queue: VecDeque<(Instant, BusEvent)>,
    last: Instant,
    /// Until this time no data passes in any direction on any route: the node is stopped.
    blocked_until: Instant,
    /// Until this time commands fail at once.
    unreachable_until: Instant,
}

/// The state of the message route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bus {
    Up,
    /// Messages are lost.
    Deaf,
    /// There is no subscription.
    Down,
}

impl Link {
    /// Stops the node's traffic for a while, as if its process were stopped.
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

    /// Whether commands are sent.
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

    /// Ends the subscription. The node notices it after `notice`, and a new subscription is confirmed `after`
    /// that.
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

    /// Ends the subscription. Returns false if there is none.
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

    /// Waits for the delay of the network. Returns false if the data is lost.
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
