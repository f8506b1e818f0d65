//! Serves the demo as users do: the service over HTTP, and the dashboard in a real browser.
//!
//! The browser is Debian's `chromium`, driven by `chromedriver`. Without them the tests fail. With `SCREENSHOTS=DIR`
//! the pictures that are taken are kept there.

mod browser;
mod dashboard;
mod demo;
mod looks;
#[cfg(feature = "outbox")]
mod outbox;
mod service;
