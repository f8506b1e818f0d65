//! A proxy that leads the commands of open connections to another server, as proxies of managed services do in a
//! failover.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;
use tokio::task::{JoinHandle, JoinSet};

/// Forwards commands to a server. When it is dropped, it and its connections end.
///
/// Connections on which a client has subscribed stay with their server.
#[derive(Debug)]
pub struct Switch {
    port: u16,
    target: Arc<AtomicU16>,
    _tasks: JoinSet<()>,
}

impl Switch {
    /// Listens on a free port and forwards to `target`.
    ///
    /// # Panics
    ///
    /// If there is no free port.
    pub async fn start(target: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let port = listener.local_addr().expect("its address").port();
        let target = Arc::new(AtomicU16::new(target));
        let (mut tasks, shared) = (JoinSet::new(), Arc::clone(&target));
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let shared = Arc::clone(&shared);
                connections.spawn(async move { drop(forward(client, shared).await) });
            }
        });
        Self { port, target, _tasks: tasks }
    }

    /// The URL of the proxy.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Leads the next command of every connection to another server. No client notices.
    pub fn lead_to(&self, target: u16) {
        self.target.store(target, Ordering::SeqCst);
    }
}

/// The connection to a server, and the task that forwards its answers.
struct Behind {
    port: u16,
    commands: OwnedWriteHalf,
    answers: JoinHandle<()>,
}

async fn forward(client: TcpStream, target: Arc<AtomicU16>) -> io::Result<()> {
    let _ = client.set_nodelay(true);
    let (mut from_client, to_client) = client.into_split();
    let to_client = Arc::new(Mutex::new(to_client));
    let mut behind = Behind::connect(target.load(Ordering::SeqCst), Arc::clone(&to_client)).await?;
    let (mut buffer, mut between_commands, mut subscribed) = (vec![0; 64 << 10], true, false);
    loop {
        let len = tokio::select! {
            read = from_client.read(&mut buffer) => read?,
            // The server has closed the connection.
            _ = &mut behind.answers => return Ok(()),
        };
        if len == 0 {
            behind.answers.abort();
            return Ok(());
        }
        let bytes = &buffer[..len];
        subscribed |= bytes.windows(9).any(|word| word == b"SUBSCRIBE");
        let port = target.load(Ordering::SeqCst);
        if port != behind.port && between_commands && !subscribed {
            // The server answers what it has got, and closes.
            drop(behind.commands);
            let _ = behind.answers.await;
            behind = Behind::connect(port, Arc::clone(&to_client)).await?;
        }
        behind.commands.write_all(bytes).await?;
        between_commands = bytes.ends_with(b"\r\n");
    }
}

impl Behind {
    async fn connect(port: u16, to_client: Arc<Mutex<OwnedWriteHalf>>) -> io::Result<Self> {
        let server = TcpStream::connect(("127.0.0.1", port)).await?;
        let _ = server.set_nodelay(true);
        let (answers, commands) = server.into_split();
        Ok(Self { port, commands, answers: tokio::spawn(answer(answers, to_client)) })
    }
}

async fn answer(mut from_server: OwnedReadHalf, to_client: Arc<Mutex<OwnedWriteHalf>>) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(len @ 1..) = from_server.read(&mut buffer).await {
        if to_client.lock().await.write_all(&buffer[..len]).await.is_err() {
            return;
        }
    }
}
