//! Runs the demo as users do, at small sizes, and checks its output and its exit code.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
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
        (&["--redis", nowhere, "--processes", "2", "--serve", "127.0.0.1:0"], "--serve"),
        (&["--trace", "/does/not/exist"], "/does/not/exist"),
        (&["--trace", text(&odd)], "5 bytes"),
        (&["--trace", text(&broken)], "broken.xz"),
        (&["--namespace", "a{b"], "namespace"),
        (&["--serve", "8080"], "--serve"),
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

/// Ends the demo even if the test panics.
struct Running(std::process::Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_page_and_the_service_behind_it() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_async-cache-demo"));
    command.args(["--serve", "localhost:0", "--products", "300", "--rate", "300", "--writes", "0"]);
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    let mut running = Running(child.expect("the demo runs"));
    let errors = BufReader::new(running.0.stderr.take().expect("a pipe"));
    let address = errors.lines().map_while(Result::ok).find_map(|line| {
        line.split_once("http://")
            .and_then(|(_, rest)| rest.split_once('/'))
            .map(|(address, _)| address.to_owned())
    });
    let address = address.expect("it says where it serves");
    let ask = |method: &str, path: &str| http(&address, method, path);

    let (status, page) = ask("GET", "/");
    assert!(status == 200 && page.contains("<title>async-cache demo") && !page.contains("http"), "{page}");
    let json = |method, path: &str| {
        let (status, body) = ask(method, path);
        assert_eq!(status, 200, "{body}");
        serde_json::from_str::<Value>(&body).expect("JSON")
    };
    assert_eq!(json("GET", "/figures")["stale_reads"], 0);
    // Hardly any traffic reads the last product.
    let before = json("GET", "/instances/0/products/300");
    assert_eq!(before["product"]["id"], 300);
    json("GET", "/instances/1/products/300");
    let sold = json("POST", "/instances/0/products/300");
    assert_eq!(json("GET", "/instances/0/products/300")["product"]["version"], sold["version"]);
    let begun = std::time::Instant::now();
    while json("GET", "/instances/1/products/300")["product"]["version"] != sold["version"] {
        assert!(begun.elapsed().as_secs() < 2, "the promise is 1 s");
    }
    assert_eq!(ask("GET", "/instances/0/products/999999").0, 404);
    assert_eq!(ask("POST", "/instances/0/products/999999").0, 404);
    assert_eq!(ask("GET", "/instances/3/products/1").0, 404);
}

fn http(address: &str, method: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).expect("it listens");
    let request = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("it takes a request");
    let mut response = String::new();
    stream.read_to_string(&mut response).expect("it answers");
    let (head, body) = response.split_once("\r\n\r\n").expect("head and body");
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
    (status, body.to_owned())
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path in text")
}
