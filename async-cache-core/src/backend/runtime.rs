//! Whether there is a Tokio runtime to work on.

use std::panic::catch_unwind;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::sleep;

use crate::error::{Error, ErrorKind, Result};

/// Checks that the caller is inside a Tokio runtime that has timers. `doing` begins the message.
///
/// Without timers Tokio panics, and the panic hook prints that. There is no other way to find out.
///
/// # Errors
///
/// [`ErrorKind::Config`], with the remedy.
#[doc(hidden)]
pub fn check_runtime(doing: &str) -> Result<()> {
    let wrong = |what: &str| Err(Error::new(ErrorKind::Config, format!("{doing}: {what}")));
    if Handle::try_current().is_err() {
        return wrong(
            "this was called outside a Tokio runtime: call it from a task of one, or within `Runtime::block_on`",
        );
    }
    if catch_unwind(|| drop(sleep(Duration::ZERO))).is_err() {
        return wrong("the Tokio runtime has no timers: build it with `enable_all`");
    }
    Ok(())
}
