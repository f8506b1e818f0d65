//! What a cache does when the source fails, is slow, or need not be asked: one theme a file.

mod adaptive;
mod conditional;
mod errors;
mod events;
mod fail_safe;
mod invalidated;
mod jitter;
mod refresh_ahead;
mod revalidate;
mod rig;
mod timeouts;
