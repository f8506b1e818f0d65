//! The scripts about one key's lease: their calls, and what their answers mean.

use std::time::Duration;

use async_cache_core::backend::{Accept, Acquire, Acquired, Announce, Filled, Lease, Renewed, Token};
use async_cache_core::frame::ends_from_bytes;
use async_cache_core::key::Key;
use redis::{Cmd, Value};

use crate::commands::region::{RedisRegion, millis};
use crate::connection::slots::Line;

impl RedisRegion {
    pub(crate) fn acquire_call(&self, line: &Line<'_>, key: &Key, ask: &Acquire) -> Cmd {
        let mut call = self.key_call(line, &self.shared.scripts.acquire, key);
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

    pub(crate) fn fill_call(
        &self,
        line: &Line<'_>,
        key: &Key,
        lease: &Lease,
        frame: &[u8],
        life: Duration,
        announce: Announce,
    ) -> Cmd {
        let mut call = self.key_call(line, &self.shared.scripts.fill, key);
        call.arg(lease_text(lease)).arg(lease.seq).arg(millis(life));
        call.arg(u8::from(announce == Announce::Yes)).arg(frame);
        call
    }

    pub(crate) fn renew_call(&self, line: &Line<'_>, key: &Key, lease: &Lease, ttl: Duration) -> Cmd {
        let mut call = self.key_call(line, &self.shared.scripts.renew, key);
        call.arg(lease_text(lease)).arg(lease.seq).arg(millis(ttl));
        call
    }

    pub(crate) fn release_call(&self, line: &Line<'_>, key: &Key, token: Token) -> Cmd {
        let mut call = self.key_call(line, &self.shared.scripts.release, key);
        call.arg(token.to_string());
        call
    }
}

/// What the acquire script answered; `None` for what it never answers.
pub(crate) fn acquired(parts: Vec<Value>, token: Token) -> Option<Acquired> {
    let mut parts = parts.into_iter();
    match (parts.next(), parts.next()) {
        (Some(Value::Int(1)), Some(Value::BulkString(value))) => Some(Acquired::Value(value.into())),
        (Some(Value::Int(2)), Some(Value::Int(seq))) => match parts.next() {
            Some(Value::BulkString(ends)) => {
                let ends = ends.first_chunk().map_or((0, 0), |bytes| ends_from_bytes(*bytes));
                Some(Acquired::Unchanged { seq: seq as u64, ends })
            }
            _ => None,
        },
        (Some(Value::Int(3)), Some(Value::Int(seq))) => {
            Some(Acquired::Granted(Lease { token, seq: seq as u64 }))
        }
        (Some(Value::Int(4)), Some(Value::Int(left))) => {
            Some(Acquired::Busy(Duration::from_millis(left.max(1) as u64)))
        }
        (Some(Value::Int(5)), Some(Value::Int(seq))) => Some(Acquired::NoRoom { seq: seq as u64 }),
        _ => None,
    }
}

pub(crate) fn filled(seq: u64) -> Filled {
    match seq {
        0 => Filled::Refused,
        seq => Filled::Stored { seq },
    }
}

pub(crate) fn renewed(held: bool) -> Renewed {
    if held { Renewed::Held } else { Renewed::Lost }
}

fn lease_text(lease: &Lease) -> String {
    format!("{}:{}", lease.token, lease.seq)
}
