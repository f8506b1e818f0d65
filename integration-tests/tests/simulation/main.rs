//! Thousands of fleets in virtual time, each from its seed.
//!
//! `SEED=n` runs one of them and prints its history; `SEEDS=n` runs that many.

mod base;
mod mutants;
mod removed;
mod servers;
mod slow_batches;
mod verifier;
mod whole;
