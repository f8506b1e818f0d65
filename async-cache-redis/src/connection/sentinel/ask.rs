//! The question to one Sentinel, and the meaning of its answer.

use std::collections::HashMap;
use std::fmt;

use redis::aio::MultiplexedConnection;
use redis::{
    ErrorKind, Pipeline, RedisConnectionInfo, RedisError, RedisResult, Value, cmd, from_redis_value,
};
use tokio::time::timeout;

use super::plain;
use crate::connection::cause::Secrets;
use crate::connection::failure::is_forbidden;
use crate::connection::host::{Host, Login};
use crate::connection::refusals::Refusal;
use crate::reply::{server_error_code, server_error_detail};

/// The server that Sentinels name as the master.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) host: String,
    pub(super) port: u16,
    /// The number of the configuration: each failover has a higher one.
    epoch: u64,
    /// The addresses of the Sentinels that name it.
    by: Vec<String>,
}

/// The answers to the two questions.
type Answers = [RedisResult<Value>; 2];

/// Asks a Sentinel for the master of this name.
///
/// Without credentials of its own it gets those of the servers, but only if it asks for some: many Sentinels have no
/// password, and then must not be told one.
pub(super) async fn ask(
    sentinel: &Host,
    master: &str,
    servers: &RedisConnectionInfo,
) -> Result<Named, Refusal> {
    let addr = sentinel.info.addr();
    let answers = async {
        let settings = sentinel.log_in(sentinel.info.redis_settings().clone()).await?;
        let mut opened = sentinel.open(settings, plain()).await?;
        let connection = &mut opened.connection;
        let mut answers = questions(connection, master).await?;
        if let (Login::Settings, Err(error), Some(password)) =
            (&sentinel.login, &answers[0], servers.password())
            && wants_login(error)
        {
            let mut login = cmd("AUTH");
            login.arg(servers.username()).arg(password);
            login.exec_async(connection).await?;
            answers = questions(connection, master).await?;
        }
        Ok(answers)
    };
    let answers = timeout(sentinel.longest(), answers).await.unwrap_or(Err(Refusal::Timeout));
    let about = |refusal: Refusal| of_sentinel(&addr.to_string(), &refusal, &sentinel.secrets);
    let [address, details] = answers.map_err(about)?;
    let address: Option<(String, u16)> = address
        .and_then(|value| Ok(from_redis_value(value)?))
        .map_err(|error| about(Refusal::Error(error)))?;
    let Some((host, port)) = address else {
        return Err(Refusal::Server(format!("the Sentinel at {addr} watches no master called `{master}`")));
    };
    Ok(Named { host, port, epoch: epoch(details), by: vec![addr.to_string()] })
}

async fn questions(connection: &mut MultiplexedConnection, master: &str) -> Result<Answers, Refusal> {
    let mut pipeline = Pipeline::new();
    pipeline.cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(master);
    pipeline.cmd("SENTINEL").arg("MASTER").arg(master);
    pipeline.ignore_errors();
    let answers: Vec<RedisResult<Value>> = pipeline.query_async(connection).await?;
    answers.try_into().map_err(|_| Refusal::Server("it does not answer as a Sentinel does".to_owned()))
}

/// The number of the configuration; 0 if the Sentinel does not tell.
fn epoch(details: RedisResult<Value>) -> u64 {
    let fields: Option<HashMap<String, String>> = details.ok().and_then(|value| from_redis_value(value).ok());
    fields.and_then(|fields| fields.get("config-epoch")?.parse().ok()).unwrap_or(0)
}

/// Whether the Sentinel answers only to those who have logged in.
fn wants_login(error: &RedisError) -> bool {
    server_error_code(error) == "NOAUTH" || is_forbidden(error)
}

/// What a refusal says about a Sentinel.
fn of_sentinel(addr: &str, refusal: &Refusal, secrets: &Secrets) -> Refusal {
    let unknown = |error: &RedisError| {
        server_error_detail(error).to_ascii_lowercase().contains("unknown command")
            || error.kind() == ErrorKind::UnexpectedReturnType
    };
    match refusal {
        Refusal::Error(error) if unknown(error) => Refusal::Server(format!(
            "the server at {addr} is no Sentinel: give the addresses of the Sentinels, whose port is 26379 unless set"
        )),
        Refusal::Error(error) if is_forbidden(error) => Refusal::Server(format!(
            "the user may not ask the Sentinel at {addr}: permit `+sentinel|get-master-addr-by-name` and \
             `+sentinel|master`"
        )),
        _ => match refusal.remedy() {
            Some(remedy) => Refusal::Server(format!("the Sentinel at {addr}: {remedy}")),
            None => Refusal::NoMaster(format!("the Sentinel at {addr}: {}", refusal.cause(secrets))),
        },
    }
}

/// The refusal of all Sentinels. It counts as a fault of the settings if that is so for more than half of them. A
/// Sentinel that is down may come back, but a name that the majority does not know is wrong.
pub(super) fn together(refusals: &[Refusal]) -> Refusal {
    let lasting = refusals.iter().filter(|refusal| refusal.remedy().is_some()).count();
    let text = |refusal: &Refusal| match refusal {
        Refusal::NoMaster(why) => why.clone(),
        refusal => refusal.cause(&Secrets::default()).to_string(),
    };
    let texts = refusals.iter().map(text).collect::<Vec<_>>().join("; ");
    if lasting * 2 > refusals.len() { Refusal::Server(texts) } else { Refusal::NoMaster(texts) }
}

/// The servers that were named, without duplicates. The newest configuration comes first, and within it the server that
/// more Sentinels name.
pub(super) fn ranked(named: Vec<Named>) -> Vec<Named> {
    let mut servers: Vec<Named> = Vec::new();
    for answer in named {
        match servers.iter_mut().find(|known| (&known.host, known.port) == (&answer.host, answer.port)) {
            Some(known) => {
                known.epoch = known.epoch.max(answer.epoch);
                known.by.extend(answer.by);
            }
            None => servers.push(answer),
        }
    }
    servers.sort_by_key(|server| std::cmp::Reverse((server.epoch, server.by.len())));
    servers
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (word, verb) = if self.by.len() == 1 { ("Sentinel", "names") } else { ("Sentinels", "name") };
        write!(f, "the {word} at {} {verb} {}:{}", self.by.join(", "), self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(port: u16, epoch: u64, by: &str) -> Named {
        Named { host: "h".to_owned(), port, epoch, by: vec![by.to_owned()] }
    }

    #[test]
    fn the_newest_configuration_comes_first_and_then_the_majority() {
        let servers = ranked(vec![named(1, 3, "a"), named(2, 4, "b"), named(1, 3, "c")]);
        assert_eq!(servers.iter().map(|server| server.port).collect::<Vec<_>>(), [2, 1]);
        assert_eq!(servers[1].to_string(), "the Sentinels at a, c name h:1");
        let servers = ranked(vec![named(1, 3, "a"), named(2, 3, "b"), named(2, 3, "c")]);
        assert_eq!(servers.iter().map(|server| server.port).collect::<Vec<_>>(), [2, 1]);
    }

    #[test]
    fn one_sentinel_that_may_yet_answer_keeps_the_hope() {
        let lasting = || Refusal::Server("x".to_owned());
        let passing = || Refusal::NoMaster("y".to_owned());
        assert!(together(&[lasting(), lasting()]).remedy().is_some());
        assert!(together(&[lasting(), passing()]).remedy().is_none());
        assert!(together(&[lasting(), passing(), passing()]).remedy().is_none());
    }

    #[test]
    fn what_the_majority_refuses_is_a_matter_of_settings() {
        let refusals = ["a", "b"].map(|sentinel| Refusal::Server(sentinel.to_owned()));
        let [a, b] = refusals;
        let together = together(&[a, Refusal::NoMaster("c is down".to_owned()), b]);
        assert_eq!(together.remedy().as_deref(), Some("a; c is down; b"));
    }

    #[test]
    fn a_cause_says_once_what_was_done() {
        let down = |addr: &str| of_sentinel(addr, &Refusal::Timeout, &Secrets::default());
        let cause = together(&[down("x:1"), down("y:2")]).cause(&Secrets::default()).to_string();
        assert_eq!(cause.matches("finding the master").count(), 1, "{cause}");
    }
}
