//! The protocol between the nodes, as models. Every state within bounds is visited.
//!
//! `cargo test --release -p integration-tests --test model -- --nocapture` prints the number of states. Each
//! transition has the name of the function for which it stands. The table is at the head of each model. A debug
//! build uses smaller bounds.

mod check;
mod clears;
mod fills;
mod moves;
mod phase;
mod time;
mod tokens;
