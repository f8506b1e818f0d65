//! A PostgreSQL server of the test's own.

use std::net::TcpStream;
use std::path::PathBuf;

use integration_tests::ports::free_port;
use nix::sys::signal::Signal;

use crate::server::{Home, PATIENCE, Process, initialize, program};

const FOLDERS: &[&str] =
    &["/usr/lib/postgresql/*/bin", "/usr/local/pgsql/bin", "/opt/homebrew/opt/postgresql@15/bin"];

/// A server on a free loopback port, with a folder of its own. Killed when dropped.
#[derive(Debug)]
pub struct PostgresServer {
    // Killed before its folder is removed.
    process: Process,
    home: Home,
    port: u16,
    program: PathBuf,
    settings: &'static [&'static str],
}

impl PostgresServer {
    /// Creates a cluster, starts a server on it, and waits until it answers.
    ///
    /// # Panics
    ///
    /// If PostgreSQL is not installed or does not start.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// The same, with more settings.
    ///
    /// # Panics
    ///
    /// If PostgreSQL is not installed or does not start.
    #[must_use]
    pub fn start_with(settings: &'static [&'static str]) -> Self {
        let home = Home::new("postgres");
        let mut initdb = home.command(&program("initdb", FOLDERS, "postgresql"));
        initdb.args(["--no-sync", "--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C"]);
        initdb.arg("-D").arg(home.path("data"));
        initialize(initdb);
        let program = program("postgres", FOLDERS, "postgresql");
        let mut server = Self { process: Process::default(), home, port: free_port(), program, settings };
        for _ in 0..10 {
            if server.try_run() {
                return server;
            }
            // Another test may have got the port in between.
            server.port = free_port();
        }
        panic!("postgres did not start");
    }

    fn try_run(&self) -> bool {
        let mut command = self.home.command(&self.program);
        command.arg("-D").arg(self.home.path("data"));
        // What is committed survives the server, though not the machine.
        let port = format!("port={}", self.port);
        let settings =
            ["listen_addresses=127.0.0.1", "fsync=off", "full_page_writes=off", "max_connections=100"];
        let log = ["wal_level=logical", "max_replication_slots=50"];
        let own = [port.as_str(), "unix_socket_directories="];
        for setting in settings.into_iter().chain(log).chain(own).chain(self.settings.iter().copied()) {
            command.args(["-c", setting]);
        }
        // It writes this file when it accepts connections.
        let ready = || {
            let file = std::fs::read_to_string(self.home.path("data/postmaster.pid")).unwrap_or_default();
            file.lines().nth(7).is_some_and(|state| state.trim() == "ready")
                && TcpStream::connect(("127.0.0.1", self.port)).is_ok()
        };
        self.process.start(&mut command, ready)
    }

    /// How to connect to one of its databases.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    /// Ends the server at once, as `kill -9` does.
    pub fn kill(&self) {
        self.process.kill();
    }

    /// Stops the process. New connections are not accepted then; those there are stay.
    pub fn pause(&self) {
        self.process.signal(Signal::SIGSTOP);
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.process.signal(Signal::SIGCONT);
    }

    /// Starts it again on the same port and data.
    ///
    /// # Panics
    ///
    /// If it does not start.
    pub fn restart(&self) {
        self.kill();
        let start = std::time::Instant::now();
        let _ = std::fs::remove_file(self.home.path("data/postmaster.pid"));
        // Processes of the old server may hold its memory for a moment.
        while !self.try_run() {
            assert!(start.elapsed() < PATIENCE, "postgres did not start again");
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }
}
