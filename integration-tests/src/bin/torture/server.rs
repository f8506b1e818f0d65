//! Faults of the server's data, and of other clients of the server.

use std::sync::atomic::Ordering;
use std::time::Duration;

use fastrand::Rng;
use integration_tests::{Conditions, Flow, Proxy, RedisServer, Route};
use tokio::task::block_in_place;
use tokio::time::{Instant, sleep};

use crate::deployment::Deployment;
use crate::fault::{Fault, Place, ms, some_masters};
use crate::guest::Guest;
use crate::ledger::{Count, Global, HANDLES, now};
use crate::node::{DRAWN_NAMESPACE, LIVES_NAMESPACE, NAMESPACE};
use crate::rig::Rig;

/// A user with all rights except those on channels.
const WEAK: &str = "weak";
/// No command is under way for a longer time.
const COMMAND_NS: u64 = 1_000_000_000;
/// A number above every possible sequence number.
const HUGE: &str = "9007199254740992";

/// Runs one of these faults.
pub(crate) async fn inflict(fault: Fault, rig: &mut Rig, rng: &mut Rng) -> std::io::Result<Option<String>> {
    match fault {
        Fault::Demote => return demote(rig, rng).await.map(Some),
        Fault::FullMemory => {
            let masters = some_masters(rig, rng);
            let set = |name: &[u8], value: &[u8]| {
                rig.tell_servers(&masters, &[b"CONFIG", b"SET", name, value]);
            };
            set(b"maxmemory-policy", b"noeviction");
            set(b"maxmemory", b"1");
            sleep(ms(rng, 500..3000)).await;
            set(b"maxmemory", b"0");
        }
        Fault::ScriptFlush => {
            let masters = some_masters(rig, rng);
            let until = Instant::now() + ms(rng, 500..3000);
            while Instant::now() < until {
                rig.tell_servers(&masters, &[b"SCRIPT", b"FLUSH"]);
                sleep(ms(rng, 1..40)).await;
            }
        }
        Fault::ForeignMessages => foreign_messages(rig, rng).await,
        Fault::ForeignNumbers => {
            let field: &[u8] = if rng.bool() { b"s" } else { b"f" };
            let namespace = [NAMESPACE, LIVES_NAMESPACE, DRAWN_NAMESPACE][rng.usize(..3)];
            let place = Place::draw(rig, namespace, rng);
            let number = if rng.bool() { HUGE } else { "-1e999" };
            let state = place.state();
            rig.ask::<u64>(place.server, &[b"HSET", state.as_bytes(), field, number.as_bytes()]);
            sleep(ms(rng, 500..2000)).await;
        }
        Fault::NoRights | Fault::RevokedRights => return weak(fault, rig, rng).await,
        Fault::OtherBuild => {
            let mut child = rig.invite(Guest::OtherBuild, None)?;
            sleep(ms(rng, 2000..4000)).await;
            child.kill().await?;
        }
        other => return Err(std::io::Error::other(format!("nobody does {other:?}"))),
    }
    Ok(None)
}

async fn foreign_messages(rig: &Rig, rng: &mut Rng) {
    let place = Place::draw(rig, NAMESPACE, rng);
    let until = Instant::now() + ms(rng, 1000..4000);
    while Instant::now() < until {
        let kind = ["C:", "I:", "T:", "X:", "", "H:"][rng.usize(..6)];
        let rest = match rng.u8(..4) {
            0 => HUGE.to_owned(),
            1 => format!("{HUGE}:5"),
            2 => "-1:\u{0}".to_owned(),
            _ => (0..rng.usize(..200)).map(|_| rng.char('\0'..'\u{3ff}')).collect(),
        };
        place.publish(rig, format!("{kind}{rest}").as_bytes());
        sleep(ms(rng, 1..60)).await;
    }
}

/// Runs a node whose user may not publish, from its start or from a later moment.
async fn weak(fault: Fault, rig: &mut Rig, rng: &mut Rng) -> std::io::Result<Option<String>> {
    let channels: &[u8] = if fault == Fault::NoRights { b"resetchannels" } else { b"allchannels" };
    let user = WEAK.as_bytes();
    let servers: Vec<usize> = (0..rig.deployment.servers().len()).collect();
    rig.tell_servers(
        &servers,
        &[b"ACL", b"SETUSER", user, b"reset", b"on", b">weak", b"~*", b"+@all", channels],
    );
    let refused = |rig: &Rig| rig.ledger.count(HANDLES - 1, Count::Refused).load(Ordering::Relaxed);
    let before = refused(rig);
    let mut child = rig.invite(Guest::Weak, Some(WEAK))?;
    if fault == Fault::RevokedRights {
        sleep(ms(rng, 1000..2000)).await;
        rig.tell_servers(&servers, &[b"ACL", b"SETUSER", user, b"resetchannels"]);
    }
    sleep(ms(rng, 4000..6000)).await;
    child.kill().await?;
    rig.tell_servers(&servers, &[b"ACL", b"DELUSER", user]);
    Ok(Some(format!("{} calls refused", refused(rig) - before)))
}

/// Starts a replica of the server with its own link, and waits until it has all data.
async fn replica_of(rig: &Rig) -> (RedisServer, Proxy) {
    // The server need not wait for further replicas that could share the transfer.
    const AT_ONCE: [&str; 4] = ["CONFIG", "SET", "repl-diskless-sync-delay", "0"];
    let replica = block_in_place(RedisServer::start);
    replica.cli::<()>(&AT_ONCE);
    rig.ask::<()>(0, &AT_ONCE.map(str::as_bytes));
    let link = Proxy::start(rig.server(0).port()).await;
    replica.cli::<()>(&["REPLICAOF", "127.0.0.1", &link.port().to_string()]);
    level(&replica).await;
    (replica, link)
}

/// Waits until a replica has all data of its master.
async fn level(replica: &RedisServer) {
    // A replica that is loading what its master has sent may not answer in time.
    let is_up = || replication(replica).is_some_and(|info| info.contains("master_link_status:up"));
    for _ in 0..1000 {
        if block_in_place(is_up) {
            return;
        }
        sleep(Duration::from_millis(10)).await;
    }
}

fn replication(server: &RedisServer) -> Option<String> {
    let mut connection = server.connection().ok()?;
    redis::cmd("INFO").arg("replication").query(&mut connection).ok()
}

fn offset(server: &RedisServer, name: &str) -> Option<u64> {
    let info = replication(server)?;
    let line = info.lines().find_map(|line| line.trim_end().strip_prefix(name).map(str::to_owned));
    line?.trim_start_matches(':').parse().ok()
}

/// The number of bytes that a replica is behind.
pub(crate) fn missed(master: &RedisServer, replica: &RedisServer) -> u64 {
    let ahead = offset(master, "master_repl_offset").unwrap_or(0);
    ahead.saturating_sub(offset(replica, "slave_repl_offset").unwrap_or(0))
}

/// Cuts a replica off from its master, kills the master, and puts the replica in its place. The replica has
/// missed the last changes.
pub(crate) async fn promote(rig: &mut Rig, rng: &mut Rng) -> std::io::Result<String> {
    let (replica, link) = replica_of(rig).await;
    sleep(ms(rng, 200..1000)).await;
    // The link is half open, so the replica goes on without an error.
    Route::ALL.into_iter().for_each(|route| link.freeze(route));
    sleep(ms(rng, 200..2000)).await;
    let missed = block_in_place(|| missed(rig.server(0), &replica));
    rig.server(0).kill();
    sleep(ms(rng, 0..500)).await;
    replica.cli::<()>(&["REPLICAOF", "NO", "ONE"]);
    rig.proxies().for_each(|proxy| proxy.lead_to(replica.port()));
    rig.deployment = Deployment::Single(replica);
    Ok(format!("the replica had missed {missed} bytes"))
}

/// Cuts a replica off, so that it misses changes, and makes it a master. The real master follows it, takes its
/// data, and becomes a master again. No connection ends.
async fn demote(rig: &mut Rig, rng: &mut Rng) -> std::io::Result<String> {
    let (replica, link) = replica_of(rig).await;
    sleep(ms(rng, 100..500)).await;
    Route::ALL.into_iter().for_each(|route| link.freeze(route));
    sleep(ms(rng, 200..2000)).await;
    let missed = block_in_place(|| missed(rig.server(0), &replica));
    replica.cli::<()>(&["REPLICAOF", "NO", "ONE"]);
    // From now on the server may answer a read from the older data. The node cannot notice that until a
    // heartbeat has told the server the latest number that nodes have received.
    let deceives = |global, at| rig.ledger.global(global).store(at, Ordering::SeqCst);
    deceives(Global::DeceivesUntil, u64::MAX);
    deceives(Global::DeceivesSince, now() - COMMAND_NS);
    // Commands must not reach the server while it is a replica. They arrive when it is a master again.
    let stalled = Conditions { flow: Flow::Stalled, ..Conditions::default() };
    for proxy in rig.proxies() {
        Route::ALL.into_iter().for_each(|route| proxy.set(route, stalled));
    }
    rig.ask::<()>(0, &[b"REPLICAOF", b"127.0.0.1", replica.port().to_string().as_bytes()]);
    level(rig.server(0)).await;
    sleep(ms(rng, 0..500)).await;
    rig.ask::<()>(0, &[b"REPLICAOF", b"NO", b"ONE"]);
    rig.proxies().for_each(Proxy::clear);
    deceives(Global::DeceivesUntil, now() + rig.bound_ns());
    sleep(ms(rng, 1500..4000)).await;
    Ok(format!("its memory lost {missed} bytes"))
}
