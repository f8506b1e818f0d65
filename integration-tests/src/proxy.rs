//! A way to the server on which things go wrong.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Forwards connections to a server. Ends, with its connections, when dropped.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    state: Arc<State>,
    _tasks: JoinSet<()>,
}

#[derive(Debug, Default)]
struct State {
    /// Raised by every freeze: connections made before it are concerned.
    freezes: AtomicUsize,
    /// Connections on which a client has subscribed.
    subscribers: AtomicUsize,
}

impl Proxy {
    /// Listens on a free port and forwards to `target`.
    ///
    /// # Panics
    ///
    /// If there is no free port.
    pub async fn start(target: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let port = listener.local_addr().expect("its address").port();
        let state = Arc::<State>::default();
        let mut tasks = JoinSet::new();
        let shared = Arc::clone(&state);
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                connections.spawn(forward(client, target, Arc::clone(&shared)));
            }
        });
        Self { port, state, _tasks: tasks }
    }

    /// Where it listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// How many connections a client has subscribed on so far.
    #[must_use]
    pub fn subscribers(&self) -> usize {
        self.state.subscribers.load(Ordering::Relaxed)
    }

    /// Makes the subscribed connections there are half open: the sockets stay, nothing passes.
    pub fn freeze_subscribers(&self) {
        self.state.freezes.fetch_add(1, Ordering::Relaxed);
    }
}

async fn forward(client: TcpStream, target: u16, state: Arc<State>) {
    let born = state.freezes.load(Ordering::Relaxed);
    let Ok(server) = TcpStream::connect(("127.0.0.1", target)).await else { return };
    let (_, _) = (client.set_nodelay(true), server.set_nodelay(true));
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let subscribed = AtomicBool::new(false);
    let frozen = || subscribed.load(Ordering::Relaxed) && state.freezes.load(Ordering::Relaxed) > born;

    let there = async {
        let mut buffer = vec![0; 64 << 10];
        loop {
            let len = from_client.read(&mut buffer).await?;
            if len == 0 {
                return io::Result::Ok(());
            }
            let bytes = &buffer[..len];
            if bytes.windows(9).any(|word| word == b"SUBSCRIBE") && !subscribed.swap(true, Ordering::Relaxed)
            {
                state.subscribers.fetch_add(1, Ordering::Relaxed);
            }
            if !frozen() {
                to_server.write_all(bytes).await?;
            }
        }
    };
    let back = async {
        let mut buffer = vec![0; 64 << 10];
        loop {
            let len = from_server.read(&mut buffer).await?;
            if len == 0 {
                return io::Result::Ok(());
            }
            if !frozen() {
                to_client.write_all(&buffer[..len]).await?;
            }
        }
    };
    tokio::select! {
        _ = there => {}
        _ = back => {}
    }
}
