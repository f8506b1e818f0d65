//! Names of keys and channels.
//!
//! Every key of a partition carries the hash tag `{ns:p}`, so that a script touches one slot of
//! a Redis Cluster.
//!
//! | name | content |
//! |---|---|
//! | `{users:0}M` | hash: `s` sequence, `f` floor, `r` run id or token, `v` record; the others: see `tags.lua` |
//! | `{users:0}V:<key>` | a stored value: seal and frame |
//! | `{users:0}L:<key>` | the lease: `<token>:<sequence at the grant>`, or `~` for 10 ms after it was broken |
//! | `{users:0}W:<key>` | set of the nodes that wait for the load |
//! | `{users:0}T`, `{users:0}U` | hashes: tag → its last invalidation and expiry; younger and older half |
//! | `{users:0}bus` | channel: changes, for every node |
//! | `{users:0}node:<node>` | channel: echoes and wake-ups, for one node |
//!
//! In another database than 0 its number follows the hash tag, `{users:0}3:M`: a server's databases share
//! their channels, and a node must not hear the changes of another database.

use async_cache_core::backend::NodeId;
use async_cache_core::key::Key;
use bytes::{BufMut, Bytes};
use redis::{RedisWrite, ToRedisArgs};

/// The number of slots of a Redis Cluster.
#[cfg(feature = "cluster")]
pub(crate) const SLOTS: u16 = 16_384;

/// The names of one partition of a namespace.
#[derive(Debug)]
pub(crate) struct PartitionKeys {
    /// The slot of a Redis Cluster that has all names of the partition.
    #[cfg(feature = "cluster")]
    pub(crate) slot: u16,
    prefix: String,
    meta: String,
    tags: [String; 2],
}

impl PartitionKeys {
    pub(crate) fn new(namespace: &str, partition: u16, database: i64) -> Self {
        let tag = format!("{{{namespace}:{partition}}}");
        let prefix = if database == 0 { tag } else { format!("{tag}{database}:") };
        let meta = format!("{prefix}M");
        let tags = [format!("{prefix}T"), format!("{prefix}U")];
        Self {
            #[cfg(feature = "cluster")]
            slot: crc16::State::<crc16::XMODEM>::calculate(format!("{namespace}:{partition}").as_bytes())
                % SLOTS,
            prefix,
            meta,
            tags,
        }
    }

    /// `M`.
    pub(crate) fn meta(&self) -> &[u8] {
        self.meta.as_bytes()
    }

    /// `V:<key>`.
    pub(crate) fn value(&self, key: &Key) -> Vec<u8> {
        self.of(b"V:", key)
    }

    /// `M`, `V`, `L`, `W`, `T` and `U`: the keys of every script about one key.
    pub(crate) fn of_key(&self, key: &Key) -> [Vec<u8>; 6] {
        let [meta, young, old] = self.with_tags().map(<[u8]>::to_vec);
        [meta, self.value(key), self.of(b"L:", key), self.of(b"W:", key), young, old]
    }

    /// `M`, `T` and `U`: the keys of a script about tags.
    pub(crate) fn with_tags(&self) -> [&[u8]; 3] {
        [self.meta(), self.tags[0].as_bytes(), self.tags[1].as_bytes()]
    }

    /// The channels that a node listens to.
    pub(crate) fn channels(&self, node: NodeId) -> Channels {
        let bus = format!("{}bus", self.prefix).into();
        let node = format!("{}node:{node}", self.prefix).into();
        Channels { bus, node }
    }

    fn of(&self, letter: &[u8], key: &Key) -> Vec<u8> {
        [self.prefix.as_bytes(), letter, key.as_bytes()].concat()
    }
}

/// The two channels of a partition, for one node.
pub(crate) struct Channels {
    /// Changes, for every node.
    pub(crate) bus: Bytes,
    /// Echoes and wake-ups, for this node.
    pub(crate) node: Bytes,
}

/// `V:<key>` as an argument, written into the command without a copy.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ValueName<'a> {
    pub(crate) partition: &'a PartitionKeys,
    pub(crate) key: &'a Key,
}

impl ValueName<'_> {
    pub(crate) fn len(&self) -> usize {
        self.partition.prefix.len() + 2 + self.key.as_bytes().len()
    }
}

impl ToRedisArgs for ValueName<'_> {
    fn write_redis_args<W: RedisWrite + ?Sized>(&self, out: &mut W) {
        let parts = [self.partition.prefix.as_bytes(), b"V:", self.key.as_bytes()];
        let mut name = out.bufmut_for_next_arg(self.len());
        parts.iter().for_each(|part| name.put_slice(part));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_as_documented() {
        let names = PartitionKeys::new("users", 3, 0);
        let key = Key::from_encoded(b"42");
        assert_eq!(names.meta(), b"{users:3}M");
        assert_eq!(
            names.of_key(&key).map(|name| String::from_utf8(name).unwrap()),
            ["{users:3}M", "{users:3}V:42", "{users:3}L:42", "{users:3}W:42", "{users:3}T", "{users:3}U"]
        );
        let channels = names.channels(NodeId(0xAB));
        assert_eq!(channels.bus, "{users:3}bus");
        assert_eq!(channels.node, "{users:3}node:00000000000000ab");
        let other = PartitionKeys::new("users", 3, 7);
        assert_eq!(other.meta(), b"{users:3}7:M");
        assert_eq!(other.channels(NodeId(1)).bus, "{users:3}7:bus");
    }
}
