//! A node in its own process.

use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// A running `node` process. It is killed when this is dropped.
#[derive(Debug)]
pub struct NodeProcess {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl NodeProcess {
    /// Starts a process, and waits until its L1 serves. `program` is the path of the `node` binary.
    ///
    /// # Panics
    ///
    /// If it cannot be started.
    pub async fn start(program: &str, url: &str) -> Self {
        let mut child = Command::new(program)
            .arg(url)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the node program runs");
        let input = child.stdin.take().expect("a pipe");
        let output = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let mut node = Self { child, input, output };
        assert_eq!(node.hear().await, "serving");
        node
    }

    /// Sends a command.
    ///
    /// # Panics
    ///
    /// If the process has ended.
    pub async fn say(&mut self, line: &str) {
        self.input.write_all(format!("{line}\n").as_bytes()).await.expect("the node listens");
    }

    /// The next line of its output.
    ///
    /// # Panics
    ///
    /// If the process has ended, or prints nothing for 20 s.
    pub async fn hear(&mut self) -> String {
        let line = tokio::time::timeout(std::time::Duration::from_secs(20), self.output.next_line());
        line.await.expect("the node says something").expect("a pipe").expect("the node lives")
    }

    /// Kills the process as `kill -9` does.
    ///
    /// # Panics
    ///
    /// If it cannot be killed.
    pub async fn kill(mut self) {
        self.child.kill().await.expect("it can be killed");
    }
}
