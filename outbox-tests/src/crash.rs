//! Processes that crash.
