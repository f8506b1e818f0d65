//! Runs the demo as users do, at small sizes, and checks its output and its exit code.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use integration_tests::RedisServer;
use serde_json::Value;

/// Slow machines have slow disks, so the tests use few rows and little traffic.
const SMALL: [&str; 6] = ["--products", "300", "--seconds", "1", "--rate", "6000"];

fn demo(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_async-cache-demo"));
    command.args(args).stdin(Stdio::null()).output().expect("the demo runs")
}

/// Runs it with `--json`: the standard output must be one object, and nothing else.
fn figures(args: &[&str]) -> Value {
    let output = demo(&[args, &["--json"]].concat());
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {errors}", output.status);
    serde_json::from_slice(&output.stdout).expect("one JSON object")
}

fn number(figures: &Value, path: &str) -> f64 {
    figures.pointer(path).and_then(Value::as_f64).unwrap_or_else(|| panic!("no number {path} in {figures:#}"))
}

/// These facts hold for every mode of the demo.
fn assert_sound(figures: &Value, instances: u64) {
    let get = |path| number(figures, path);
    assert_eq!(get("/stale_reads"), 0.0);
    assert_eq!(get("/duplicate_loads"), 0.0);
    assert_eq!(get("/failed_requests"), 0.0);
    assert_eq!(get("/failed_writes"), 0.0);
    assert_eq!(get("/instances"), instances as f64);
    let answered = ["/l1_hits", "/l2_hits", "/loads", "/waits"].map(get);
    assert_eq!(answered.iter().sum::<f64>(), get("/requests"));
    assert!(answered[..3].iter().all(|count| *count > 0.0), "{answered:?}");
    assert_eq!(get("/database_queries_saved"), get("/requests") - get("/loads"));
    assert!(get("/database_queries") >= get("/loads"));
    assert!(get("/checked_reads") >= get("/requests"));
    assert!(get("/at_risk_reads") > 0.0);
    assert!(get("/writes") > 0.0);
    let lags = get("/invalidation_lag/count");
    assert!(lags > 0.0 && get("/invalidation_lag/p50_ms") <= get("/invalidation_lag/max_ms"));
    let cold = |name| number(figures, &format!("/cold_key/{name}"));
    assert_eq!((cold("loads"), cold("tasks"), cold("failed_tasks")), (1.0, 1000.0, 0.0));
    assert!(cold("slowest_caller_ms") >= cold("loader_ms"));
    let by_instance = figures["by_instance"].as_array().expect("a list");
    let heard = |instance: &Value| instance["invalidations_received"].as_u64() >= Some(1);
    assert!(by_instance.len() as u64 == instances && by_instance.iter().all(heard), "{by_instance:#?}");
}

#[test]
fn by_itself() {
    let figures = figures(&SMALL);
    assert_sound(&figures, 3);
    assert!(number(&figures, "/requests") > 1000.0);
}

#[test]
fn on_redis_in_one_process() {
    let server = RedisServer::start();
    let figures = figures(&[&SMALL[..], &["--redis", &server.url(), "--instances", "2"]].concat());
    assert_sound(&figures, 2);
}

#[test]
fn on_redis_in_processes_of_their_own() {
    let server = RedisServer::start();
    let url = server.url();
    let args = [&SMALL[..], &["--redis", &url, "--processes", "3"]].concat();
    assert_sound(&figures(&args), 3);
    // The entries that the first run left in Redis belong to a deleted database.
    assert_sound(&figures(&args), 3);
}

#[test]
fn on_a_redis_of_its_own() {
    let figures = figures(&[&SMALL[..], &["--redis", "spawn", "--processes", "2"]].concat());
    assert_sound(&figures, 2);
}

#[cfg(feature = "cluster")]
#[test]
fn on_a_cluster() {
    let cluster = integration_tests::cluster::RedisCluster::start(3);
    let urls = cluster.urls().join(",");
    let args = [&SMALL[..], &["--cluster", &urls, "--processes", "2"]].concat();
    assert_sound(&figures(&args), 2);
}

#[cfg(feature = "sentinel")]
#[test]
fn on_a_master_that_sentinels_name() {
    let sentinels = integration_tests::sentinels::Sentinels::start();
    let named = format!("{}={}", integration_tests::sentinels::MASTER, sentinels.urls().join(","));
    assert_sound(&figures(&[&SMALL[..], &["--sentinel", &named, "--processes", "2"]].concat()), 2);
}

#[test]
fn a_password_reaches_the_processes_and_nothing_else() {
    let server = RedisServer::with_password("hunter2");
    let output = demo(&[&SMALL[..], &["--redis", &server.url(), "--processes", "2", "--json"]].concat());
    assert!(output.status.success());
    for text in [&output.stdout, &output.stderr] {
        assert!(!String::from_utf8_lossy(text).contains("hunter2"));
    }
}

#[test]
fn a_trace_is_replayed_to_its_end() {
    let directory = tempfile::tempdir().expect("a directory");
    let keys: Vec<u8> = (0..3001_u32).flat_map(|i| (i * i % 401 + 1_000_000).to_be_bytes()).collect();
    let (plain, packed) = (directory.path().join("trace"), directory.path().join("trace.xz"));
    std::fs::write(&plain, &keys).expect("it can be written");
    let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 1);
    encoder.write_all(&keys).expect("it can be packed");
    std::fs::write(&packed, encoder.finish().expect("it can be packed")).expect("it can be written");
    let distinct = (0..3001_u32).map(|i| i * i % 401).collect::<std::collections::HashSet<_>>().len();
    for file in [&plain, &packed] {
        let figures = figures(&["--trace", text(file), "--rate", "3000"]);
        assert_eq!(number(&figures, "/requests"), 3001.0);
        assert_eq!(number(&figures, "/products"), distinct as f64);
        assert_eq!(number(&figures, "/stale_reads"), 0.0);
    }
}

#[test]
fn the_table_is_for_people() {
    let output = demo(&SMALL);
    assert!(output.status.success());
    let table = String::from_utf8(output.stdout).expect("text");
    for row in ["Requests", "Database queries", "One cold product", "older than the promise"] {
        assert!(table.contains(row), "{table}");
    }
    assert!(!table.contains("FAILED"), "{table}");
    let table_lines = table.lines().skip(1);
    table_lines.for_each(|line| assert!(line.chars().count() <= 80, "{line}"));
}

#[test]
fn one_is_said_to_be_one() {
    let output = demo(&["--products", "1", "--seconds", "0.2", "--rate", "300"]);
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("1 product in SQLite"), "{output:?}");
}

#[test]
fn a_redis_that_ends_under_way_is_a_failure() {
    let server = RedisServer::start();
    let url = server.url();
    let args = ["--products", "300", "--seconds", "5", "--rate", "3000", "--writes", "10", "--redis", &url];
    let mut command = Command::new(env!("CARGO_BIN_EXE_async-cache-demo"));
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().expect("the demo runs");
    // The traffic has begun.
    while server.cli::<i64>(&["DBSIZE"]) < 100 {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    server.kill();
    let output = child.wait_with_output().expect("it ends");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(errors.contains("was Redis there"), "{errors}");
}

#[test]
fn wrong_input_is_refused_with_the_reason() {
    let directory = tempfile::tempdir().expect("a directory");
    let (odd, broken) = (directory.path().join("odd"), directory.path().join("broken.xz"));
    std::fs::write(&odd, [1, 2, 3, 4, 5]).expect("it can be written");
    std::fs::write(&broken, "no xz at all").expect("it can be written");
    let nowhere = "redis://127.0.0.1:1";
    for (args, reason) in [
        (&["--processes", "3"][..], "--redis"),
        (&["--processes", "0", "--redis", nowhere], "--processes"),
        (&["--instances", "0"], "--instances"),
        (&["--seconds", "soon"], "number of seconds"),
        (&["--seconds", "NaN"], "number of seconds"),
        (&["--writes", "101"], "percent"),
        (&["--redis", nowhere], "--redis: "),
        (&["--redis", "http://127.0.0.1"], "--redis: "),
        (&["serve", "--redis", nowhere], "--redis: "),
        (&["serve", "--processes", "2"], "--redis"),
        (&["--trace", "/does/not/exist"], "/does/not/exist"),
        (&["--trace", text(&odd)], "5 bytes"),
        (&["--trace", text(&broken)], "broken.xz"),
        (&["--namespace", "a{b"], "namespace"),
        (&["serve", "--listen", "8080"], "--listen"),
        (&["serve", "--listen", "192.0.2.1:80"], "--listen: cannot listen on 192.0.2.1:80"),
        (&["--seconds", "1", "serve"], "serve"),
        (&["--nonsense"], "--nonsense"),
    ] {
        let output = demo(args);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {errors}");
        assert!(errors.contains(reason), "{args:?}: {errors}");
        assert!(output.stdout.is_empty(), "{args:?}");
    }
}

#[test]
fn a_redis_that_is_none_is_refused() {
    let server = RedisServer::with_password("hunter2");
    let url = format!("redis://:wrong@127.0.0.1:{}", server.port());
    let output = demo(&["--redis", &url]);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{errors}");
    assert!(errors.contains("password") && !errors.contains("wrong@"), "{errors}");
}

/// The first command of the README is what a newcomer waits for.
#[test]
fn the_first_build_has_neither_sqlx_nor_the_outbox() {
    let tree = |features: &[&str]| {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args([
            "tree",
            "--offline",
            "--locked",
            "--package",
            "async-cache-demo",
            "--edges",
            "normal,build",
        ]);
        let output = cargo.args(["--prefix", "none"]).args(features).output().expect("cargo runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let lines = String::from_utf8(output.stdout).expect("text");
        let large = |line: &&str| line.starts_with("sqlx") || line.starts_with("async-cache-outbox");
        lines.lines().filter(large).count()
    };
    assert_eq!(tree(&[]), 0);
    assert!(tree(&["--features", "outbox"]) > 0);
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path in text")
}
