//! The way back: from the subscriber's socket to a region's listener.

pub(crate) mod bus;
mod message;
pub(crate) mod subscriber;
