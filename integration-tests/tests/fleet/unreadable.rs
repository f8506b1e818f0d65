//! Leases that are lost.
