//! The identities of nodes and of values.

use std::fmt;

/// The identity of one node. A node is one open cache in one process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u64);

impl NodeId {
    /// Returns a random identity.
    #[must_use]
    pub fn random() -> Self {
        Self(fastrand::u64(..))
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The identity of one acquisition of a lease, and of the value that is stored under it.
///
/// It is unique for each *acquisition*, not for each node. A node may forget a load and start another one. The
/// forgotten load must not be able to fill.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Token {
    /// The node of the acquisition.
    pub node: NodeId,
    /// The number of the acquisition on its node.
    pub counter: u64,
}

impl Token {
    /// The size of [`Token::to_bytes`].
    pub const LEN: usize = 16;

    /// Returns the form that a frame stores: the node, then the counter, both big-endian.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::LEN] {
        let mut out = [0; Self::LEN];
        out[..8].copy_from_slice(&self.node.0.to_be_bytes());
        out[8..].copy_from_slice(&self.counter.to_be_bytes());
        out
    }

    /// Reads the form written by [`Token::to_bytes`].
    #[must_use]
    pub fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        let wide = u128::from_be_bytes(bytes);
        Self { node: NodeId((wide >> 64) as u64), counter: wide as u64 }
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:x}", self.node, self.counter)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
