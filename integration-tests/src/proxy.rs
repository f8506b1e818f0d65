//! A proxy in front of a server, for faults of the network.
//!
//! A connection belongs to one of two routes: the route of messages after it has subscribed, and the route of
//! commands before. Each route has its own conditions. So data that is sent first on one route may arrive last
//! on the other.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::RwLock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// The use of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// Commands and their answers. Every connection is on this route until it subscribes.
    Commands,
    /// Messages to a subscriber.
    Messages,
}

impl Route {
    /// Both routes.
    pub const ALL: [Self; 2] = [Self::Commands, Self::Messages];
}

/// The conditions of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Conditions {
    /// The minimum delay of all data, in each direction.
    pub delay: Duration,
    /// The maximum of an additional random delay, drawn for each piece of data.
    pub jitter: Duration,
    /// The maximum rate in bytes per second, in each direction.
    pub bytes_per_s: Option<u32>,
    /// Whether data passes.
    pub flow: Flow,
}

/// Whether data passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Flow {
    /// All data passes.
    #[default]
    Open,
    /// No data passes, and none is read from the sockets, so buffers fill up to the sender. The data in the
    /// buffers passes afterwards.
    Stalled,
    /// No data passes. Sent data is lost, and its connection stays half open for ever.
    Lost,
    /// New connections are closed at once.
    Refused,
}

/// Forwards connections to a server. When it is dropped, the proxy and its connections end.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    state: Arc<State>,
    _tasks: JoinSet<()>,
}

#[derive(Debug)]
struct State {
    target: AtomicU16,
    /// The number of connections that clients opened.
    asked: AtomicUsize,
    /// The number of connections on which a client has subscribed.
    subscribers: AtomicUsize,
    routes: [RouteState; 2],
    answers: Answers,
    /// The addresses of clients whose data is lost.
    shut_out: RwLock<Vec<IpAddr>>,
}

/// What clients are answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answers {
    /// What the server answers.
    Unchanged,
    /// The same with this address in place of `127.0.0.1`: so a Sentinel leads to proxies.
    Renamed(Alias),
    /// The same, but `INFO` tells a version 6 of Redis.
    OfRedis6,
}

/// The text of an address that is as long as `127.0.0.1`.
pub type Alias = [u8; LOCAL.len()];

const LOCAL: &[u8] = b"127.0.0.1";

#[derive(Debug)]
struct RouteState {
    conditions: watch::Sender<Conditions>,
    /// Raised to make the present connections half open.
    freezes: AtomicUsize,
    /// Raised to close the present connections.
    cuts: watch::Sender<usize>,
}

impl State {
    fn route(&self, route: Route) -> &RouteState {
        &self.routes[route as usize]
    }
}

impl Proxy {
    /// Listens on a free port and forwards to `target`.
    ///
    /// # Panics
    ///
    /// If there is no free port.
    pub async fn start(target: u16) -> Self {
        Self::start_at(([127, 0, 0, 1], 0).into(), target, Answers::Unchanged).await
    }

    /// Listens at an address and forwards to `target` on `127.0.0.1`.
    ///
    /// # Panics
    ///
    /// If the address is in use.
    pub async fn start_at(address: SocketAddr, target: u16, answers: Answers) -> Self {
        let listener = tokio::net::TcpListener::bind(address).await.expect("a free port");
        let port = listener.local_addr().expect("its address").port();
        let route = || RouteState {
            conditions: watch::Sender::default(),
            freezes: AtomicUsize::new(0),
            cuts: watch::Sender::default(),
        };
        let state = Arc::new(State {
            target: AtomicU16::new(target),
            asked: AtomicUsize::new(0),
            subscribers: AtomicUsize::new(0),
            routes: [route(), route()],
            answers,
            shut_out: RwLock::default(),
        });
        let mut tasks = JoinSet::new();
        let shared = Arc::clone(&state);
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, peer)) = listener.accept().await {
                while connections.try_join_next().is_some() {}
                shared.asked.fetch_add(1, Ordering::Relaxed);
                connections.spawn(forward(client, peer.ip(), Arc::clone(&shared)));
            }
        });
        Self { port, state, _tasks: tasks }
    }

    /// The port on which it listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The number of connections that clients opened so far, including refused ones.
    #[must_use]
    pub fn asked(&self) -> usize {
        self.state.asked.load(Ordering::Relaxed)
    }

    /// The number of connections on which a client has subscribed so far.
    #[must_use]
    pub fn subscribers(&self) -> usize {
        self.state.subscribers.load(Ordering::Relaxed)
    }

    /// Sets the conditions of a route, for present and future connections.
    pub fn set(&self, route: Route, conditions: Conditions) {
        self.state.route(route).conditions.send_replace(conditions);
    }

    /// Lets all data pass again. Connections that have lost data stay half open.
    pub fn clear(&self) {
        for route in Route::ALL {
            self.set(route, Conditions::default());
        }
    }

    /// Makes the present connections of a route half open: the sockets stay open, and no data passes.
    pub fn freeze(&self, route: Route) {
        self.state.route(route).freezes.fetch_add(1, Ordering::Relaxed);
    }

    /// Loses all data of connections from these addresses. Connections that have lost data stay half open.
    pub fn shut_out(&self, peers: &[IpAddr]) {
        *self.state.shut_out.write() = peers.to_vec();
    }

    /// Makes the present subscribed connections half open.
    pub fn freeze_subscribers(&self) {
        self.freeze(Route::Messages);
    }

    /// Closes both ends of the present connections of a route.
    pub fn cut(&self, route: Route) {
        self.state.route(route).cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Forwards new connections to another server, and keeps the present ones.
    pub fn lead_new_to(&self, target: u16) {
        self.state.target.store(target, Ordering::Relaxed);
    }

    /// Forwards new connections to another server, and closes the present ones.
    pub fn lead_to(&self, target: u16) {
        self.lead_new_to(target);
        Route::ALL.into_iter().for_each(|route| self.cut(route));
    }
}

/// One connection through the proxy.
struct Line {
    state: Arc<State>,
    /// The address of the client.
    peer: IpAddr,
    subscribed: AtomicBool,
    /// Whether data of this connection was lost.
    lost: AtomicBool,
    /// The numbers of freezes before its start, by route.
    born: [usize; 2],
    /// Receivers of the cuts, by route. A cut of its route ends the connection.
    cuts: [watch::Receiver<usize>; 2],
}

async fn forward(client: TcpStream, peer: IpAddr, state: Arc<State>) {
    if state.route(Route::Commands).conditions.borrow().flow == Flow::Refused {
        return;
    }
    let target = state.target.load(Ordering::Relaxed);
    let line = Line {
        peer,
        subscribed: AtomicBool::new(false),
        lost: AtomicBool::new(false),
        born: Route::ALL.map(|route| state.route(route).freezes.load(Ordering::Relaxed)),
        cuts: Route::ALL.map(|route| state.route(route).cuts.subscribe()),
        state,
    };
    let Ok(server) = connect(target).await else { return };
    let (_, _) = (client.set_nodelay(true), server.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::select! {
        _ = line.pump(from_client, to_server, Direction::There) => {}
        _ = line.pump(from_server, to_client, Direction::Back) => {}
        () = line.cut() => {}
    }
}

/// The buffers towards the server are small, so that the server soon notices a stalled subscriber.
async fn connect(target: u16) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(16 << 10)?;
    socket.connect(([127, 0, 0, 1], target).into()).await
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    There,
    Back,
}

impl Line {
    fn route(&self) -> Route {
        if self.subscribed.load(Ordering::Relaxed) { Route::Messages } else { Route::Commands }
    }

    /// Whether data that is sent now is lost. After the first loss all later data is lost, too.
    fn loses(&self) -> bool {
        let route = self.route();
        let state = self.state.route(route);
        if state.freezes.load(Ordering::Relaxed) > self.born[route as usize]
            || state.conditions.borrow().flow == Flow::Lost
            || self.state.shut_out.read().contains(&self.peer)
        {
            self.lost.store(true, Ordering::Relaxed);
        }
        self.lost.load(Ordering::Relaxed)
    }

    async fn pump(&self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf, way: Direction) -> io::Result<()> {
        let mut buffer = vec![0; 16 << 10];
        loop {
            self.flowing().await;
            let len = from.read(&mut buffer).await?;
            if len == 0 {
                return Ok(());
            }
            if way == Direction::Back {
                self.state.answers.change(&mut buffer[..len]);
            }
            let bytes = &buffer[..len];
            if way == Direction::There
                && bytes.windows(9).any(|word| word == b"SUBSCRIBE")
                && !self.subscribed.swap(true, Ordering::Relaxed)
            {
                self.state.subscribers.fetch_add(1, Ordering::Relaxed);
            }
            let mut conditions = self.state.route(self.route()).conditions.subscribe();
            let pause = pause(*conditions.borrow_and_update(), len);
            if !pause.is_zero() {
                // If the conditions change, data on its way does not keep its old delay.
                let _ = tokio::time::timeout(pause, conditions.changed()).await;
            }
            // The route may have stalled during the read.
            self.flowing().await;
            if !self.loses() {
                to.write_all(bytes).await?;
            }
        }
    }

    /// Waits while the route is stalled.
    async fn flowing(&self) {
        loop {
            let mut conditions = self.state.route(self.route()).conditions.subscribe();
            if conditions.borrow_and_update().flow != Flow::Stalled {
                return;
            }
            // If the sender is gone, the proxy is gone, and this task ends with it.
            let _ = conditions.changed().await;
        }
    }

    /// Waits for a cut of the route of this connection.
    async fn cut(&self) {
        let [mut commands, mut messages] = self.cuts.clone();
        loop {
            let cut = tokio::select! {
                _ = commands.changed() => Route::Commands,
                _ = messages.changed() => Route::Messages,
            };
            if cut == self.route() {
                return;
            }
        }
    }
}

impl Answers {
    fn change(self, bytes: &mut [u8]) {
        const VERSION: &[u8] = b"redis_version:";
        let (found, at, text): (_, _, &[u8]) = match &self {
            Self::Unchanged => return,
            Self::Renamed(alias) => (LOCAL, 0, alias),
            Self::OfRedis6 => (VERSION, VERSION.len(), b"6"),
        };
        let width = found.len().max(at + text.len());
        for start in 0..(bytes.len() + 1).saturating_sub(width) {
            if bytes[start..].starts_with(found) {
                bytes[start + at..start + at + text.len()].copy_from_slice(text);
            }
        }
    }
}

fn pause(conditions: Conditions, len: usize) -> Duration {
    let jitter = conditions.jitter.mul_f64(fastrand::f64());
    let width = conditions
        .bytes_per_s
        .map_or(Duration::ZERO, |bytes| Duration::from_secs_f64(len as f64 / f64::from(bytes.max(1))));
    conditions.delay + jitter + width
}
