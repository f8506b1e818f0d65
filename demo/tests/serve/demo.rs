//! A running `async-cache-demo serve`, and plain HTTP requests to it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// Slow machines have slow disks, so the tests use few rows and little traffic.
const SMALL: [[&str; 2]; 3] = [["--products", "300"], ["--rate", "150"], ["--ttl", "2"]];
/// The product that no traffic reads.
pub(crate) const QUIET: u32 = 303;
/// A generous limit for what should take a moment.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// The process. It is told to end when this is dropped, and killed if it does not.
pub(crate) struct Demo {
    process: Child,
    pub(crate) address: String,
}

impl Demo {
    /// Starts it on a free port, and waits until it serves.
    pub(crate) fn serve(args: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_async-cache-demo"));
        command.args(["serve", "--listen", "127.0.0.1:0"]).args(args);
        command.args(SMALL.iter().filter(|[name, _]| !args.contains(name)).flatten());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut process = command.spawn().expect("the demo runs");
        let mut said = String::new();
        let errors = BufReader::new(process.stderr.take().expect("a pipe"));
        let mut lines = errors.lines().map_while(Result::ok);
        let address = lines.find_map(|line| {
            said.push_str(&line);
            Some(line.split_once("http://")?.1.split_once('/')?.0.to_owned())
        });
        // What it says later must not fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        let demo = Self { process, address: address.unwrap_or_default() };
        assert!(!demo.address.is_empty(), "it says where it serves, not: {said}");
        demo
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// Sends a request with these headers and this body.
    pub(crate) fn http(&self, request: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let own_host = headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host"));
        let host = if own_host { String::new() } else { format!("Host: {}\r\n", self.address) };
        let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let length = body.len();
        let text = format!(
            "{request} HTTP/1.1\r\n{host}{headers}Content-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        );
        let mut stream = TcpStream::connect(&self.address).expect("it listens");
        stream.write_all(text.as_bytes()).expect("it takes a request");
        let mut response = String::new();
        stream.read_to_string(&mut response).expect("it answers");
        let (head, body) = response.split_once("\r\n\r\n").expect("head and body");
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
        Answer { status, head: head.to_lowercase(), body: body.to_owned() }
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.http(&format!("GET {path}"), &[], "")
    }

    pub(crate) fn put(&self, path: &str, body: &Value) -> Answer {
        self.http(&format!("PUT {path}"), &[], &body.to_string())
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Answer {
        self.http(&format!("POST {path}"), &[], &body.to_string())
    }

    /// Opens a stream of pulses, and leaves it open. Returns the status.
    pub(crate) fn stream(&self) -> (u16, TcpStream) {
        let mut stream = TcpStream::connect(&self.address).expect("it listens");
        let request = format!("GET /api/live?product=1 HTTP/1.1\r\nHost: {}\r\n\r\n", self.address);
        stream.write_all(request.as_bytes()).expect("it takes a request");
        let mut status = [0; 12];
        stream.read_exact(&mut status).expect("it answers");
        let status = std::str::from_utf8(&status).expect("text").rsplit_once(' ').expect("a status").1;
        (status.parse().expect("a status"), stream)
    }

    /// The processes of the instances.
    pub(crate) fn instances(&self) -> Vec<Pid> {
        let mut children = children_of(self.pid());
        children.retain(|child| arguments(*child).contains("__instance"));
        children
    }

    /// The process of its own Redis, which a shell keeps.
    pub(crate) fn own_redis(&self) -> Pid {
        let servers = children_of(self.pid()).into_iter().flat_map(children_of);
        let mut servers = servers.filter(|child| arguments(*child).contains("redis-server"));
        servers.next().expect("a redis-server")
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(self.process.id().cast_signed())
    }
}

fn children_of(parent: Pid) -> Vec<Pid> {
    let children = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"));
    let pid = |child: &str| Pid::from_raw(child.parse().expect("a number"));
    children.unwrap_or_default().split_whitespace().map(pid).collect()
}

fn arguments(process: Pid) -> String {
    std::fs::read_to_string(format!("/proc/{process}/cmdline")).unwrap_or_default()
}

/// Whether the process exists, and is not only a record of its end.
pub(crate) fn lives(process: Pid) -> bool {
    let state = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    state.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = kill(self.pid(), Signal::SIGTERM);
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(10) {
            if matches!(self.process.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// An answer of the server.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// The status line and the headers, in lower case.
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.status, 200, "{}", self.body);
        serde_json::from_str(&self.body).expect("JSON")
    }

    /// The value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(header, _)| *header == name).map(|(_, value)| value)
    }
}
