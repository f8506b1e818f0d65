//! Writers: each commits a version, then makes a change of the cache, by one of several methods.

use std::rc::Rc;
use std::sync::atomic::Ordering;

use async_cache::{Result, Stamp};
use fastrand::Rng;
use tokio::time::Instant;

use super::super::history::{Event, Landed, Violation};
use super::super::plan::{CLASSES, class_of, class_tag, group_tag};
use super::super::{Trouble, World};
use super::{pause, value};

pub(super) async fn writer(world: Rc<World>, mut rng: Rng) {
    let end = Instant::now() + world.plan.traffic;
    // Runs with inserts and runs with concurrent writers exclude each other.
    let inserts = world.plan.seed.is_multiple_of(2);
    while Instant::now() < end {
        pause(&mut rng, world.plan.rest).await;
        let node = rng.usize(..world.plan.nodes);
        let key = rng.usize(..world.plan.keys);
        let _one_at_a_time = if inserts { Some(world.locks[key].lock().await) } else { None };
        let version = world.rows[key].version.fetch_add(1, Ordering::SeqCst) + 1;
        world.history.borrow_mut().note(node, &Event::Committed { key, version });
        pause(&mut rng, 5).await;
        match rng.u8(..10) {
            5..=7 if world.plan.tags => change_group(&world, node, key).await,
            8 if world.plan.tags => change_classes(&world, node, &mut rng).await,
            0 => change_all(&world, node).await,
            1 => change_many(&world, node).await,
            2..=4 if inserts => insert(&world, node, key, version).await,
            _ => invalidate(&world, node, key, version).await,
        }
    }
}

async fn invalidate(world: &World, node: usize, key: usize, version: u64) {
    let versions = vec![(key, version)];
    begin(world, node, "invalidate", &versions);
    let outcome = world.nodes[node].invalidate(&(key as u64)).await;
    end(world, node, "invalidate", versions, outcome);
}

async fn insert(world: &World, node: usize, key: usize, version: u64) {
    let versions = vec![(key, version)];
    begin(world, node, "insert", &versions);
    let name = key as u64;
    let outcome = world.nodes[node].insert(&name, value(key, version));
    let outcome = match world.plan.tags {
        true => outcome.tag(group_tag(key)).tag(class_tag(class_of(version))).await,
        false => outcome.await,
    };
    end(world, node, "insert", versions, outcome);
}

/// Invalidates the tag that all versions of a group of keys have.
async fn change_group(world: &World, node: usize, key: usize) {
    let tag = group_tag(key);
    let keys = (0..world.plan.keys).filter(|other| group_tag(*other) == tag);
    let versions: Vec<_> = keys.map(|key| (key, world.version(key))).collect();
    note_extra(world, &versions);
    begin(world, node, "invalidate_tag", &versions);
    let outcome = world.nodes[node].invalidate_tag(tag).await;
    end(world, node, "invalidate_tag", versions, outcome);
}

/// Invalidates the tags of the classes, one after the other. In the end all versions of each key are void.
async fn change_classes(world: &World, node: usize, rng: &mut Rng) {
    let first = rng.usize(..CLASSES);
    for class in (first..CLASSES).chain(0..first) {
        let versions: Vec<_> = (0..world.plan.keys).map(|key| (key, world.version(key))).collect();
        note_extra(world, &versions);
        begin(world, node, "invalidate_class", &versions);
        let outcome = world.nodes[node].invalidate_tag(class_tag(class)).await;
        end_of(world, node, ("invalidate_class", Some(class)), versions, outcome);
    }
}

/// Notes an invalidation without a new version of each key. It may also cause a load.
fn note_extra(world: &World, versions: &[(usize, u64)]) {
    for (key, _) in versions {
        world.rows[*key].extra.fetch_add(world.plan.nodes as u64, Ordering::SeqCst);
    }
}

async fn change_many(world: &World, node: usize) {
    let versions: Vec<_> = (0..world.plan.keys).map(|key| (key, world.version(key))).collect();
    let keys: Vec<u64> = (0..world.plan.keys as u64).collect();
    begin(world, node, "invalidate_many", &versions);
    let outcome = world.nodes[node].invalidate_many(&keys).await;
    end(world, node, "invalidate_many", versions, outcome);
}

async fn change_all(world: &World, node: usize) {
    let versions: Vec<_> = (0..world.plan.keys).map(|key| (key, world.version(key))).collect();
    begin(world, node, "invalidate_all", &versions);
    let outcome = world.nodes[node].invalidate_all().await;
    end(world, node, "invalidate_all", versions, outcome);
}

fn begin(world: &World, node: usize, what: &'static str, versions: &[(usize, u64)]) {
    world.history.borrow_mut().note(node, &Event::Changing { what, versions: versions.to_vec() });
}

fn end(world: &World, node: usize, what: &'static str, versions: Vec<(usize, u64)>, outcome: Result<Stamp>) {
    end_of(world, node, (what, None), versions, outcome);
}

/// Notes the end of a change of these versions. If a class is given, only its versions are void.
fn end_of(
    world: &World,
    node: usize,
    (what, class): (&'static str, Option<usize>),
    versions: Vec<(usize, u64)>,
    outcome: Result<Stamp>,
) {
    let mut history = world.history.borrow_mut();
    match outcome {
        Ok(stamp) => {
            history.changed(node, &versions, class, Landed::Surely);
            // With a class, a read cannot require a version.
            for &(key, version) in versions.iter().filter(|_| class.is_none()) {
                let newest = &mut world.stamps.borrow_mut()[key];
                if newest.as_ref().is_none_or(|(_, newest)| *newest < version) {
                    *newest = Some((stamp.clone(), version));
                }
            }
            history.note(node, &Event::Changed { what, versions, stamp: stamp.to_string() });
        }
        Err(error) => {
            history.changed(node, &versions, class, Landed::Perhaps);
            history.note(node, &Event::Undecided { what });
            if world.plan.trouble == Trouble::None {
                history.violated(Violation::FailedInCalm(error.to_string()));
            }
        }
    }
}
