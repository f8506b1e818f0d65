//! The handshake of a fresh connection: can the server be used, and may this user use it?

use redis::aio::MultiplexedConnection;
use redis::{Pipeline, RedisResult, Value, from_redis_value};

use super::link::Link;
use super::opener::Opened;
use super::refusals::Refusal;
use super::rights::{Lack, PROBE, no_command_for, no_namespace};
use crate::lua::Scripts;
use crate::reply::server_error_text;

/// Takes a fresh connection through the handshake.
pub(crate) async fn handshake(mut opened: Opened, scripts: &Scripts) -> Result<Link, Refusal> {
    let run = examine(&mut opened.connection).await?;
    prepare(&mut opened.connection, scripts).await?;
    Ok(Link::new(opened, run))
}

/// The run id of a server that can be used.
async fn examine(connection: &mut MultiplexedConnection) -> Result<String, Refusal> {
    let mut pipeline = Pipeline::new();
    // A loading server answers INFO, but not PING.
    pipeline.cmd("PING");
    for section in ["server", "replication", "cluster"] {
        pipeline.cmd("INFO").arg(section);
    }
    let mut answers = Vec::with_capacity(4);
    for (right, answer) in ["ping", "info", "info", "info"].iter().zip(each(connection, pipeline).await?) {
        let text: RedisResult<String> = answer.and_then(|value| Ok(from_redis_value(value)?));
        answers.push(text.map_err(|error| Refusal::of_command(right, error))?);
    }
    check_server(&answers[1], &answers[2], &answers[3])
}

/// Loads the scripts, and finds out whether this user may run them and the other commands. One round trip: a
/// server that has just come back is slow, and lookups wait for it.
async fn prepare(connection: &mut MultiplexedConnection, scripts: &Scripts) -> Result<(), Refusal> {
    let mut pipeline = Pipeline::new();
    let mut rights: Vec<&str> = Vec::new();
    for script in scripts.all().into_iter().chain([&scripts.rights]) {
        pipeline.load_script(script);
        rights.push("script|load");
    }
    pipeline.cmd("GET").arg(PROBE);
    pipeline.cmd("EVALSHA").arg(scripts.rights.get_hash()).arg(0).arg(PROBE);
    rights.extend(["get", "evalsha"]);
    let mut lacks = Vec::new();
    for (right, answer) in rights.into_iter().zip(each(connection, pipeline).await?) {
        match (right, answer) {
            ("evalsha", Ok(failed)) => {
                let failed: Vec<String> = from_redis_value(failed).map_err(|e| Refusal::Error(e.into()))?;
                for pair in failed.chunks_exact(2) {
                    let right = pair[0].to_ascii_lowercase();
                    if let Some(why) = no_command_for(&right, &pair[1]) {
                        return Err(Refusal::Server(why));
                    }
                    lacks.extend(Lack::of(&pair[1]));
                }
            }
            (_, Ok(_)) => {}
            // The user may lack the probe's names, and have those of its namespaces.
            (right, Err(error)) => match Lack::of(&server_error_text(&error)) {
                Some(lack @ (Lack::Key | Lack::Channel)) => lacks.push(lack),
                _ => return Err(Refusal::of_command(right, error)),
            },
        }
    }
    for lack in [Lack::Key, Lack::Channel] {
        if lacks.contains(&lack)
            && let Some(why) = no_namespace(connection, lack).await
        {
            return Err(Refusal::Server(why));
        }
    }
    Ok(())
}

/// Runs a pipeline, with an answer for each of its commands.
async fn each(
    connection: &mut MultiplexedConnection,
    mut pipeline: Pipeline,
) -> Result<Vec<RedisResult<Value>>, Refusal> {
    pipeline.ignore_errors();
    pipeline.query_async(connection).await.map_err(Refusal::Error)
}

/// The run id of a server that can be used, by its answers to INFO. Valkey has names of its own for some fields.
fn check_server(server: &str, replication: &str, cluster: &str) -> Result<String, Refusal> {
    let no = |why: &str| Err(Refusal::Server(why.to_owned()));
    let field = |info: &str, name: &str| {
        info.lines().find_map(|line| Some(line.trim_end().strip_prefix(name)?.strip_prefix(':')?.to_owned()))
    };
    let mode = field(server, "redis_mode").or_else(|| field(server, "server_mode")).unwrap_or_default();
    if mode == "sentinel" {
        return no("this is a Sentinel, which holds no data: connect to the master that it watches");
    }
    let name = field(server, "server_name").unwrap_or_default();
    if name.eq_ignore_ascii_case("garnet") || field(server, "garnet_version").is_some() {
        return no(
            "Garnet runs scripts in another way than Redis does, and old values could be served: use \
                   Redis 6.0 or later, or Valkey",
        );
    }
    let version = field(server, "redis_version").unwrap_or_default();
    let major: u32 = version.split('.').next().and_then(|major| major.parse().ok()).unwrap_or(0);
    if major < 6 {
        return Err(Refusal::Server(format!("Redis {version} is too old: use 6.0 or later")));
    }
    if mode == "cluster" || field(cluster, "cluster_enabled").as_deref() == Some("1") {
        return no("Redis Cluster is not supported yet: use a standalone server");
    }
    if matches!(field(replication, "role").as_deref(), Some("slave" | "replica")) {
        return Err(Refusal::Replica);
    }
    match field(server, "run_id").filter(|run| !run.is_empty()) {
        Some(run) => Ok(run),
        None => no("the server does not tell its run id in INFO: a proxy in between?"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER: &str = "# Server\r\nredis_version:7.0.15\r\nredis_mode:standalone\r\nrun_id:abc\r\n";
    const VALKEY: &str =
        "redis_version:7.2.4\r\nserver_name:valkey\r\nserver_mode:standalone\r\nrun_id:abc\r\n";

    #[test]
    fn unusable_servers_are_named() {
        let alone = "# Cluster\r\ncluster_enabled:0\r\n";
        let why = |server: &str, cluster: &str| match check_server(server, "role:master\r\n", cluster) {
            Ok(run) => run,
            Err(Refusal::Server(why)) => why,
            Err(_) => String::new(),
        };
        assert_eq!(why(SERVER, alone), "abc");
        assert_eq!(why(VALKEY, alone), "abc");
        assert!(matches!(check_server(SERVER, "role:slave\r\n", alone), Err(Refusal::Replica)));
        assert!(matches!(check_server(SERVER, "role:replica\r\n", alone), Err(Refusal::Replica)));
        assert!(why(&SERVER.replace("7.0.15", "5.0.1"), alone).contains("too old"));
        assert!(why(&SERVER.replace("standalone", "cluster"), "").contains("Cluster"));
        assert!(why(&VALKEY.replace("standalone", "cluster"), "").contains("Cluster"));
        assert!(why(VALKEY, "cluster_enabled:1\r\n").contains("Cluster"));
        assert!(why(&SERVER.replace("standalone", "sentinel"), "").contains("Sentinel"));
        assert!(why(&VALKEY.replace("valkey", "garnet"), "").contains("Garnet"));
        assert!(why(&SERVER.replace("run_id:abc", ""), alone).contains("run id"));
    }
}
