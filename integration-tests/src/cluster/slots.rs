//! Slots of a cluster that move from one master to another.

use std::collections::HashMap;

use redis::RedisResult;

use super::{KEYS, RedisCluster, owner_in, until};
use crate::server::RedisServer;

impl RedisCluster {
    /// Moves slots to another master: those without keys all at once.
    ///
    /// # Panics
    ///
    /// If a node refuses.
    pub fn hand_over(&self, slots: &[u16], from: usize, to: usize) {
        let (empty, full) = self.by_content(slots, from);
        self.give(&empty, from, to);
        for slot in full {
            self.move_slot(slot, to);
        }
        let last = *slots.last().expect("slots");
        until("all nodes know the new owner", || self.owner_of(last) == Some(to));
    }

    /// The slots without keys, and those with keys.
    fn by_content(&self, slots: &[u16], owner: usize) -> (Vec<u16>, Vec<u16>) {
        let mut count = redis::pipe();
        for slot in slots {
            count.cmd("CLUSTER").arg("COUNTKEYSINSLOT").arg(slot);
        }
        let counts: Vec<usize> = self.run(owner, &count).expect("the numbers of keys");
        let keys: HashMap<u16, usize> = slots.iter().copied().zip(counts).collect();
        slots.iter().partition(|slot| keys[slot] == 0)
    }

    /// Waits until a node knows the epochs of all others. A node that takes a slot takes an epoch above those that it knows.
    /// Without this wait a slot of A that moves to B may be lost:
    ///
    /// 1. B takes an epoch that A has already. 2. A gives the slot to B. 3. Redis ends the tie: A takes a higher epoch.
    /// 4. C, which has not heard of the move, tells B that the slot is A's. Now A says that B has it, and B says that A has it.
    fn learn_epochs(&self, index: usize) {
        until("the node knows the epochs of the others", || {
            let known: String = self.nodes[index].cli(&["CLUSTER", "NODES"]);
            self.running().all(|node| epoch_in(&known, node.port()) == Some(own_epoch(node)))
        });
    }

    /// Whether a node knows itself as the owner of a slot. It can have heard already that another one has it: a
    /// master that hears so of its last slot is a replica of the new owner from then on, and refuses commands about
    /// slots.
    fn owns(&self, index: usize, slot: u16) -> bool {
        let known: String = self.nodes[index].cli(&["CLUSTER", "NODES"]);
        owner_in(&known, slot) == Some(self.nodes[index].port())
    }

    /// Gives slots without keys to another master. A slot that has got a key by now is moved with it.
    fn give(&self, slots: &[u16], from: usize, to: usize) {
        if slots.is_empty() {
            return;
        }
        self.learn_epochs(to);
        let (source, target) = (self.id(from), self.id(to));
        // From here on `from` creates no key in them.
        self.run::<()>(to, &set_slots(slots, "IMPORTING", &source)).expect("the new owner opens the slots");
        self.run::<()>(from, &set_slots(slots, "MIGRATING", &target)).expect("the owner opens the slots");
        for slot in self.by_content(slots, from).1 {
            while self.move_keys(slot, from, to) {}
        }
        let mut give = set_slots(slots, "NODE", &target);
        self.run::<()>(to, &give).expect("the new owner takes the slots");
        let given: Vec<RedisResult<()>> = self.run(from, give.ignore_errors()).expect("the owner answers");
        for (slot, given) in slots.iter().zip(given) {
            assert!(given.is_ok() || !self.owns(from, *slot), "the owner of slot {slot} keeps it: {given:?}");
        }
    }

    /// Lets all nodes that run forget who has these slots. Their owner does not run.
    ///
    /// # Panics
    ///
    /// If a node refuses.
    pub fn orphan(&self, slots: &[u16]) {
        for node in self.running() {
            let deleted: RedisResult<()> = redis::cmd("CLUSTER")
                .arg("DELSLOTS")
                .arg(slots)
                .query(&mut node.connection().expect("it runs"));
            deleted.expect("the slots are forgotten");
        }
    }

    /// Gives slots without an owner to a master.
    ///
    /// # Panics
    ///
    /// If it refuses.
    pub fn adopt(&self, slots: &[u16], index: usize) {
        let mut pipeline = redis::pipe();
        pipeline.cmd("CLUSTER").arg("ADDSLOTS").arg(slots);
        self.run::<()>(index, &pipeline).expect("it takes the slots");
        until("all nodes know the new owner", || self.owner_of(slots[0]) == Some(index));
    }

    /// Moves a slot with its keys, as `redis-cli --cluster reshard` does.
    ///
    /// # Panics
    ///
    /// If a node refuses.
    pub fn move_slot(&self, slot: u16, to: usize) {
        let from = self.owner_of(slot).expect("the slot has an owner");
        self.begin_move(slot, from, to);
        while self.move_keys(slot, from, to) {}
        self.end_move(slot, from, to);
    }

    /// Opens a slot for its move.
    ///
    /// # Panics
    ///
    /// If a node refuses.
    pub fn begin_move(&self, slot: u16, from: usize, to: usize) {
        self.learn_epochs(to);
        let (slot, source, target) = (slot.to_string(), self.id(from), self.id(to));
        self.nodes[to].cli::<()>(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &source]);
        self.nodes[from].cli::<()>(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &target]);
    }

    /// Moves some keys of an open slot. False if there were none.
    ///
    /// # Panics
    ///
    /// If a node refuses.
    pub fn move_keys(&self, slot: u16, from: usize, to: usize) -> bool {
        let keys: Vec<Vec<u8>> = self.nodes[from].cli(&["CLUSTER", "GETKEYSINSLOT", &slot.to_string(), KEYS]);
        if keys.is_empty() {
            return false;
        }
        let port = self.nodes[to].port().to_string();
        let mut words: Vec<&[u8]> = vec![b"MIGRATE", b"127.0.0.1", port.as_bytes(), b"", b"0", b"5000"];
        words.extend([&b"REPLACE"[..], b"KEYS"]);
        words.extend(keys.iter().map(|key| &key[..]));
        self.nodes[from].cli_raw::<()>(&words);
        true
    }

    /// Gives an open slot, whose keys have moved, to its new owner.
    ///
    /// # Panics
    ///
    /// If a node refuses.
    pub fn end_move(&self, slot: u16, from: usize, to: usize) {
        let (slot_text, target) = (slot.to_string(), self.id(to));
        let words = ["CLUSTER", "SETSLOT", &slot_text, "NODE", &target];
        self.nodes[to].cli::<()>(&words);
        let given = self.nodes[from].try_cli::<()>(&words);
        assert!(given.is_ok() || !self.owns(from, slot), "the owner of slot {slot} keeps it: {given:?}");
        until("all nodes know the new owner", || self.owner_of(slot) == Some(to));
    }
}

/// The epoch of a node, in the answer of another one to `CLUSTER NODES`.
fn epoch_in(nodes: &str, port: u16) -> Option<u64> {
    let address = format!(":{port}@");
    let line = nodes.lines().find(|line| line.contains(&address))?;
    line.split(' ').nth(6)?.parse().ok()
}

/// The epoch of a node, as it knows it.
fn own_epoch(node: &RedisServer) -> u64 {
    let info: String = node.cli(&["CLUSTER", "INFO"]);
    let epoch = info.lines().find_map(|line| line.strip_prefix("cluster_my_epoch:"));
    epoch.and_then(|epoch| epoch.trim().parse().ok()).expect("a node of a cluster has an epoch")
}

fn set_slots(slots: &[u16], state: &str, node: &str) -> redis::Pipeline {
    let mut pipeline = redis::pipe();
    for slot in slots {
        pipeline.cmd("CLUSTER").arg("SETSLOT").arg(slot).arg(state).arg(node);
    }
    pipeline
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_that_gets_a_key_while_it_is_given_away_is_moved_with_it() {
        let cluster = RedisCluster::start(2);
        let slot = cluster.slot_of("key");
        let from = cluster.owner_of(slot).unwrap();
        let to = 1 - from;
        cluster.node(from).cli::<()>(&["SET", "key", "value"]);

        cluster.give(&[slot], from, to);

        assert_eq!(cluster.owner_of(slot), Some(to));
        assert_eq!(cluster.node(to).cli::<String>(&["GET", "key"]), "value");
    }
}
