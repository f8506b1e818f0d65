//! Failovers: a replica takes the place of its master.
//!
//! Two servers at a time that both take themselves for the master of the same data are not promised to work
//! (`docs/staleness.md`, "Not promised"). So no node reaches an old master from the moment at which there is a new
//! one, until the old one says that it is a replica, wherever the servers do not see to that by themselves.

use std::io;
use std::time::Duration;

use fastrand::Rng;
use integration_tests::Data;
use integration_tests::sentinels::MASTER;
use tokio::task::block_in_place;
use tokio::time::sleep;

use crate::deployment::{Deployment, ask, until};
use crate::fault::{Fault, drawn, ms};
use crate::rig::Rig;
use crate::server::missed;

/// The maximum time for a failover. Sentinels wait after the last one.
const PROMOTED_WITHIN: Duration = Duration::from_secs(40);

/// How often a Sentinel is told to begin a failover.
const COMMANDS: usize = 4;

/// A master, and the replica that is to take its place.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pair {
    pub master: usize,
    pub replica: usize,
}

impl Pair {
    pub(crate) fn draw(rig: &Rig, rng: &mut Rng) -> io::Result<Self> {
        let master = drawn(&rig.deployment.masters(), rng);
        Ok(Self { master, replica: rig.deployment.replica_of(master)? })
    }

    /// Keeps the replica from following its master, until [`follow`](Self::follow).
    pub(crate) fn hold_back(self, rig: &Rig) {
        // The master refuses a password that it does not know.
        rig.ask::<()>(self.replica, &[b"CONFIG", b"SET", b"masterauth", b"unknown"]);
        rig.ask::<u64>(self.master, &[b"CLIENT", b"KILL", b"TYPE", b"replica"]);
    }

    pub(crate) fn follow(self, rig: &Rig) {
        rig.ask::<()>(self.replica, &[b"CONFIG", b"SET", b"masterauth", b""]);
    }

    /// Waits until the replica is a master, and the Sentinels know it.
    pub(crate) async fn is_promoted(self, rig: &Rig) -> io::Result<()> {
        let server = rig.server(self.replica);
        let port = server.port().to_string();
        let names = |sentinel: &integration_tests::RedisServer| {
            let named: Option<Vec<String>> =
                ask(sentinel, &[b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME", MASTER.as_bytes()]);
            // A Sentinel that is down has no say.
            named.is_none_or(|named| named.get(1) == Some(&port))
        };
        let is_known = || match &rig.deployment {
            Deployment::Sentinel(sentinels) => sentinels.members.iter().all(names),
            _ => true,
        };
        if until(PROMOTED_WITHIN, || server.role() == "master" && is_known()).await {
            return Ok(());
        }
        Err(io::Error::other(format!("server {} was not made a master", self.replica)))
    }

    /// Waits until the old master is a replica. A Sentinel waits for eight seconds before it gives this order.
    pub(crate) async fn is_demoted(self, rig: &Rig) -> io::Result<()> {
        if let Deployment::Sentinel(_) = rig.deployment {
            let port = rig.server(self.replica).port().to_string();
            rig.ask::<()>(self.master, &[b"REPLICAOF", b"127.0.0.1", port.as_bytes()]);
        }
        if until(PROMOTED_WITHIN, || rig.server(self.master).role() == "slave").await {
            return Ok(());
        }
        Err(io::Error::other(format!("server {} was not made a replica", self.master)))
    }
}

/// Runs one of these faults.
pub(crate) async fn inflict(fault: Fault, rig: &mut Rig, rng: &mut Rng) -> io::Result<String> {
    let pair = Pair::draw(rig, rng)?;
    if let Some(cluster) = rig.deployment.cluster() {
        rig.spares_all_but(cluster.partitions_of(&[pair.master]));
    }
    let (kind, note) = match fault {
        Fault::CommandedFailover => ("commanded_failover", commanded(rig, rng, pair).await?),
        Fault::StoppedFailover => ("stopped_failover", stopped(rig, rng, pair).await?),
        _ => ("failover", killed(rig, rng, pair).await?),
    };
    rig.has_changed(kind);
    Ok(note)
}

/// In half of the cases the replica misses the last changes.
async fn fall_behind(rig: &Rig, rng: &mut Rng, pair: Pair) -> u64 {
    if rng.bool() {
        return 0;
    }
    pair.hold_back(rig);
    sleep(ms(rng, 200..2000)).await;
    block_in_place(|| missed(rig.server(pair.master), rig.server(pair.replica)))
}

async fn killed(rig: &mut Rig, rng: &mut Rng, pair: Pair) -> io::Result<String> {
    let missed = fall_behind(rig, rng, pair).await;
    // Two Sentinels are enough for a failover.
    let away = rig.deployment.sentinels().filter(|_| rng.bool()).map(|all| &all.members[rng.usize(..3)]);
    away.inspect(|sentinel| sentinel.kill());
    rig.server(pair.master).kill();
    let promoted = pair.is_promoted(rig).await;
    pair.follow(rig);
    promoted?;
    sleep(ms(rng, 0..1000)).await;
    // The old master believes to be the master until it hears of the new one. Nodes of a cluster wait for that by
    // themselves.
    let alone = rig.deployment.cluster().is_none();
    rig.close_ways_to(pair.master, alone);
    block_in_place(|| rig.server(pair.master).restart(Data::Drop));
    pair.is_demoted(rig).await?;
    rig.close_ways_to(pair.master, false);
    if let Some(sentinel) = away {
        block_in_place(|| sentinel.restart(Data::Keep));
    }
    Ok(format!("the replica had missed {missed} bytes"))
}

async fn stopped(rig: &mut Rig, rng: &mut Rng, pair: Pair) -> io::Result<String> {
    let missed = fall_behind(rig, rng, pair).await;
    rig.server(pair.master).pause();
    let promoted = pair.is_promoted(rig).await;
    pair.follow(rig);
    rig.close_ways_to(pair.master, true);
    sleep(ms(rng, 0..500)).await;
    rig.server(pair.master).resume();
    promoted?;
    pair.is_demoted(rig).await?;
    rig.close_ways_to(pair.master, false);
    Ok(format!("the replica had missed {missed} bytes"))
}

async fn commanded(rig: &mut Rig, rng: &mut Rng, pair: Pair) -> io::Result<String> {
    let Some(sentinels) = rig.deployment.sentinels() else {
        // The master stops, and hands over when the replica has everything.
        rig.ask::<()>(pair.replica, &[b"CLUSTER", b"FAILOVER"]);
        pair.is_promoted(rig).await?;
        pair.is_demoted(rig).await?;
        sleep(ms(rng, 0..500)).await;
        return Ok("the replica had missed nothing".to_owned());
    };
    // The old master goes on for eight seconds. As `docs/operations.md` says, it must not execute changes then.
    let writes =
        |count: &[u8]| rig.ask::<()>(pair.master, &[b"CONFIG", b"SET", b"min-replicas-to-write", count]);
    writes(b"1");
    let member = &sentinels.members[rng.usize(..3)];
    // A Sentinel refuses until it has heard from the replica.
    let begins = || ask::<()>(member, &[b"SENTINEL", b"FAILOVER", MASTER.as_bytes()]).is_some();
    let server = rig.server(pair.replica);
    for _ in 0..COMMANDS {
        // It gives a failover up that takes long on a busy machine.
        until(PROMOTED_WITHIN, begins).await;
        if until(PROMOTED_WITHIN / 4, || server.role() == "master").await {
            break;
        }
    }
    rig.close_ways_to(pair.master, true);
    let promoted = pair.is_promoted(rig).await;
    writes(b"0");
    promoted?;
    pair.is_demoted(rig).await?;
    rig.close_ways_to(pair.master, false);
    Ok("the replica had missed nothing".to_owned())
}
