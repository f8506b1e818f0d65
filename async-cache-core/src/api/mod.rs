//! What users call: the handle, its builder, and the requests that its verbs return.

pub(crate) mod answers;
pub(crate) mod background;
pub(crate) mod batch_value;
pub(crate) mod builder;
pub(crate) mod cache;
pub(crate) mod data_loader;
pub(crate) mod figures;
pub(crate) mod group;
pub(crate) mod invalidator;
pub mod macro_support;
pub(crate) mod many;
pub(crate) mod request;
pub(crate) mod warm;
