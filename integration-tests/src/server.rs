//! A `redis-server` process that belongs to a test.

use std::io::{BufReader, ErrorKind, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use parking_lot::Mutex;
use redis::{Connection, FromRedisValue, RedisResult};
use tempfile::TempDir;

use crate::ports::free_port;

mod monitor;

pub use monitor::Monitor;

/// The maximum time in which a server starts.
const PATIENCE: Duration = Duration::from_secs(10);

/// A server on a free loopback port, with its own directory. It is killed when this is dropped.
#[derive(Debug)]
pub struct RedisServer {
    process: Mutex<Option<Child>>,
    port: u16,
    password: Option<String>,
    role: Role,
    directory: TempDir,
}

/// What the process is, and its further settings.
#[derive(Debug)]
enum Role {
    /// A server, with these arguments.
    Server(Vec<String>),
    /// A Sentinel, with these lines of its configuration.
    Sentinel(String),
}

/// The data of a restarted server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Data {
    /// The data of the last [`RedisServer::snapshot`].
    Keep,
    /// No data.
    Drop,
}

/// The server under test: `REDIS_SERVER` has its path, if it is not the installed one.
fn program() -> PathBuf {
    std::env::var_os("REDIS_SERVER").unwrap_or_else(|| "redis-server".into()).into()
}

/// The first number of the version of the server under test.
///
/// # Panics
///
/// If it cannot be run.
#[must_use]
pub fn major_version() -> u32 {
    static MAJOR: OnceLock<u32> = OnceLock::new();
    *MAJOR.get_or_init(|| {
        let told = Command::new(program()).arg("--version").output().expect("redis-server runs");
        let told = String::from_utf8_lossy(&told.stdout).into_owned();
        let version =
            told.split(' ').find_map(|word| word.strip_prefix("v=")?.split('.').next()?.parse().ok());
        version.unwrap_or_else(|| panic!("no version in {told}"))
    })
}

impl RedisServer {
    /// Starts a server without persistence, and waits until it answers.
    ///
    /// # Panics
    ///
    /// If there is no `redis-server`, or if it does not start. A test that needs one must fail.
    #[must_use]
    pub fn start() -> Self {
        Self::launch(None, || Role::Server(Vec::new()))
    }

    /// Starts a Sentinel with further lines of its configuration, and waits until it answers.
    #[must_use]
    pub fn sentinel(lines: &str) -> Self {
        Self::launch(None, || Role::Sentinel(lines.to_owned()))
    }

    /// Starts a Sentinel that requires a password.
    #[must_use]
    pub fn sentinel_with_password(lines: &str, password: &str) -> Self {
        let lines = format!("requirepass {password}\n{lines}");
        Self::launch(Some(password), || Role::Sentinel(lines.clone()))
    }

    /// Starts a server that requires a password.
    #[must_use]
    pub fn with_password(password: &str) -> Self {
        Self::launch(Some(password), || Role::Server(vec!["--requirepass".to_owned(), password.to_owned()]))
    }

    /// Starts a server with further arguments.
    #[must_use]
    pub fn with_arguments(arguments: &[&str]) -> Self {
        Self::launch(None, || Role::Server(arguments.iter().map(ToString::to_string).collect()))
    }

    fn launch(password: Option<&str>, role: impl Fn() -> Role) -> Self {
        for _ in 0..10 {
            let server = Self {
                process: Mutex::new(None),
                port: free_port(),
                password: password.map(ToOwned::to_owned),
                role: role(),
                directory: TempDir::with_prefix("async-cache-redis-").expect("a temporary directory"),
            };
            // Another test may have taken the port in between.
            if server.try_run() {
                return server;
            }
        }
        panic!("redis-server did not start: {:?}", role());
    }

    /// Runs the process. Returns false if it ended without an answer.
    fn try_run(&self) -> bool {
        let mut command = Command::new(program());
        let directory = self.directory.path();
        match &self.role {
            Role::Server(arguments) => command
                .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--save", ""])
                .args(["--appendonly", "no", "--dir"])
                .arg(directory)
                .args(arguments),
            Role::Sentinel(lines) => {
                let file = directory.join("sentinel.conf");
                // A Sentinel keeps its state in this file, which it finds again when it is restarted.
                if !file.exists() {
                    let (port, directory) = (self.port, directory.display());
                    let text = format!("port {port}\nbind 127.0.0.1\ndir {directory}\n{lines}\n");
                    std::fs::write(&file, text).expect("a file of the configuration");
                }
                command.arg(file).arg("--sentinel")
            }
        };
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                panic!("{} is needed: apt-get install redis-server", program().display())
            }
            Err(error) => panic!("redis-server cannot be run: {error}"),
        };
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if child.try_wait().expect("the state of redis-server").is_some() {
                return false;
            }
            if self.answers(&child) {
                *self.process.lock() = Some(child);
                return true;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        let _ = child.kill();
        let _ = child.wait();
        false
    }

    /// Whether this process answers on the port.
    fn answers(&self, child: &Child) -> bool {
        let info: RedisResult<String> = self
            .connection()
            .and_then(|mut connection| redis::cmd("INFO").arg("server").query(&mut connection));
        info.is_ok_and(|info| info.contains(&format!("process_id:{}\r", child.id())))
    }

    /// The port on which it listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The URL of the server, with the password.
    #[must_use]
    pub fn url(&self) -> String {
        self.url_at(self.port)
    }

    /// The URL through another port that leads to the server.
    #[must_use]
    pub fn url_at(&self, port: u16) -> String {
        match &self.password {
            Some(password) => format!("redis://:{password}@127.0.0.1:{port}"),
            None => format!("redis://127.0.0.1:{port}"),
        }
    }

    /// The URL for a user that [`set_user`](Self::set_user) has made.
    #[must_use]
    pub fn url_as(&self, user: &str) -> String {
        format!("redis://{user}:secret@127.0.0.1:{}", self.port)
    }

    /// Makes or changes a user. The rights are in the form of `ACL SETUSER`.
    ///
    /// # Panics
    ///
    /// If the rights are invalid.
    pub fn set_user(&self, user: &str, rights: &str) {
        let words: Vec<&str> =
            ["ACL", "SETUSER", user, "on", ">secret"].into_iter().chain(rights.split(' ')).collect();
        self.cli::<()>(&words);
    }

    /// Returns a new connection for the test.
    ///
    /// # Errors
    ///
    /// If the server does not answer.
    pub fn connection(&self) -> RedisResult<Connection> {
        let client = redis::Client::open(self.url())?;
        let connection = client.get_connection_with_timeout(Duration::from_secs(5))?;
        connection.set_read_timeout(Some(Duration::from_secs(5)))?;
        Ok(connection)
    }

    /// Runs a command.
    ///
    /// # Panics
    ///
    /// If it fails, or if its answer has another type.
    pub fn cli<T: FromRedisValue>(&self, words: &[&str]) -> T {
        let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
        self.cli_raw(&words)
    }

    /// Runs a command.
    ///
    /// # Errors
    ///
    /// If it fails, or if its answer has another type.
    pub fn try_cli<T: FromRedisValue>(&self, words: &[&str]) -> RedisResult<T> {
        let mut command = redis::Cmd::new();
        command.arg(words);
        command.query(&mut self.connection()?)
    }

    /// Runs a command whose words are arbitrary bytes.
    ///
    /// # Panics
    ///
    /// If it fails, or if its answer has another type.
    pub fn cli_raw<T: FromRedisValue>(&self, words: &[&[u8]]) -> T {
        let mut command = redis::Cmd::new();
        for word in words {
            command.arg(*word);
        }
        let mut connection = self.connection().expect("a connection to redis-server");
        command.query(&mut connection).unwrap_or_else(|error| panic!("{}: {error}", words[0].escape_ascii()))
    }

    /// The number of clients, without the one that asks.
    #[must_use]
    pub fn clients(&self) -> usize {
        self.cli::<String>(&["CLIENT", "LIST"]).lines().count() - 1
    }

    /// The addresses of the clients, without the one that asks.
    #[must_use]
    pub fn client_addresses(&self) -> Vec<String> {
        let list = self.cli::<String>(&["CLIENT", "LIST"]);
        let address =
            |line: &str| line.split(' ').find_map(|field| field.strip_prefix("addr=")).map(str::to_owned);
        list.lines().filter(|line| !line.contains("cmd=client")).filter_map(address).collect()
    }

    /// The number of clients that have subscribed.
    #[must_use]
    pub fn subscribers(&self) -> usize {
        self.cli::<String>(&["CLIENT", "LIST", "TYPE", "pubsub"]).lines().count()
    }

    /// The number of clients that have subscribed to a channel. Sentinels subscribe to channels of their own.
    ///
    /// It is zero while the server does not answer: a failover ends all connections.
    #[must_use]
    pub fn listeners(&self, channel: &str) -> usize {
        let count: RedisResult<(String, usize)> = self.connection().and_then(|mut connection| {
            redis::cmd("PUBSUB").arg("NUMSUB").arg(channel).query(&mut connection)
        });
        count.map_or(0, |(_, count)| count)
    }

    /// What `INFO replication` says of the role. It is empty while the server does not answer.
    #[must_use]
    pub fn role(&self) -> String {
        let info: RedisResult<String> = self
            .connection()
            .and_then(|mut connection| redis::cmd("INFO").arg("replication").query(&mut connection));
        let info = info.unwrap_or_default();
        info.lines().find_map(|line| line.strip_prefix("role:")).unwrap_or_default().trim().to_owned()
    }

    /// The run delay of the server process. It is zero while the server is away. This function never waits.
    #[must_use]
    pub fn run_delay(&self) -> Duration {
        let process = self.process.try_lock();
        let id = process.and_then(|process| process.as_ref().map(Child::id));
        id.map_or(Duration::ZERO, crate::delay::of_process)
    }

    /// Writes the snapshot that [`Data::Keep`] restores.
    pub fn snapshot(&self) {
        self.cli::<()>(&["SAVE"]);
    }

    /// Kills the process.
    pub fn kill(&self) {
        if let Some(mut child) = self.process.lock().take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Starts the server again on its port. If it runs, it is killed first.
    ///
    /// # Panics
    ///
    /// If it does not start.
    pub fn restart(&self, data: Data) {
        self.kill();
        if data == Data::Drop {
            let _ = std::fs::remove_file(self.directory.path().join("dump.rdb"));
        }
        // The connections of the old process may occupy the port for a moment.
        let start = Instant::now();
        while !self.try_run() {
            assert!(start.elapsed() < PATIENCE, "redis-server did not start again");
        }
    }

    /// Stops the process: its sockets stay open, and it answers nothing.
    pub fn pause(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// Continues the stopped process.
    pub fn resume(&self) {
        self.signal(Signal::SIGCONT);
    }

    fn signal(&self, signal: Signal) {
        let process = self.process.lock();
        let child = process.as_ref().expect("redis-server runs");
        let pid = i32::try_from(child.id()).expect("a process id");
        kill(Pid::from_raw(pid), signal).expect("redis-server takes signals");
    }

    /// Begins to record the commands of clients.
    ///
    /// # Panics
    ///
    /// If the server does not answer.
    #[must_use]
    pub fn monitor(&self) -> Monitor<'_> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("a connection to redis-server");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        if let Some(password) = &self.password {
            write!(stream, "AUTH {password}\r\n").expect("AUTH is sent");
        }
        stream.write_all(b"MONITOR\r\n").expect("MONITOR is sent");
        let mut monitor = Monitor { server: self, lines: BufReader::new(stream) };
        for _ in 0..=usize::from(self.password.is_some()) {
            assert_eq!(monitor.line(), "+OK");
        }
        monitor
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}
