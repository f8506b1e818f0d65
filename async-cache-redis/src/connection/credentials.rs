//! Credentials that are asked for at every connection.

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_cache_core::BoxError;
use futures_util::FutureExt;
use tokio::time::timeout;

use super::cause::{Cause, Secrets};
use super::refusals::Refusal;

/// A user name and a password or token, for one connection. [`Debug`](fmt::Debug) hides the password.
///
/// See [`RedisBackendBuilder::credentials`](crate::RedisBackendBuilder::credentials).
#[derive(Clone)]
pub struct Credentials {
    user: String,
    password: String,
}

impl Credentials {
    /// The credentials of a user. An empty name means the default user.
    pub fn new(user: impl Into<String>, password: impl Into<String>) -> Self {
        Self { user: user.into(), password: password.into() }
    }

    /// The user's name; `None` for the default user.
    pub(super) fn user(&self) -> Option<&str> {
        Some(self.user.as_str()).filter(|user| !user.is_empty())
    }

    pub(super) fn password(&self) -> &str {
        &self.password
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("user", &self.user).finish_non_exhaustive()
    }
}

type Asked = Pin<Box<dyn Future<Output = Result<Credentials, BoxError>> + Send>>;

/// The caller's function that gives credentials.
#[derive(Clone)]
pub(crate) struct Provider {
    ask: Arc<dyn Fn() -> Asked + Send + Sync>,
}

impl Provider {
    pub(crate) fn new<F, Fut>(ask: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Credentials, BoxError>> + Send + 'static,
    {
        Self { ask: Arc::new(move || Box::pin(ask())) }
    }

    /// Asks for the credentials of one connection. The password is hidden in messages from then on.
    pub(super) async fn credentials(
        &self,
        limit: Duration,
        secrets: &Secrets,
    ) -> Result<Credentials, Refusal> {
        // A panic must not end the task that restores connections.
        let asked = AssertUnwindSafe(async { (self.ask)().await }).catch_unwind();
        let why = match timeout(limit, asked).await {
            Ok(Ok(Ok(credentials))) => {
                secrets.add(credentials.password());
                return Ok(credentials);
            }
            Ok(Ok(Err(error))) => format!("it failed: {}", secrets.cause(error)),
            Ok(Err(_)) => "it panicked".to_owned(),
            Err(_) => format!("it gave nothing within {limit:?}"),
        };
        Err(Refusal::Credentials(Cause::ours(format!("asking the credentials provider: {why}"))))
    }
}
