//! Reads from a Redis Cluster of three masters: through a cache without an L1, and through the client's own connection to
//! clusters. Both read values of the same size from the same slots, in turns, in one run.
//!
//! `cargo run --release -p benchmarks --features cluster --bin cluster`

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_cache::key::Key;
use async_cache::{RedisBackend, TieredCache};
use futures_util::future::join_all;
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::{AsyncTypedCommands, RedisResult};
use tempfile::TempDir;

const MASTERS: usize = 3;
const PARTITIONS: u16 = 64;
const KEYS: usize = 10_000;
const MANY: usize = 100;
const TASKS: usize = 256;
const ROUNDS: usize = 7;
const ROUND: Duration = Duration::from_secs(1);
const VALUE: usize = 100;

/// Masters on free ports. They are killed when this is dropped.
struct Cluster {
    masters: Vec<Child>,
    urls: Vec<String>,
    _folders: Vec<TempDir>,
}

impl Cluster {
    fn start() -> Self {
        let mut cluster = Self { masters: Vec::new(), urls: Vec::new(), _folders: Vec::new() };
        let mut first = None;
        for index in 0..MASTERS {
            let (port, bus, folder) = (free_port(), free_port(), TempDir::new().expect("a folder"));
            let process = Command::new("redis-server")
                .args(["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
                .args(["--cluster-enabled", "yes", "--cluster-port", &bus, "--dir"])
                .arg(folder.path())
                .stdout(Stdio::null())
                .spawn()
                .expect("redis-server is needed: apt-get install redis-server");
            let url = format!("redis://127.0.0.1:{port}");
            cluster.masters.push(process);
            cluster._folders.push(folder);
            until("it answers", || run::<String>(&url, &["PING"]).is_ok());
            let (from, to) = (index * 16_384 / MASTERS, (index + 1) * 16_384 / MASTERS - 1);
            run::<()>(&url, &["CLUSTER", "ADDSLOTSRANGE", &from.to_string(), &to.to_string()])
                .expect("slots");
            let (known_port, known_bus) = first.get_or_insert((port, bus));
            run::<()>(&url, &["CLUSTER", "MEET", "127.0.0.1", known_port, known_bus])
                .expect("it meets the first");
            cluster.urls.push(url);
        }
        for url in &cluster.urls {
            until("it is a cluster", || {
                let info: String = run(url, &["CLUSTER", "INFO"]).expect("it answers");
                info.contains("cluster_state:ok") && info.contains("cluster_slots_assigned:16384")
            });
        }
        cluster
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for master in &mut self.masters {
            let _ = master.kill();
            let _ = master.wait();
        }
    }
}

fn free_port() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its address").port().to_string()
}

fn run<T: redis::FromRedisValue>(url: &str, words: &[&str]) -> RedisResult<T> {
    let mut command = redis::Cmd::new();
    command.arg(words).query(&mut redis::Client::open(url)?.get_connection()?)
}

fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(20), "not in time: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

type Cache = TieredCache<String, String>;

/// The two sides.
#[derive(Clone)]
struct Sides {
    cache: Cache,
    client: ClusterConnection,
    keys: Arc<Vec<String>>,
    /// The names of the client's values, in the slots of the cache's values.
    names: Arc<Vec<String>>,
}

impl Sides {
    async fn new(cluster: &Cluster) -> Self {
        let redis =
            RedisBackend::builder().cluster(cluster.urls.clone()).connect().await.expect("the cluster");
        let cache: Cache = TieredCache::builder().namespace("rows").l2(redis).build().expect("a cache");
        let client = ClusterClient::new(cluster.urls.clone()).expect("a client");
        let client = client.get_async_connection().await.expect("the cluster");
        let keys: Vec<String> = (0..KEYS).map(|number| format!("key-{number}")).collect();
        let name = |key: &String| {
            let partition = Key::encode(key.as_str()).expect("a key").partition(PARTITIONS);
            format!("{{rows:{partition}}}bare:{key}")
        };
        let sides =
            Self { cache, client, names: Arc::new(keys.iter().map(name).collect()), keys: Arc::new(keys) };
        sides.fill().await;
        sides
    }

    async fn fill(&self) {
        for keys in self.keys.chunks(500) {
            let entries = keys.iter().map(|key| (key.clone(), "v".repeat(VALUE)));
            self.cache.insert_many(entries).await.expect("stored");
        }
        for names in self.names.chunks(500) {
            let stored = names.iter().map(|name| {
                let mut client = self.client.clone();
                async move { client.set(name, "v".repeat(VALUE + 60)).await.expect("stored") }
            });
            join_all(stored).await;
        }
    }

    /// Some keys, by their places.
    fn places(&self, count: usize) -> Vec<usize> {
        let start = fastrand::usize(..KEYS);
        (0..count).map(|offset| (start + offset) % KEYS).collect()
    }

    async fn cache_many(self) {
        let keys: Vec<&String> = self.places(MANY).into_iter().map(|place| &self.keys[place]).collect();
        let found = self.cache.get_many(keys).await.expect("an answer");
        assert!(found.iter().all(Option::is_some));
    }

    async fn client_many(mut self) {
        let names: Vec<&String> = self.places(MANY).into_iter().map(|place| &self.names[place]).collect();
        let found = self.client.mget(names).await.expect("an answer");
        assert!(found.iter().all(Option::is_some));
    }

    async fn client_each(self) {
        let found = self.places(MANY).into_iter().map(|place| {
            let (mut client, name) = (self.client.clone(), &self.names[place]);
            async move { client.get(name).await.expect("an answer") }
        });
        assert!(join_all(found).await.iter().all(Option::is_some));
    }

    async fn cache_one(self) {
        let key = &self.keys[self.places(1)[0]];
        assert!(self.cache.get(key.as_str()).await.expect("an answer").is_some());
    }

    async fn client_one(mut self) {
        let name = &self.names[self.places(1)[0]];
        assert!(self.client.get(name).await.expect("an answer").is_some());
    }
}

/// Calls per second of so many tasks.
async fn rate<F: Future<Output = ()> + Send>(
    sides: &Sides,
    tasks: usize,
    call: impl Fn(Sides) -> F + Send + Copy + 'static,
) -> f64 {
    let (stop, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let start = Instant::now();
    let tasks: Vec<_> = (0..tasks)
        .map(|_| {
            let (sides, stop, calls) = (sides.clone(), Arc::clone(&stop), Arc::clone(&calls));
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    call(sides.clone()).await;
                    calls.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    tokio::time::sleep(ROUND).await;
    stop.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await.expect("a task that ends well");
    }
    calls.load(Ordering::Relaxed) as f64 / start.elapsed().as_secs_f64()
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

#[tokio::main]
async fn main() {
    let cluster = Cluster::start();
    let sides = Sides::new(&cluster).await;
    let (mut many, mut each, mut mget) = (Vec::new(), Vec::new(), Vec::new());
    let (mut one, mut get) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        many.push(rate(&sides, 8, Sides::cache_many).await);
        mget.push(rate(&sides, 8, Sides::client_many).await);
        each.push(rate(&sides, 8, Sides::client_each).await);
        one.push(rate(&sides, TASKS, Sides::cache_one).await);
        get.push(rate(&sides, TASKS, Sides::client_one).await);
    }
    let (many, mget, each, one, get) = (median(many), median(mget), median(each), median(one), median(get));
    println!(
        "| {MASTERS} masters, calls per second, median of {ROUNDS} rounds of 1 s | cache | client | ratio |"
    );
    println!("|---|---|---|---|");
    println!("| {MANY} keys, 8 tasks, beside `mget` | {many:.0} | {mget:.0} | {:.2} |", many / mget);
    println!(
        "| {MANY} keys, 8 tasks, beside {MANY} `get` at once | {many:.0} | {each:.0} | {:.2} |",
        many / each
    );
    println!("| 1 key, {TASKS} tasks | {one:.0} | {get:.0} | {:.2} |", one / get);
}
