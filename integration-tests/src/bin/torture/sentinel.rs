//! Faults of the Sentinels.

use std::io;

use fastrand::Rng;
use integration_tests::{Conditions, Data, Flow, Route};
use tokio::task::block_in_place;
use tokio::time::sleep;

use crate::failover::Pair;
use crate::fault::{Fault, ms};
use crate::rig::Rig;

/// Runs one of these faults.
pub(crate) async fn inflict(fault: Fault, rig: &mut Rig, rng: &mut Rng) -> io::Result<String> {
    match fault {
        Fault::KillSentinels => kill(rig, rng).await,
        _ => old(rig, rng).await,
    }
}

/// Kills one Sentinel or all, while connections to the master end.
async fn kill(rig: &mut Rig, rng: &mut Rng) -> io::Result<String> {
    let Some(sentinels) = rig.deployment.sentinels() else { return Err(none()) };
    let first = rng.usize(..3);
    let count = if rng.bool() { 1 } else { 3 };
    let killed = || sentinels.members.iter().cycle().skip(first).take(count);
    killed().for_each(integration_tests::RedisServer::kill);
    let master = rig.deployment.masters()[0];
    for _ in 0..rng.u8(1..4) {
        for kind in [&b"normal"[..], b"pubsub"] {
            rig.ask::<u64>(master, &[b"CLIENT", b"KILL", b"TYPE", kind]);
        }
        sleep(ms(rng, 100..1500)).await;
    }
    block_in_place(|| killed().for_each(|sentinel| sentinel.restart(Data::Keep)));
    Ok(format!("{count} Sentinels killed"))
}

/// A Sentinel misses a failover. When it is back, one handle reaches no other Sentinel, and is told the old master.
/// That is a replica, which misses changes.
async fn old(rig: &mut Rig, rng: &mut Rng) -> io::Result<String> {
    let pair = Pair::draw(rig, rng)?;
    let Some(sentinels) = rig.deployment.sentinels() else { return Err(none()) };
    let (late, handle) = (rng.usize(..3), rng.usize(..rig.handles().count()));
    sentinels.members[late].kill();
    rig.server(pair.master).kill();
    pair.is_promoted(rig).await?;
    rig.close_ways_to(pair.master, true);
    block_in_place(|| rig.server(pair.master).restart(Data::Drop));
    pair.is_demoted(rig).await?;
    rig.has_data(pair.master).await;
    // From now on the old master is the replica.
    let after = Pair { master: pair.replica, replica: pair.master };
    after.hold_back(rig);
    rig.close_ways_to(pair.master, false);
    // What it has then is older than the bound.
    sleep(ms(rng, 1200..2000)).await;
    let refused = Conditions { flow: Flow::Refused, ..Conditions::default() };
    let ways: Vec<_> = rig.nodes.iter().flat_map(|node| &node.ways).collect();
    let others = ways[handle].watchers.iter().enumerate().filter(|(at, _)| *at != late);
    others.clone().for_each(|(_, watcher)| watcher.set(Route::Commands, refused));
    let own = || rig.links().filter(|link| link.handle == handle);
    let asked =
        || own().filter(|link| link.server == pair.master).map(|link| link.proxy.asked()).sum::<usize>();
    let before = asked();
    for link in own() {
        Route::ALL.into_iter().for_each(|route| link.proxy.cut(route));
    }
    block_in_place(|| sentinels.members[late].restart(Data::Keep));
    sleep(ms(rng, 1500..3000)).await;
    let times = asked() - before;
    others.for_each(|(_, watcher)| watcher.clear());
    after.follow(rig);
    rig.has_changed("failover");
    Ok(format!("handle {handle} was told the old master, {times} times"))
}

fn none() -> io::Error {
    io::Error::other("there are no Sentinels")
}
