//! A `redis-server` of the demo's own. It can be stopped, and it ends with the demo.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use async_cache::RedisBackend;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

/// Starts the server, prints its process id, and kills it when the standard input ends: also when the demo was
/// killed, and also a server that is stopped.
const KEEPER: &str = r#"redis-server "$@" >/dev/null 2>&1 </dev/null & echo $!; cat >/dev/null; kill -9 $!"#;
/// The time that the server has to start.
const PATIENCE: Duration = Duration::from_secs(10);

/// The server.
#[derive(Debug)]
pub(crate) struct OwnRedis {
    keeper: Child,
    server: Pid,
    port: u16,
    _directory: TempDir,
}

impl OwnRedis {
    /// Starts a server on a free loopback port, and waits until it answers.
    pub(crate) async fn start() -> Result<Self, String> {
        let installed = Command::new("redis-server").arg("--version").stdout(Stdio::null()).status();
        if installed.is_err() {
            return Err("there is no redis-server: install it (apt-get install redis-server), or give the URL of a running one".into());
        }
        let what = |error: std::io::Error| format!("cannot start a redis-server: {error}");
        let directory = TempDir::with_prefix("async-cache-demo-redis-").map_err(what)?;
        let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).map_err(what)?.port();
        let mut keeper = Command::new("sh")
            .args(["-c", KEEPER, "sh", "--port", &port.to_string(), "--bind", "127.0.0.1"])
            .args(["--save", "", "--appendonly", "no", "--dir"])
            .arg(directory.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(what)?;
        let mut line = String::new();
        BufReader::new(keeper.stdout.take().expect("a pipe")).read_line(&mut line).map_err(what)?;
        let server = line.trim().parse().map_err(|_| format!("cannot start a redis-server: {line:?}"))?;
        let server = Self { keeper, server: Pid::from_raw(server), port, _directory: directory };
        server.answers().await.map(|()| server)
    }

    async fn answers(&self) -> Result<(), String> {
        let begun = Instant::now();
        loop {
            match RedisBackend::connect(self.url()).await {
                Ok(_) => return Ok(()),
                Err(error) if begun.elapsed() > PATIENCE => {
                    return Err(format!("the redis-server does not answer: {error}"));
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Stops the process, or lets it go on: as if it hung.
    pub(crate) fn set_stopped(&self, stopped: bool) -> Result<(), String> {
        let signal = if stopped { Signal::SIGSTOP } else { Signal::SIGCONT };
        kill(self.server, signal).map_err(|error| format!("cannot send {signal} to redis-server: {error}"))
    }
}

impl Drop for OwnRedis {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}
