//! A stub of a Redis server. A test makes up its answers.

use std::sync::Arc;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Answers commands on a free loopback port. When it is dropped, the stub and its connections end.
#[derive(Debug)]
pub struct Stub {
    port: u16,
    _tasks: JoinSet<()>,
}

type Answer = dyn Fn(&[String]) -> Option<String> + Send + Sync;

impl Stub {
    /// Answers as an empty Redis 7 does, unless `answer` returns another answer in the form of the protocol.
    ///
    /// # Panics
    ///
    /// If there is no free port.
    pub async fn start(answer: impl Fn(&[String]) -> Option<String> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let port = listener.local_addr().expect("its address").port();
        let answer: Arc<Answer> = Arc::new(answer);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                connections.spawn(serve(client, Arc::clone(&answer)));
            }
        });
        Self { port, _tasks: tasks }
    }

    /// The port on which it listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The URL of the stub.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// The URL of the stub with a password.
    #[must_use]
    pub fn url_with(&self, password: &str) -> String {
        format!("redis://:{password}@127.0.0.1:{}", self.port)
    }
}

/// A text in the form of the protocol.
#[must_use]
pub fn bulk(text: &str) -> String {
    format!("${}\r\n{text}\r\n", text.len())
}

/// The answer to `INFO`, with further lines.
#[must_use]
pub fn info(lines: &str) -> String {
    bulk(&format!("redis_version:7.0.15\r\nrole:master\r\ncluster_enabled:0\r\n{lines}\r\n"))
}

async fn serve(client: TcpStream, answer: Arc<Answer>) {
    let mut client = BufReader::new(client);
    while let Some(words) = command(&mut client).await {
        let reply = answer(&words).unwrap_or_else(|| like_redis(&words));
        if client.get_mut().write_all(reply.as_bytes()).await.is_err() {
            return;
        }
    }
}

fn like_redis(words: &[String]) -> String {
    match words[0].to_ascii_uppercase().as_str() {
        "PING" => "+PONG\r\n".to_owned(),
        "INFO" => info("redis_mode:standalone\r\nrun_id:stub"),
        "SCRIPT" => bulk("0"),
        "GET" => "$-1\r\n".to_owned(),
        "MGET" => "*1\r\n$-1\r\n".to_owned(),
        "EVALSHA" => "*0\r\n".to_owned(),
        "HELLO" => "%1\r\n+proto\r\n:3\r\n".to_owned(),
        kind @ ("SUBSCRIBE" | "UNSUBSCRIBE") => {
            let name = words.get(1).map_or("", String::as_str);
            format!(">3\r\n{}{}:1\r\n", bulk(&kind.to_ascii_lowercase()), bulk(name))
        }
        _ => "+OK\r\n".to_owned(),
    }
}

/// The words of the next command.
async fn command(client: &mut BufReader<TcpStream>) -> Option<Vec<String>> {
    let count = number(client, '*').await?;
    let mut words = Vec::with_capacity(count);
    for _ in 0..count {
        let mut word = vec![0; number(client, '$').await? + 2];
        client.read_exact(&mut word).await.ok()?;
        word.truncate(word.len() - 2);
        words.push(String::from_utf8_lossy(&word).into_owned());
    }
    Some(words)
}

async fn number(client: &mut BufReader<TcpStream>, sign: char) -> Option<usize> {
    let mut line = String::new();
    client.read_line(&mut line).await.ok()?;
    line.trim_end().strip_prefix(sign)?.parse().ok()
}
