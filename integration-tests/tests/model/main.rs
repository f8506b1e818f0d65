//! The protocol between the nodes as models whose every state within bounds is visited.
//!
//! `cargo test --release -p integration-tests --test model -- --nocapture` prints how many there
//! are. Each transition is named after the function it stands for; the table is at the head of
//! each model. A debug build goes through smaller bounds.

mod check;
mod clears;
mod fills;
mod phase;
mod time;
