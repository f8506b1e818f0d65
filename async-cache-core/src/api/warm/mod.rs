//! Warming: filling a cache before its first lookups.

pub(crate) mod report;
pub(crate) mod steps;
