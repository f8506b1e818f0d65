//! Processes of database servers.

use std::io::ErrorKind;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid, User};
use parking_lot::Mutex;
use tempfile::TempDir;

/// How long a server may take to start or to end.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Finds a program on the path, or in one of these folders. A `*` stands for the highest version.
pub(crate) fn program(name: &str, folders: &[&str], package: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places: Vec<PathBuf> = std::env::split_paths(&path).collect();
    for folder in folders {
        match folder.split_once('*') {
            None => places.push(folder.into()),
            Some((before, after)) => {
                let versions = std::fs::read_dir(before).into_iter().flatten().flatten();
                let mut versions: Vec<PathBuf> =
                    versions.map(|version| version.path().join(after.trim_start_matches('/'))).collect();
                versions.sort();
                places.extend(versions.into_iter().rev());
            }
        }
    }
    let found = places.into_iter().map(|place| place.join(name)).find(|file| file.is_file());
    found.unwrap_or_else(|| panic!("{name} is needed: apt-get install {package}"))
}

/// A folder for a server's data, and the user that owns it. Database servers refuse to run as root.
#[derive(Debug)]
pub(crate) struct Home {
    pub(crate) folder: TempDir,
    owner: Option<User>,
}

impl Home {
    pub(crate) fn new(user: &str) -> Self {
        let folder = TempDir::with_prefix("async-cache-outbox-").expect("a temporary folder");
        let temporary = folder.path().join("tmp");
        std::fs::create_dir(&temporary).expect("a folder for temporary files");
        let owner = Uid::effective().is_root().then(|| {
            let named = |name| User::from_name(name).expect("the users of this system");
            named(user).or_else(|| named("nobody")).expect("a user that is not root")
        });
        if let Some(owner) = &owner {
            let (uid, gid) = (owner.uid.as_raw(), owner.gid.as_raw());
            for path in [folder.path(), &temporary] {
                chown(path, Some(uid), Some(gid)).expect("the folder can change its owner");
            }
        }
        Self { folder, owner }
    }

    /// A path in the folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A command that runs as the owner.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command.env("HOME", self.folder.path());
        if let Some(owner) = &self.owner {
            command.uid(owner.uid.as_raw()).gid(owner.gid.as_raw());
        }
        command
    }
}

/// Runs the program that creates the data of a server.
///
/// # Panics
///
/// If it fails; the message holds what the program said.
pub(crate) fn initialize(mut program: Command) {
    let output = program.stdout(Stdio::piped()).stderr(Stdio::piped()).output();
    let output = output.unwrap_or_else(|error| panic!("{program:?}: {error}"));
    let said = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    assert!(output.status.success(), "{program:?}: {}\n{}", output.status, said.join("\n"));
}

/// A server process. Killed when dropped.
#[derive(Debug, Default)]
pub(crate) struct Process(Mutex<Option<Child>>);

impl Process {
    /// Starts a server, and waits until `answers`. It is false if the process has ended instead.
    pub(crate) fn start(&self, command: &mut Command, answers: impl Fn() -> bool) -> bool {
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) if error.kind() == ErrorKind::NotFound => panic!("the program is gone: {command:?}"),
            Err(error) => panic!("{command:?}: {error}"),
        };
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if child.try_wait().expect("the state of the server").is_some() {
                return false;
            }
            if answers() {
                *self.0.lock() = Some(child);
                return true;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = child.kill();
        let _ = child.wait();
        false
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let process = self.0.lock();
        let id = process.as_ref().expect("the server runs").id();
        kill(Pid::from_raw(i32::try_from(id).expect("a process id")), signal).expect("it takes signals");
    }

    /// Ends it at once.
    pub(crate) fn kill(&self) {
        if let Some(mut child) = self.0.lock().take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
