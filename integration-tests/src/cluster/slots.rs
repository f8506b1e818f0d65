//! Slots of a cluster that move from one master to another.

use redis::RedisResult;

use super::{KEYS, RedisCluster, until};

impl RedisCluster {
    /// Moves slots to another master: those without keys all at once.
    ///
    /// # Panics
    ///
    /// If a node refuses.
    pub fn hand_over(&self, slots: &[u16], from: usize, to: usize) {
        let target = self.id(to);
        let mut count = redis::pipe();
        for slot in slots {
            count.cmd("CLUSTER").arg("COUNTKEYSINSLOT").arg(slot);
        }
        let counts: Vec<usize> = self.run(from, &count).expect("the numbers of keys");
        let mut hand = redis::pipe();
        for (slot, keys) in slots.iter().zip(counts) {
            if keys > 0 {
                self.move_slot(*slot, to);
            } else {
                hand.cmd("CLUSTER").arg("SETSLOT").arg(slot).arg("NODE").arg(&target).ignore();
            }
        }
        let hand_over = if hand.is_empty() { &[][..] } else { &[to, from] };
        for node in hand_over.iter().copied() {
            self.run::<()>(node, &hand).expect("the slots are handed over");
        }
        let last = *slots.last().expect("slots");
        until("all nodes know the new owner", || self.owner_of(last) == Some(to));
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
        for index in [to, from] {
            self.nodes[index].cli::<()>(&["CLUSTER", "SETSLOT", &slot_text, "NODE", &target]);
        }
        until("all nodes know the new owner", || self.owner_of(slot) == Some(to));
    }
}
