//! Runs the program, and caches beside it.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use async_cache::{IdentifyBy, MemoryBackend, RedisBackend, TieredCache};
use integration_tests::RedisServer;
use serde_json::Value;

/// How long a test waits for something that happens at once.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// What the program has answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Answer {
    /// The JSON object that it has printed.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The JSON object of its error.
    pub(crate) fn error(&self) -> Value {
        serde_json::from_str(&self.err).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// The program, without the variables of this process that it reads.
pub(crate) fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_async-cache"));
    for name in ["ASYNC_CACHE_REDIS", "REDIS_URL", "ASYNC_CACHE_NAMESPACE"] {
        command.env_remove(name);
    }
    // Time enough for a machine that has other things to do.
    command.args(["--timeout", "20s"]);
    command
}

/// Runs the program to its end. No test may block the runtime on which its caches live.
pub(crate) async fn run(mut command: Command) -> Answer {
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().expect("it runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    let code = output.status.code().expect("it ends by itself");
    Answer { code, out: text(output.stdout), err: text(output.stderr) }
}

/// Runs a verb on the namespace `users` of a server.
pub(crate) async fn on(server: &RedisServer, words: &[&str]) -> Answer {
    at(&server.url(), words).await
}

/// Runs a verb on the namespace `users` at a URL.
pub(crate) async fn at(url: &str, words: &[&str]) -> Answer {
    let mut command = program();
    command.args(["--redis", url, "--namespace", "users"]).args(words);
    run(command).await
}

/// A node of the namespace `users`.
pub(crate) async fn node(server: &RedisServer) -> TieredCache<u64, String> {
    node_by(server, IdentifyBy::Info).await
}

/// A node that knows the server in this way.
pub(crate) async fn node_by(server: &RedisServer, identify: IdentifyBy) -> TieredCache<u64, String> {
    let builder = RedisBackend::builder().url(server.url()).identify_server_by(identify);
    let redis = builder.command_timeout(PATIENCE).connect().await.unwrap();
    let builder = TieredCache::builder().namespace("users").l1(MemoryBackend::new(100)).l2(redis);
    let cache = builder.ttl(Duration::from_secs(600)).build().unwrap();
    cache.ready().await.unwrap();
    cache
}

/// A program that prints line by line. It is killed when this is dropped.
pub(crate) struct Running {
    child: Child,
    lines: Receiver<String>,
}

impl Running {
    /// Starts a verb on the namespace `users` of a server.
    pub(crate) fn start(server: &RedisServer, words: &[&str]) -> Self {
        let mut command = program();
        command.args(["--redis", &server.url(), "--namespace", "users"]).args(words);
        let mut child = command.stdout(Stdio::piped()).spawn().expect("it runs");
        let (sender, lines) = channel();
        let out = BufReader::new(child.stdout.take().expect("its output"));
        std::thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { child, lines }
    }

    /// The next line, which is a JSON object.
    pub(crate) fn next(&self) -> Value {
        let line = self.lines.recv_timeout(PATIENCE).expect("a line in time");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    }

    /// Waits until it ends by itself, and returns its exit code.
    pub(crate) fn end(mut self) -> i32 {
        self.child.wait().expect("it ends").code().expect("an exit code")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
