//! A process that changes a product, and is killed after its commit, before it can invalidate anything.

use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use crate::{clock, outbox};

/// The argument that makes a process a writer.
pub(crate) const WRITER: &str = "__writer";
/// The time that a writer has to start and to commit.
const COMMIT_WITHIN: Duration = Duration::from_secs(20);

/// Starts writers, and kills them.
pub(crate) struct Writers {
    pub(crate) database: PathBuf,
    pub(crate) namespace: String,
}

/// The change that a writer makes.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Errand {
    pub(crate) database: PathBuf,
    /// The cache whose entry is invalidated.
    pub(crate) namespace: String,
    pub(crate) product: u32,
    pub(crate) price_cents: u32,
}

/// What a writer says after its commit.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Committed {
    /// The version of the product.
    pub(crate) version: u32,
    /// Rows in the outbox at the commit, with its own.
    pub(crate) rows: u32,
    /// When the commit had returned, by [`clock::now`].
    pub(crate) at: u64,
}

/// A writer that was killed.
#[derive(Debug)]
pub(crate) struct Killed {
    pub(crate) committed: Committed,
    /// When it had ended.
    pub(crate) at: u64,
    /// How it ended, as the system says.
    pub(crate) status: String,
}

impl Writers {
    /// Starts a writer, and kills it as soon as it has said that it has committed.
    pub(crate) async fn kill_one(&self, product: u32, price_cents: u32) -> Result<Killed, String> {
        let failed = |error: std::io::Error| format!("the writer: {error}");
        let (database, namespace) = (self.database.clone(), self.namespace.clone());
        let errand = serde_json::to_string(&Errand { database, namespace, product, price_cents })
            .map_err(|error| format!("the writer's errand: {error}"))?;
        let mut writer = Command::new(std::env::current_exe().map_err(failed)?)
            .args([WRITER, errand.as_str()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        let mut said = String::new();
        let mut output = BufReader::new(writer.stdout.take().expect("it was asked for"));
        let heard = tokio::time::timeout(COMMIT_WITHIN, output.read_line(&mut said)).await;
        // SIGKILL: the writer cannot do anything more.
        writer.start_kill().map_err(failed)?;
        let status = writer.wait().await.map_err(failed)?.to_string();
        let at = clock::now();
        heard.map_err(|_| format!("the writer did not commit within {COMMIT_WITHIN:?}"))?.map_err(failed)?;
        let committed: Result<Committed, String> =
            serde_json::from_str(&said).map_err(|_| format!("the writer ended too early: {status}"))?;
        Ok(Killed { committed: committed?, at, status })
    }
}

/// Runs a writer as a process. It ends with its input, if it is not killed.
pub(crate) fn be_a_writer() -> Result<(), String> {
    let errand = std::env::args().nth(2).unwrap_or_default();
    let errand: Errand = serde_json::from_str(&errand)
        .map_err(|error| format!("a writer is started by the demo itself: {error}"))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("cannot start a runtime: {error}"))?;
    let committed = runtime.block_on(outbox::commit(&errand));
    let said = serde_json::to_string(&committed).map_err(|error| error.to_string())?;
    let mut output = std::io::stdout();
    writeln!(output, "{said}").and_then(|()| output.flush()).map_err(|error| error.to_string())?;
    // A service would invalidate the product here. This one never does.
    let _ = std::io::stdin().read(&mut [0]);
    Ok(())
}
