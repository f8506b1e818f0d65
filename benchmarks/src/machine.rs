//! Describes the machine of the run.

use std::fs::read_to_string;
use std::process::Command;

use crate::redis_server::RedisServer;

pub(crate) fn describe(redis: &RedisServer) -> Vec<(String, String)> {
    let field = |path: &str, name: &str| {
        let text = read_to_string(path).ok()?;
        let line = text.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let said = |program: &str, args: &[&str]| {
        let output = Command::new(program).args(args).output().ok()?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let unknown = || "unknown".to_owned();
    let threads = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let load = read_to_string("/proc/loadavg").ok().and_then(|text| Some(text.split(' ').next()?.to_owned()));
    [
        ("processor", field("/proc/cpuinfo", "model name").unwrap_or_else(unknown)),
        ("hardware threads", threads.to_string()),
        ("memory", field("/proc/meminfo", "MemTotal").unwrap_or_else(unknown)),
        ("system", said("uname", &["-sr"]).unwrap_or_else(unknown)),
        ("compiler", said("rustc", &["--version"]).unwrap_or_else(unknown)),
        ("Redis", redis.version()),
        ("load before the run", load.unwrap_or_else(unknown)),
    ]
    .map(|(what, value)| (what.to_owned(), value))
    .into()
}
