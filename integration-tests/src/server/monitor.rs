//! The commands that a server gets.

use std::io::{BufRead, BufReader};
use std::net::TcpStream;

use super::RedisServer;

/// Records commands. See [`RedisServer::monitor`].
#[derive(Debug)]
pub struct Monitor<'a> {
    pub(super) server: &'a RedisServer,
    pub(super) lines: BufReader<TcpStream>,
}

impl Monitor<'_> {
    /// The commands that clients have sent since this was made, each as `"NAME" "argument" …`. Commands of
    /// scripts are left out.
    ///
    /// # Panics
    ///
    /// If the server does not answer.
    #[must_use]
    pub fn commands(self) -> Vec<String> {
        self.by_client().into_iter().map(|(_, command)| command).collect()
    }

    /// The commands since this was made, each with the address of its client.
    ///
    /// # Panics
    ///
    /// If the server does not answer.
    #[must_use]
    pub fn by_client(mut self) -> Vec<(String, String)> {
        const END: &str = "end-of-monitor";
        self.server.cli::<String>(&["ECHO", END]);
        let mut commands = Vec::new();
        loop {
            let line = self.line();
            let Some((origin, command)) = line.split_once("] ") else { continue };
            if command.contains(END) {
                // The commands of the monitor's own connection are left out.
                commands
                    .retain(|(_, command): &(String, String)| !command.starts_with("\"CLIENT\" \"SETINFO\""));
                return commands;
            }
            if !origin.ends_with(" lua") {
                let client = origin.rsplit(' ').next().unwrap_or_default();
                commands.push((client.to_owned(), command.to_owned()));
            }
        }
    }

    pub(super) fn line(&mut self) -> String {
        let mut line = Vec::new();
        self.lines.read_until(b'\n', &mut line).expect("redis-server answers");
        assert!(!line.is_empty(), "redis-server closed the connection");
        String::from_utf8_lossy(&line).trim_end().to_owned()
    }
}
