//! Of many relays one is at work, and another takes over.

use std::process::Stdio;

use async_cache::testing::until;
use async_cache_outbox::Role;
use integration_tests::fleet::Fleet;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use outbox_tests::scene::two_nodes;
use outbox_tests::{Scene, TestDatabase};

async fn of_two_relays_one_is_at_work_and_the_other_takes_over<DB: TestDatabase>() {
    let (scene, (_l2, [here, there])) = (Scene::<DB>::new().await, two_nodes().await);
    let first = scene.relay(&here).await;
    let second = scene.builder(&there).start().unwrap();
    until("the second stands by", || second.stats().role == Role::Standby).await;
    for id in 0..20 {
        scene.commit(&here, id).await;
    }
    scene.drained().await;
    until("the rows are counted", || first.stats().applied == 20).await;
    assert_eq!(second.stats().applied, 0);
    assert_eq!((first.stats().role, second.stats().role), (Role::AtWork, Role::Standby));

    let ended = first.shutdown().await;
    assert_eq!((ended.role, ended.takeovers), (Role::Ended, 1));
    assert_eq!(first.shutdown().await.role, Role::Ended, "a second call returns at once");
    until("the second is at work", || second.stats().role == Role::AtWork).await;
    for id in 0..20 {
        scene.commit(&here, id).await;
    }
    scene.drained().await;
    until("the rows are counted", || second.stats().applied == 20).await;
    assert_eq!(second.stats().takeovers, 1);
}

async fn a_relay_that_is_dropped_is_replaced<DB: TestDatabase>() {
    let (scene, (_l2, [here, there])) = (Scene::<DB>::new().await, two_nodes().await);
    let first = scene.relay(&here).await;
    let second = scene.builder(&there).start().unwrap();
    until("the second stands by", || second.stats().role == Role::Standby).await;
    drop(first);
    scene.commit(&here, 1).await;
    scene.drained().await;
    until("the rows are counted", || second.stats().applied == 1).await;
}

async fn a_relay_whose_session_the_database_ends_is_replaced<DB: TestDatabase>() {
    let (scene, (_l2, [here, there])) = (Scene::<DB>::new().await, two_nodes().await);
    let first = scene.relay(&here).await;
    let second = scene.builder(&there).start().unwrap();
    until("the second stands by", || second.stats().role == Role::Standby).await;
    let sessions = match std::any::type_name::<DB>().contains("MySql") {
        true => {
            "SELECT CAST(IS_USED_LOCK(CONCAT('async_cache_outbox:', SHA1(CONCAT(DATABASE(), '.async_cache_outbox')))) AS SIGNED)"
        }
        false => {
            "SELECT pid::bigint FROM pg_locks WHERE locktype = 'advisory' AND granted AND objid = 'async_cache_outbox'::regclass"
        }
    };
    let holder = scene.number(sessions).await;
    match std::any::type_name::<DB>().contains("MySql") {
        true => scene.run(&format!("KILL {holder}")).await,
        false => scene.run(&format!("SELECT pg_terminate_backend({holder})")).await,
    }
    until("one of them is at work again", || {
        second.stats().role == Role::AtWork || first.stats().takeovers == 2
    })
    .await;
    until("the first has noticed", || first.stats().database_failures == 1).await;
    scene.commit(&here, 1).await;
    scene.drained().await;
    until("the rows are counted", || first.stats().applied + second.stats().applied == 1).await;
}

async fn a_relay_whose_process_is_stopped_is_replaced<DB: TestDatabase>() {
    let (scene, fleet) = (Scene::<DB>::new().await, Fleet::redis());
    let cache = fleet.node().await;
    let kind = match std::any::type_name::<DB>() {
        name if name.contains("MySql") => "mysql",
        name if name.contains("Sqlite") => "sqlite",
        _ => "postgres",
    };
    let mut process = tokio::process::Command::new(env!("CARGO_BIN_EXE_outbox_node"));
    process.args(["relay", "--database", kind, "--url", &scene.url, "--redis", &fleet.server().url()]);
    let process = process.stdin(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    scene.commit(&cache, 0).await;
    scene.drained().await; // so the process is at work

    let relay = scene.builder(&cache).start().unwrap();
    until("this one stands by", || relay.stats().role == Role::Standby).await;
    let id = Pid::from_raw(process.id().unwrap().try_into().unwrap());
    kill(id, Signal::SIGSTOP).unwrap();
    // Its socket stays open, and its session silent. The database ends the session after two seconds.
    scene.commit(&cache, 1).await;
    scene.drained().await;
    until("the row is counted", || relay.stats().applied == 1).await;

    // It wakes up without the lead, and does no harm.
    kill(id, Signal::SIGCONT).unwrap();
    for id in 0..20 {
        scene.commit(&cache, id).await;
    }
    scene.drained().await;
    assert_eq!(relay.stats().role, Role::AtWork);
}

outbox_tests::on_every_database!(
    of_two_relays_one_is_at_work_and_the_other_takes_over,
    a_relay_whose_process_is_stopped_is_replaced,
);

mod servers {
    use super::{a_relay_that_is_dropped_is_replaced, a_relay_whose_session_the_database_ends_is_replaced};
    outbox_tests::on_every_server!(
        a_relay_that_is_dropped_is_replaced,
        a_relay_whose_session_the_database_ends_is_replaced
    );
}

#[tokio::test]
async fn a_relay_that_is_shut_down_leaves_no_lease_behind_on_sqlite() {
    let (scene, (_l2, [here, _])) = (Scene::<sqlx::Sqlite>::new().await, two_nodes().await);
    let relay = scene.relay(&here).await;
    let leases = "SELECT COUNT(*) FROM async_cache_outbox_lease";
    assert_eq!(scene.number(leases).await, 1);
    relay.shutdown().await;
    assert_eq!(scene.number(leases).await, 0);
}
