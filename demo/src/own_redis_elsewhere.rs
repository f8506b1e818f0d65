//! Where a process cannot be stopped by a signal, the demo starts no Redis of its own.

/// There is none.
#[derive(Debug)]
pub(crate) enum OwnRedis {}

impl OwnRedis {
    pub(crate) async fn start() -> Result<Self, String> {
        Err("this needs Unix: give the URL of a running server".into())
    }

    pub(crate) fn url(&self) -> String {
        match *self {}
    }

    pub(crate) fn set_stopped(&self, _: bool) -> Result<(), String> {
        match *self {}
    }
}
