//! Faults of a cluster: slots that move, and links between its nodes.

use std::io;
use std::time::Duration;

use fastrand::Rng;
use tokio::task::block_in_place;
use tokio::time::sleep;

use crate::deployment::{Cluster, NAMESPACES, PARTITIONS, ask, until};
use crate::failover::Pair;
use crate::fault::{Fault, drawn, ms};
use crate::rig::Rig;

/// The maximum time for a master to notice that it is cut off.
const NOTICED_WITHIN: Duration = Duration::from_secs(20);

/// Runs one of these faults.
pub(crate) async fn inflict(fault: Fault, rig: &mut Rig, rng: &mut Rng) -> io::Result<String> {
    match fault {
        Fault::MoveSlots => move_slots(rig, rng).await,
        _ if rng.u8(..4) == 0 => part(rig, rng).await,
        _ => isolate(rig, rng).await,
    }
}

fn of(rig: &Rig) -> io::Result<&Cluster> {
    rig.deployment.cluster().ok_or_else(|| io::Error::other("this is no cluster"))
}

/// A slot, and where it goes.
#[derive(Debug, Clone, Copy)]
struct Move {
    slot: u16,
    from: usize,
    to: usize,
}

/// Moves the slots of some partitions, one after the other.
async fn move_slots(rig: &mut Rig, rng: &mut Rng) -> io::Result<String> {
    let cluster = of(rig)?;
    let masters = rig.deployment.masters();
    let slots: Vec<u16> = (0..rng.usize(1..8))
        .map(|_| cluster.slots[rng.usize(..NAMESPACES.len())][rng.usize(..PARTITIONS)])
        .collect();
    rig.spares_all_but(cluster.partitions_with(|slot| slots.contains(&slot)));
    for slot in &slots {
        let from = block_in_place(|| cluster.redis.owner_of(*slot));
        let from = from.ok_or_else(|| io::Error::other(format!("slot {slot} has no owner")))?;
        let others: Vec<usize> = masters.iter().copied().filter(|master| *master != from).collect();
        let moved = Move { slot: *slot, from, to: drawn(&others, rng) };
        block_in_place(|| cluster.redis.begin_move(moved.slot, moved.from, moved.to));
        sleep(ms(rng, 0..300)).await;
        while block_in_place(|| cluster.redis.move_keys(moved.slot, moved.from, moved.to)) {
            sleep(ms(rng, 0..60)).await;
        }
        sleep(ms(rng, 0..150)).await;
        block_in_place(|| cluster.redis.end_move(moved.slot, moved.from, moved.to));
    }
    slots.iter().for_each(|_| rig.has_changed("slot_move"));
    // A node may notice a little later.
    sleep(ms(rng, 100..1000)).await;
    Ok(format!("{} slots moved", slots.len()))
}

/// Cuts the links between two masters. The third one still reaches both.
async fn part(rig: &mut Rig, rng: &mut Rng) -> io::Result<String> {
    let cluster = of(rig)?;
    let mut masters = rig.deployment.masters();
    rng.shuffle(&mut masters);
    // No server is lost, so no partition is concerned.
    rig.spares_all_but([0; NAMESPACES.len()]);
    cluster.part([masters[0], masters[1]]);
    sleep(ms(rng, 1000..5000)).await;
    cluster.rejoin();
    Ok("two masters did not reach each other".to_owned())
}

/// Cuts a master off from the others. When it has noticed that, its replica may take its place.
async fn isolate(rig: &mut Rig, rng: &mut Rng) -> io::Result<String> {
    let pair = Pair::draw(rig, rng)?;
    let cluster = of(rig)?;
    rig.spares_all_but(cluster.partitions_of(&[pair.master]));
    rig.deployment.forbid_failovers();
    cluster.isolate(pair.master);
    let server = rig.server(pair.master);
    let notices = || {
        let info: Option<String> = ask(server, &[b"CLUSTER", b"INFO"]);
        info.is_some_and(|info| info.contains("cluster_state:fail"))
    };
    let noticed = until(NOTICED_WITHIN, notices).await;
    let replaced = noticed && rng.u8(..3) > 0;
    let promoted = match replaced {
        true => {
            rig.ask::<()>(pair.replica, &[b"CONFIG", b"SET", b"cluster-replica-no-failover", b"no"]);
            pair.is_promoted(rig).await
        }
        false => {
            sleep(ms(rng, 0..1500)).await;
            Ok(())
        }
    };
    cluster.rejoin();
    promoted?;
    if !noticed {
        return Err(io::Error::other("a master that is cut off goes on"));
    }
    if replaced {
        pair.is_demoted(rig).await?;
        rig.has_changed("isolated_master_replaced");
    }
    Ok(if replaced { "replaced by its replica" } else { "not replaced" }.to_owned())
}
