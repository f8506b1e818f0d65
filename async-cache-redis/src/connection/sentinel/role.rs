//! Whether a server is the master, by its own word.

use std::collections::HashMap;

use redis::aio::MultiplexedConnection;
use redis::{ProtocolVersion, RedisError, RedisResult, Value, cmd, from_redis_value};

use crate::connection::refusals::Refusal;

/// Fails with [`Refusal::Replica`] if the server says that it is none.
///
/// HELLO tells the role, too, and unlike ROLE and INFO it is in no dangerous category. INFO is for servers and proxies
/// that do not know it.
pub(in crate::connection) async fn check_role(
    connection: &mut MultiplexedConnection,
    protocol: ProtocolVersion,
) -> Result<(), Refusal> {
    let number = if matches!(protocol, ProtocolVersion::RESP3) { 3 } else { 2 };
    let hello: RedisResult<Value> = cmd("HELLO").arg(number).query_async(connection).await;
    let role = match hello {
        Ok(answer) => told(answer),
        Err(error) if broken(&error) => return Err(Refusal::Error(error)),
        Err(_) => None,
    };
    let role = match role {
        Some(role) => role,
        None => {
            let info: RedisResult<String> = cmd("INFO").arg("replication").query_async(connection).await;
            let info = info.map_err(|error| Refusal::of_command("info", error))?;
            let role = info.lines().find_map(|line| line.trim_end().strip_prefix("role:"));
            role.unwrap_or_default().to_owned()
        }
    };
    if role == "master" || role == "primary" { Ok(()) } else { Err(Refusal::Replica) }
}

fn told(answer: Value) -> Option<String> {
    let mut fields: HashMap<String, Value> = from_redis_value(answer).ok()?;
    from_redis_value(fields.remove("role")?).ok()
}

fn broken(error: &RedisError) -> bool {
    error.is_io_error() || error.is_unrecoverable_error()
}
