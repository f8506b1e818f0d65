//! A MariaDB server of the test's own.

use std::net::TcpStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use integration_tests::ports::free_port;
use nix::sys::signal::Signal;

use crate::server::{Home, PATIENCE, Process, initialize, program};

const FOLDERS: &[&str] = &["/usr/sbin", "/usr/libexec", "/opt/homebrew/bin", "/usr/local/bin"];

/// A server on a free loopback port, with a folder of its own. Killed when dropped.
#[derive(Debug)]
pub struct MariaServer {
    // Killed before its folder is removed.
    process: Process,
    home: Home,
    port: u16,
    program: PathBuf,
}

impl MariaServer {
    /// Creates a data folder, starts a server on it, and waits until it answers.
    ///
    /// # Panics
    ///
    /// If MariaDB is not installed or does not start.
    #[must_use]
    pub fn start() -> Self {
        let home = Home::new("mysql");
        let mut install = home.command(&program("mariadb-install-db", &["/usr/bin"], "mariadb-server"));
        install.args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"]);
        install.args(["--innodb-log-file-size=8M", "--innodb-flush-method=nosync"]);
        install.arg(format!("--datadir={}", home.path("data").display())).arg(temporary_files(&home));
        initialize(install);
        let program = program("mariadbd", FOLDERS, "mariadb-server");
        let mut server = Self { process: Process::default(), home, port: free_port(), program };
        for _ in 0..10 {
            if server.try_run() {
                return server;
            }
            // Another test may have got the port in between.
            server.port = free_port();
        }
        panic!("mariadbd did not start");
    }

    fn try_run(&self) -> bool {
        let mut command = self.home.command(&self.program);
        let path = |name: &str| self.home.path(name).display().to_string();
        command.args(["--no-defaults", "--bind-address=127.0.0.1", "--skip-name-resolve"]);
        // What is committed survives the server, though not the machine.
        command.args(["--innodb-log-file-size=8M", "--innodb-flush-log-at-trx-commit=2"]);
        command.args(["--innodb-buffer-pool-size=64M", "--innodb-flush-method=nosync"]);
        command.arg(temporary_files(&self.home));
        command.arg(format!("--port={}", self.port)).arg(format!("--datadir={}", path("data")));
        command.arg(format!("--socket={}", path("socket"))).arg(format!("--pid-file={}", path("pid")));
        self.process.start(&mut command, || TcpStream::connect(("127.0.0.1", self.port)).is_ok())
    }

    /// How to connect to one of its databases.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        format!("mysql://root@127.0.0.1:{}/{database}", self.port)
    }

    /// Ends the server at once, as `kill -9` does.
    pub fn kill(&self) {
        self.process.kill();
    }

    /// Stops the process. Nothing is answered then.
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
        let start = Instant::now();
        while !self.try_run() {
            assert!(start.elapsed() < PATIENCE, "mariadbd did not start again");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// A folder of its own for temporary files. MariaDB removes the temporary tables that it finds as it starts, those of
/// a server that runs, too, and that one crashes.
fn temporary_files(home: &Home) -> String {
    format!("--tmpdir={}", home.path("tmp").display())
}
