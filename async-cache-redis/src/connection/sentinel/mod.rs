//! Finds the master of a set of servers by asking its Sentinels.
//!
//! A Sentinel may be down, cut off, or know less than the others. The server that it names may have been demoted, or
//! may not know yet that it was promoted. So all Sentinels are asked at the same time, the newest of their answers is
//! tried first, and a server counts as the master only if it says so itself.

mod ask;
mod role;
pub(crate) mod settings;

use std::fmt;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use redis::{AsyncConnectionConfig, RedisConnectionInfo};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use self::ask::Named;
pub(super) use self::role::check_role;
use super::host::Host;
use super::refusals::Refusal;
use crate::limits::{Pauses, backoff};

/// Between rounds of questions.
const PAUSES: Pauses = Pauses { first: Duration::from_millis(20), longest: Duration::from_millis(100) };

/// The Sentinels of one master.
pub(crate) struct Sentinels {
    /// The name under which they watch it.
    master: String,
    /// How to reach each of them.
    members: Vec<Host>,
}

impl Sentinels {
    /// The server that is the master now. It is found within three quarters of the deadline of a connection:
    /// the rest is for the connection itself.
    ///
    /// `settings` are those of the servers, with the credentials of this connection.
    pub(super) async fn find(&self, servers: &Host, settings: &RedisConnectionInfo) -> Result<Host, Refusal> {
        // Why no master was found so far.
        let mut doubt = Refusal::NoMaster(format!("no answer from {self}"));
        let found = timeout(servers.limit * 3 / 4, self.rounds(servers, settings, &mut doubt)).await;
        found.unwrap_or(Err(doubt))
    }

    /// Asks until a server is found that says that it is the master, or until nothing but a change of settings helps.
    async fn rounds(
        &self,
        servers: &Host,
        settings: &RedisConnectionInfo,
        doubt: &mut Refusal,
    ) -> Result<Host, Refusal> {
        for round in 0.. {
            let tried = match self.candidates(servers, settings).await {
                Ok(candidates) => self.first_master(servers, settings, candidates, doubt).await,
                Err(refusal) => Err(refusal),
            };
            match tried {
                Ok(master) => return Ok(master),
                Err(refusal) if refusal.remedy().is_some() => return Err(refusal),
                Err(refusal) => *doubt = refusal,
            }
            sleep(backoff(round, PAUSES)).await;
        }
        unreachable!("the rounds have no end")
    }

    /// The servers that the Sentinels name, best first.
    ///
    /// When one has answered, the others have a little more time: one that hangs must not delay every connection, and
    /// the first to answer may be one that was cut off before a failover.
    async fn candidates(
        &self,
        servers: &Host,
        settings: &RedisConnectionInfo,
    ) -> Result<Vec<Named>, Refusal> {
        let settle = servers.limit / 8;
        let mut asked: FuturesUnordered<_> =
            self.members.iter().map(|sentinel| ask::ask(sentinel, &self.master, settings)).collect();
        let (mut named, mut refusals) = (Vec::new(), Vec::new());
        let mut until: Option<Instant> = None;
        loop {
            let answer = match until {
                None => asked.next().await,
                Some(until) => timeout_at(until, asked.next()).await.unwrap_or(None),
            };
            match answer {
                None => break,
                Some(Ok(answer)) => {
                    until.get_or_insert_with(|| Instant::now() + settle);
                    named.push(answer);
                }
                Some(Err(refusal)) => refusals.push(refusal),
            }
        }
        if named.is_empty() { Err(ask::together(&refusals)) } else { Ok(ask::ranked(named)) }
    }

    /// The first of the candidates that says that it is the master.
    async fn first_master(
        &self,
        servers: &Host,
        settings: &RedisConnectionInfo,
        candidates: Vec<Named>,
        doubt: &mut Refusal,
    ) -> Result<Host, Refusal> {
        let limit = servers.limit / 2 / u32::try_from(candidates.len()).unwrap_or(u32::MAX);
        let mut first: Option<Refusal> = None;
        for candidate in candidates {
            *doubt = Refusal::NoMaster(format!("{candidate}, which does not answer"));
            let tried = timeout(limit, proven(servers, settings, &candidate)).await;
            match tried {
                Ok(Ok(master)) => return Ok(master),
                Ok(Err(refusal)) => _ = first.get_or_insert(refusal),
                Err(_) => {
                    let hangs = Refusal::NoMaster(format!("{candidate}, which does not answer"));
                    first.get_or_insert(hangs);
                }
            }
        }
        Err(first.unwrap_or(Refusal::Timeout))
    }
}

/// The server of a candidate that says that it is the master.
async fn proven(servers: &Host, settings: &RedisConnectionInfo, candidate: &Named) -> Result<Host, Refusal> {
    let server = servers.at(&candidate.host, candidate.port)?;
    let said = async {
        let mut opened = server.open(settings.clone(), plain()).await?;
        check_role(&mut opened.connection, settings.protocol()).await
    };
    match said.await {
        Ok(()) => Ok(server),
        Err(Refusal::Replica) => {
            Err(Refusal::NoMaster(format!("{candidate}, which says that it is a replica")))
        }
        // A missing right, a wrong password or certificate remains after the failover.
        Err(refusal) if refusal.remedy().is_some() => Err(refusal),
        Err(refusal) => {
            Err(Refusal::NoMaster(format!("{candidate}, but: {}", refusal.cause(&servers.secrets))))
        }
    }
}

/// A connection whose deadlines are kept by its caller.
fn plain() -> AsyncConnectionConfig {
    AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None)
}

/// As it is shown in messages.
impl fmt::Display for Sentinels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` of the Sentinels", self.master)?;
        for (place, sentinel) in self.members.iter().enumerate() {
            write!(f, "{} {}", if place == 0 { "" } else { "," }, sentinel.info.addr())?;
        }
        Ok(())
    }
}
