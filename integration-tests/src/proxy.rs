//! A way to the server on which things go wrong.
//!
//! Connections are told apart by what is sent on them: one that has subscribed is on the route of
//! messages, the others are on the route of commands. Each route has its own conditions, so that
//! what is sent first on one may arrive last on the other.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// What a connection is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// Commands and their answers; every connection before it has subscribed.
    Commands,
    /// Messages to a subscriber.
    Messages,
}

impl Route {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Commands, Self::Messages];
}

/// How a route is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Conditions {
    /// Least time everything takes, each way.
    pub delay: Duration,
    /// A random time more, drawn for each piece.
    pub jitter: Duration,
    /// How many bytes pass in a second, each way.
    pub bytes_per_s: Option<u32>,
    /// What comes through.
    pub flow: Flow,
}

/// What comes through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Flow {
    /// Everything.
    #[default]
    Open,
    /// Nothing, and nothing is taken from the sockets: buffers fill up to the sender. What has
    /// piled up comes through afterwards.
    Stalled,
    /// Nothing. What is sent is lost, and so is the connection: it stays half open for good.
    Lost,
    /// New connections are closed at once.
    Refused,
}

/// Forwards connections to a server. Ends, with its connections, when dropped.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    state: Arc<State>,
    _tasks: JoinSet<()>,
}

#[derive(Debug)]
struct State {
    target: AtomicU16,
    /// Connections that were asked for.
    asked: AtomicUsize,
    /// Connections on which a client has subscribed.
    subscribers: AtomicUsize,
    routes: [RouteState; 2],
}

#[derive(Debug)]
struct RouteState {
    conditions: watch::Sender<Conditions>,
    /// Raised to make the connections there are half open.
    freezes: AtomicUsize,
    /// Raised to end the connections there are.
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
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
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
        });
        let mut tasks = JoinSet::new();
        let shared = Arc::clone(&state);
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                while connections.try_join_next().is_some() {}
                shared.asked.fetch_add(1, Ordering::Relaxed);
                connections.spawn(forward(client, Arc::clone(&shared)));
            }
        });
        Self { port, state, _tasks: tasks }
    }

    /// Where it listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// How many connections were asked for so far, those it refused included.
    #[must_use]
    pub fn asked(&self) -> usize {
        self.state.asked.load(Ordering::Relaxed)
    }

    /// How many connections a client has subscribed on so far.
    #[must_use]
    pub fn subscribers(&self) -> usize {
        self.state.subscribers.load(Ordering::Relaxed)
    }

    /// Sets the conditions of a route, for the connections there are and those to come.
    pub fn set(&self, route: Route, conditions: Conditions) {
        self.state.route(route).conditions.send_replace(conditions);
    }

    /// Lets everything through again. Connections that have lost something stay half open.
    pub fn clear(&self) {
        for route in Route::ALL {
            self.set(route, Conditions::default());
        }
    }

    /// Makes the connections there are on a route half open: the sockets stay, nothing passes.
    pub fn freeze(&self, route: Route) {
        self.state.route(route).freezes.fetch_add(1, Ordering::Relaxed);
    }

    /// The same for the subscribed ones.
    pub fn freeze_subscribers(&self) {
        self.freeze(Route::Messages);
    }

    /// Closes the connections there are on a route, both ends.
    pub fn cut(&self, route: Route) {
        self.state.route(route).cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Forwards what connects from now on to another server, and leaves what leads to the old one.
    pub fn lead_new_to(&self, target: u16) {
        self.state.target.store(target, Ordering::Relaxed);
    }

    /// Forwards to another server from now on, and cuts what leads to the old one.
    pub fn lead_to(&self, target: u16) {
        self.lead_new_to(target);
        Route::ALL.into_iter().for_each(|route| self.cut(route));
    }
}

/// One connection through the proxy.
struct Line {
    state: Arc<State>,
    subscribed: AtomicBool,
    /// Something sent on it was lost.
    lost: AtomicBool,
    /// Freezes before its time, by route.
    born: [usize; 2],
    /// Ends at a cut of its route.
    cuts: [watch::Receiver<usize>; 2],
}

async fn forward(client: TcpStream, state: Arc<State>) {
    if state.route(Route::Commands).conditions.borrow().flow == Flow::Refused {
        return;
    }
    let target = state.target.load(Ordering::Relaxed);
    let line = Line {
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

/// Small buffers towards the server, so that a stalled subscriber soon shows there.
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

    /// Whether what is sent now is lost. Once something is, everything after it is.
    fn loses(&self) -> bool {
        let route = self.route();
        let state = self.state.route(route);
        if state.freezes.load(Ordering::Relaxed) > self.born[route as usize]
            || state.conditions.borrow().flow == Flow::Lost
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
                // What is on its way when the conditions change does not take the old time.
                let _ = tokio::time::timeout(pause, conditions.changed()).await;
            }
            // It may have stalled while this was being read.
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
            // An end means that the proxy is gone, and this task with it.
            let _ = conditions.changed().await;
        }
    }

    /// Waits for a cut of the route this connection is on.
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

fn pause(conditions: Conditions, len: usize) -> Duration {
    let jitter = conditions.jitter.mul_f64(fastrand::f64());
    let width = conditions
        .bytes_per_s
        .map_or(Duration::ZERO, |bytes| Duration::from_secs_f64(len as f64 / f64::from(bytes.max(1))));
    conditions.delay + jitter + width
}
