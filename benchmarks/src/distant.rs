//! Simulates a network to a distant server: every byte is delayed, in each direction.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

/// Forwards connections on its own thread. The thread ends when this is dropped.
pub(crate) struct Distant {
    _runtime: Runtime,
    port: u16,
}

impl Distant {
    pub(crate) fn from(server: u16, delay: Duration) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a free port");
        let port = listener.local_addr().expect("its address").port();
        runtime.spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let Ok(far) = TcpStream::connect(("127.0.0.1", server)).await else { continue };
                for socket in [&near, &far] {
                    socket.set_nodelay(true).expect("an option of TCP");
                }
                let (near, far) = (near.into_split(), far.into_split());
                tokio::spawn(carry(near.0, far.1, delay));
                tokio::spawn(carry(far.0, near.1, delay));
            }
        });
        Self { _runtime: runtime, port }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }
}

/// One direction, in order. Data in flight does not delay the data behind it.
async fn carry(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin + Send + 'static,
    delay: Duration,
) {
    let (send, mut sent) = mpsc::channel::<(Instant, Vec<u8>)>(1024);
    let arrive = tokio::spawn(async move {
        while let Some((at, bytes)) = sent.recv().await {
            sleep_until(at).await;
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
    });
    let mut buffer = vec![0; 64 << 10];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        if send.send((Instant::now() + delay, buffer[..length].to_vec())).await.is_err() {
            break;
        }
    }
    drop(send);
    let _ = arrive.await;
}
