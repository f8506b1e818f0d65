//! Identities of nodes, and of values.

use std::fmt;

/// Identity of one node: one open cache handle in one process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u64);

impl NodeId {
    /// Draws a random identity.
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

/// Identity of one acquisition, and of the value stored under it.
///
/// Unique per *acquisition*, not per node: a node that forgot a load and started another must
/// not be able to fill with the first.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Token {
    /// The node that asked.
    pub node: NodeId,
    /// The node's own count of acquisitions.
    pub counter: u64,
}

impl Token {
    /// Size of [`Token::to_bytes`].
    pub const LEN: usize = 16;

    /// Big-endian node, then counter: the form stored in a frame.
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
