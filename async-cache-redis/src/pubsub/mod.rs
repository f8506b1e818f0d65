//! Messages: from the subscriber's socket to a region's listener.

pub(crate) mod bus;
pub(crate) mod member;
pub(crate) mod message;
pub(crate) mod session;
mod socket;
pub(crate) mod subscriber;
mod vitals;
