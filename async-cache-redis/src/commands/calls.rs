//! The calls of the scripts about one key's lease.

use std::time::Duration;

use async_cache_core::backend::{Accept, Acquire, Announce, Fill, Lease, Token};
use async_cache_core::key::Key;
use redis::Cmd;

use super::region::RedisRegion;
use crate::connection::slots::Checkout;
use crate::limits::millis;

impl RedisRegion {
    pub(super) fn acquire_call(&self, checkout: &Checkout<'_>, key: &Key, ask: &Acquire) -> Cmd {
        let mut call = self.key_call(checkout, &self.inner.scripts.acquire, key);
        call.arg(ask.token.to_string()).arg(&self.node).arg(millis(ask.ttl));
        let (mode, token) = match ask.accept {
            Accept::Any => ("A", None),
            Accept::Known(token) => ("K", Some(token)),
            Accept::Other(token) => ("O", Some(token)),
            Accept::Nothing => ("N", None),
        };
        call.arg(mode).arg(token.map_or_else(Vec::new, |token| token.to_bytes().to_vec()));
        call
    }

    pub(super) fn fill_call(&self, checkout: &Checkout<'_>, fill: &Fill) -> Cmd {
        let mut call = self.key_call(checkout, &self.inner.scripts.fill, &fill.key);
        call.arg(lease_text(&fill.lease)).arg(fill.lease.seq).arg(millis(fill.life));
        call.arg(u8::from(fill.announce == Announce::Yes)).arg(&fill.frame[..]);
        call
    }

    pub(super) fn renew_call(&self, checkout: &Checkout<'_>, key: &Key, lease: &Lease, ttl: Duration) -> Cmd {
        let mut call = self.key_call(checkout, &self.inner.scripts.renew, key);
        call.arg(lease_text(lease)).arg(lease.seq).arg(millis(ttl));
        call
    }

    pub(super) fn release_call(&self, checkout: &Checkout<'_>, key: &Key, token: Token) -> Cmd {
        let mut call = self.key_call(checkout, &self.inner.scripts.release, key);
        call.arg(token.to_string());
        call
    }
}

fn lease_text(lease: &Lease) -> String {
    format!("{}:{}", lease.token, lease.seq)
}
