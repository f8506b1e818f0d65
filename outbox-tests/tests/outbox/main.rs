//! The promises of the outbox, on real databases.

mod crashes;
mod lead;
mod limits;
mod log;
mod log_gaps;
mod log_setup;
mod log_stuck;
mod outages;
mod promise;
mod rows;
mod table;
mod trigger;
mod wakes;
