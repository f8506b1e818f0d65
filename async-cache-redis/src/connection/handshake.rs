//! The handshake of a fresh connection: can the server be used, and may this user use it?

use redis::aio::MultiplexedConnection;
use redis::{Pipeline, RedisResult, Value, from_redis_value};

use super::channels::Channels;
use super::failure::is_forbidden;
use super::greeting::Greeting;
use super::host::Opened;
use super::link::{Identity, Link};
use super::refusals::Refusal;
use super::rights::{Lack, PROBE, no_command_for, no_namespace};
use super::server::{Accepted, IdentifyBy, Info};
use crate::lua::Scripts;
use crate::reply::{redirected, server_error_text};

/// Takes a fresh connection through the handshake.
pub(crate) async fn handshake(
    mut opened: Opened,
    scripts: &'static Scripts,
    accepted: Accepted,
) -> Result<Link, Refusal> {
    let connection = &mut opened.connection;
    let (identity, scripts) = match accepted.identify {
        IdentifyBy::Info => {
            let (run, channels) = examine(connection, accepted).await?;
            (Identity::RunId(run), scripts_for(channels, scripts))
        }
        IdentifyBy::Scripts => {
            greet(connection, accepted).await?;
            (Identity::Token, scripts)
        }
    };
    prepare(connection, scripts, accepted).await?;
    Ok(Link::new(opened, identity, scripts))
}

/// The scripts for a server whose messages travel so. Those of a server without others are given.
pub(crate) fn scripts_for(channels: Channels, alone: &'static Scripts) -> &'static Scripts {
    match channels {
        Channels::Plain => alone,
        #[cfg(feature = "cluster")]
        Channels::BySlot => crate::lua::sharded_scripts(),
        #[cfg(feature = "cluster")]
        Channels::Everywhere => crate::lua::scripts(),
        #[cfg(not(feature = "cluster"))]
        Channels::BySlot | Channels::Everywhere => alone,
    }
}

/// Checks a server whose run id is not needed. HELLO tells less than INFO, but is not in the category `@dangerous`. A
/// proxy may know neither command. Then nothing is known of the server, and the settings are trusted.
async fn greet(connection: &mut MultiplexedConnection, accepted: Accepted) -> Result<(), Refusal> {
    let mut pipeline = Pipeline::new();
    // A loading server answers the others, but not PING.
    pipeline.cmd("PING");
    pipeline.cmd("HELLO");
    for section in SECTIONS {
        pipeline.cmd("INFO").arg(section);
    }
    let mut answers = each(connection, pipeline).await?.into_iter();
    if let Some(Err(error)) = answers.next() {
        return Err(Refusal::of_command("ping", error));
    }
    match answers.next() {
        Some(Ok(answer)) => Greeting::of(answer).check(accepted.unknown)?,
        Some(Err(error)) if is_forbidden(&error) => return Err(Refusal::of_command("hello", error)),
        _ => {}
    }
    let told: Option<Vec<String>> = answers.map(|answer| from_redis_value(answer.ok()?).ok()).collect();
    match told.as_deref() {
        Some([server, replication, cluster]) => Info { server, replication, cluster }.check_kind(accepted),
        _ => Ok(()),
    }
}

/// The sections of INFO that are asked for.
const SECTIONS: [&str; 3] = ["server", "replication", "cluster"];

/// The run id of a server that can be used, and how its messages travel.
async fn examine(
    connection: &mut MultiplexedConnection,
    accepted: Accepted,
) -> Result<(String, Channels), Refusal> {
    let mut pipeline = Pipeline::new();
    // A loading server answers INFO, but not PING.
    pipeline.cmd("PING");
    for section in SECTIONS {
        pipeline.cmd("INFO").arg(section);
    }
    let mut answers = Vec::with_capacity(4);
    for (right, answer) in ["ping", "info", "info", "info"].iter().zip(each(connection, pipeline).await?) {
        let text: RedisResult<String> = answer.and_then(|value| Ok(from_redis_value(value)?));
        answers.push(text.map_err(|error| match Refusal::of_command(right, error) {
            Refusal::Server(why) if *right == "info" && accepted.deployment.allows_scripts() => {
                Refusal::Server(format!("{why}; or do without it (`IdentifyBy::Scripts`)"))
            }
            refusal => refusal,
        })?);
    }
    let info = Info { server: &answers[1], replication: &answers[2], cluster: &answers[3] };
    Ok((info.check(accepted)?, Channels::of(accepted.deployment, info.server)))
}

/// Loads the scripts, and finds out whether this user may run them and the other commands. One round trip: a
/// server that has just come back is slow, and lookups wait for it.
///
/// The scripts of a token are loaded by the connection that has created the token.
async fn prepare(
    connection: &mut MultiplexedConnection,
    scripts: &Scripts,
    accepted: Accepted,
) -> Result<(), Refusal> {
    let mut pipeline = Pipeline::new();
    let mut rights: Vec<&str> = Vec::new();
    let first = match accepted.identify {
        #[cfg(feature = "cluster")]
        IdentifyBy::Info if accepted.deployment.is_cluster() => {
            scripts.all().into_iter().chain([&scripts.heartbeats]).collect()
        }
        IdentifyBy::Info => scripts.all().to_vec(),
        IdentifyBy::Scripts => {
            pipeline.cmd("SCRIPT").arg("EXISTS").arg(scripts.rights.hash());
            rights.push("script|exists");
            Vec::new()
        }
    };
    for script in first.into_iter().chain([&scripts.rights]) {
        pipeline.add_command(script.load());
        rights.push("script|load");
    }
    pipeline.cmd("GET").arg(PROBE);
    pipeline.cmd("EVALSHA").arg(scripts.rights.hash()).arg(0).arg(PROBE);
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
            // In a cluster another node has the probe's slot. Rights are checked before that.
            (_, Err(error)) if redirected(&error) => {}
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
