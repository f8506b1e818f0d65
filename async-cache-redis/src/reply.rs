//! The meaning of the answers of Redis.

use std::time::Duration;

use async_cache_core::backend::{Acquired, Filled, Lease, Renewed, Token};
use async_cache_core::frame::Ends;
use bytes::Bytes;
use redis::{RedisError, RedisResult, ServerError, Value};

/// A stored value. A key that holds another type has no value.
pub(crate) fn stored(answer: RedisResult<Value>) -> RedisResult<Option<Bytes>> {
    match answer {
        Ok(value) => Ok(bytes(value)),
        Err(error) if server_error_code(&error) == "WRONGTYPE" => Ok(None),
        Err(error) => Err(error),
    }
}

/// A stored value, from a command that answers nothing for a key of another type.
pub(crate) fn bytes(value: Value) -> Option<Bytes> {
    match value {
        Value::BulkString(bytes) => Some(bytes.into()),
        _ => None,
    }
}

/// The answer of the acquire script; `None` for an answer that it never gives.
pub(crate) fn acquired(parts: Vec<Value>, token: Token) -> Option<Acquired> {
    let mut parts = parts.into_iter();
    match (parts.next(), parts.next()) {
        (Some(Value::Int(1)), Some(Value::BulkString(value))) => Some(Acquired::Value(value.into())),
        (Some(Value::Int(2)), Some(Value::Int(seq))) => match parts.next() {
            Some(Value::BulkString(ends)) => {
                let ends = ends.first_chunk().map_or_else(Ends::default, |bytes| Ends::from_bytes(*bytes));
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

/// The answer of the fill script.
pub(crate) fn filled(seq: u64) -> Filled {
    match seq {
        0 => Filled::Refused,
        seq => Filled::Stored { seq },
    }
}

/// The answer of the renew script.
pub(crate) fn renewed(held: bool) -> Renewed {
    if held { Renewed::Held } else { Renewed::Lost }
}

/// The code of a server's error; empty if the error is not the server's.
pub(crate) fn server_error_code(error: &RedisError) -> String {
    server_error(error).map_or_else(String::new, |error| error.code().to_owned())
}

/// The detail of a server's error; empty if the error is not the server's.
pub(crate) fn server_error_detail(error: &RedisError) -> String {
    server_error(error).and_then(|error| error.details().map(ToOwned::to_owned)).unwrap_or_default()
}

/// Code and detail of a server's error.
pub(crate) fn server_error_text(error: &RedisError) -> String {
    format!("{} {}", server_error_code(error), server_error_detail(error))
}

/// The answers of a node of a cluster that does not have the keys of a command, or not all of them: it has executed
/// nothing.
pub(crate) const REDIRECTIONS: [&str; 4] = ["MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN"];

/// Whether a node of a cluster has refused a command because of its keys.
pub(crate) fn redirected(error: &RedisError) -> bool {
    REDIRECTIONS.contains(&server_error_code(error).as_str())
}

/// The server's error; of a pipeline, the first one.
fn server_error(error: &RedisError) -> Option<ServerError> {
    let errors = error.clone().into_server_errors().unwrap_or_default();
    errors.first().map(|(_, error)| error.clone())
}

/// The error of a missed deadline.
pub(crate) fn out_of_time() -> RedisError {
    std::io::Error::from(std::io::ErrorKind::TimedOut).into()
}
