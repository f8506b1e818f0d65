//! Finds the installed peers, and starts them.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Every peer process by the name of its kind, or the reason why it is missing.
pub(super) fn all() -> [(&'static str, Result<Command, String>); 3] {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers");
    [
        ("Rust peers", rust(&folder)),
        ("Python peers (async-cache, cashews)", python(&folder)),
        ("npm peers (bentocache, dataloader)", npm(&folder)),
    ]
}

fn rust(folder: &Path) -> Result<Command, String> {
    let manifest = folder.join("rust/Cargo.toml");
    let built = Command::new(env!("CARGO"))
        .args(["build", "--release", "--quiet", "--locked", "--manifest-path"])
        .arg(&manifest)
        .status()
        .map_err(|error| format!("cargo cannot be run: {error}"))?;
    if !built.success() {
        return Err(format!("they do not build here: cargo build --manifest-path {}", manifest.display()));
    }
    Ok(Command::new(folder.join("rust/target/release/peers")))
}

fn python(folder: &Path) -> Result<Command, String> {
    let python = set_up(folder.join("python/.venv/bin/python"))?;
    let mut command = Command::new(python);
    command.arg(folder.join("python/peer.py"));
    Ok(command)
}

fn npm(folder: &Path) -> Result<Command, String> {
    set_up(folder.join("node/node_modules/bentocache"))?;
    let mut command = Command::new("node");
    command.arg(folder.join("node/peer.js"));
    Ok(command)
}

fn set_up(path: PathBuf) -> Result<PathBuf, String> {
    if path.exists() { Ok(path) } else { Err("not installed: run benchmarks/peers/setup".to_owned()) }
}
