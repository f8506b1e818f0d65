//! L2: reads from it, and the form in which it stores values.

pub(crate) mod l2;
pub(crate) mod read;
