//! The layer in front of an axum router.

mod conditions;
mod failures;
mod fleet;
mod flights;
mod hosts;
mod methods;
mod site;
mod stale;
mod stored;
mod streams;
mod variants;
