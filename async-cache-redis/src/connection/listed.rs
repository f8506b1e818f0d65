//! Several addresses, of which one leads to the master: of one server, or of a master and its replicas.
//!
//! All of them are asked at each connection, at the same time. A server counts as the master only if it says so itself.
//! Two servers that both say so are refused: nodes that used one of them would not hear of changes at the other.

use std::fmt;

use async_cache_core::Result;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use redis::{AsyncConnectionConfig, Pipeline, RedisConnectionInfo};
use tokio::time::{Instant, timeout_at};

use super::host::Host;
use super::refusals::Refusal;
use super::settings::{self, Server, wrong};

/// Most addresses.
const MAX_ADDRESSES: usize = 16;

/// The addresses, in the order in which they are preferred.
pub(crate) struct Listed {
    members: Vec<Host>,
}

/// A server that says that it is the master.
struct Master {
    /// Its place in the list.
    place: usize,
    run: String,
}

/// Reads the URLs. What they say beside the address must be the same.
pub(crate) fn servers(urls: &[String]) -> Result<Vec<Server>> {
    if urls.is_empty() || urls.len() > MAX_ADDRESSES {
        return Err(wrong(format!("`urls` takes 1 to {MAX_ADDRESSES} URLs, not {}", urls.len())));
    }
    let servers: Vec<Server> = urls.iter().map(|url| settings::parse(url)).collect::<Result<_>>()?;
    let [first, others @ ..] = &servers[..] else { unreachable!("there is at least one") };
    if others.iter().any(|other| !settings::agree(first, other)) {
        return Err(wrong(
            "the URLs differ in more than the address: user, password, database and scheme must be the same, because all \
             of them lead to one server or its replicas",
        ));
    }
    Ok(servers)
}

impl Listed {
    pub(crate) fn new(members: Vec<Host>) -> Self {
        Self { members }
    }

    /// The first address of the server that is the master now. It is found within three quarters of the deadline of a
    /// connection: the rest is for the connection itself.
    ///
    /// `settings` have the credentials of this connection.
    pub(super) async fn find(&self, settings: &RedisConnectionInfo) -> std::result::Result<Host, Refusal> {
        let limit = self.members[0].limit;
        let (mut masters, mut refusals) = (Vec::new(), Vec::new());
        let asked = self.members.iter().enumerate().map(async |(place, host)| {
            examine(host, settings).await.map(|run| Master { place, run }).map_err(|refusal| (place, refusal))
        });
        let mut asked: FuturesUnordered<_> = asked.collect();
        let mut until = Instant::now() + limit * 3 / 4;
        while let Ok(Some(answer)) = timeout_at(until, asked.next()).await {
            match answer {
                Ok(master) => {
                    // The others have a little more time: one that hangs must not delay every connection.
                    until = until.min(Instant::now() + limit / 8);
                    masters.push(master);
                }
                Err(refusal) => refusals.push(refusal),
            }
        }
        masters.sort_by_key(|master| master.place);
        match &masters[..] {
            [] => Err(self.none(&refusals)),
            [first, others @ ..] => match others.iter().find(|other| other.run != first.run) {
                None => Ok(self.members[first.place].clone()),
                Some(other) => Err(Refusal::Roles(format!(
                    "the servers at {} and {} both say that they are the master: give the addresses of one server, or of \
                     one master and its replicas",
                    self.address(first.place),
                    self.address(other.place)
                ))),
            },
        }
    }

    /// Why none of them is the master.
    fn none(&self, refusals: &[(usize, Refusal)]) -> Refusal {
        let mut texts = Vec::new();
        for place in 0..self.members.len() {
            let refusal = refusals.iter().find(|(of, _)| *of == place);
            let why = match refusal {
                None => "no answer in time".to_owned(),
                Some((_, Refusal::Replica)) => "a replica".to_owned(),
                Some((_, refusal)) => match refusal.remedy() {
                    Some(remedy) => remedy,
                    None => refusal.cause(&self.members[place].secrets).to_string(),
                },
            };
            texts.push(format!("{}: {why}", self.address(place)));
        }
        let text = texts.join("; ");
        let all = refusals.len() == self.members.len();
        if all && refusals.iter().all(|(_, refusal)| matches!(refusal, Refusal::Replica)) {
            return Refusal::Roles(format!("none of them is the master ({text}): add its address"));
        }
        // One that is away may be the master, and come back.
        if all && refusals.iter().all(|(_, refusal)| refusal.remedy().is_some()) {
            return Refusal::Server(text);
        }
        Refusal::NoMaster(text)
    }

    fn address(&self, place: usize) -> String {
        self.members[place].info.addr().to_string()
    }
}

/// The run id of a server that says that it is the master.
async fn examine(host: &Host, settings: &RedisConnectionInfo) -> std::result::Result<String, Refusal> {
    let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
    let mut opened = host.open(settings.clone(), config).await?;
    let mut pipeline = Pipeline::new();
    pipeline.cmd("INFO").arg("replication");
    pipeline.cmd("INFO").arg("server");
    let told: (String, String) = pipeline
        .query_async(&mut opened.connection)
        .await
        .map_err(|error| Refusal::of_command("info", error))?;
    let field = |info: &str, name: &str| {
        info.lines().find_map(|line| line.trim_end().strip_prefix(name).map(ToOwned::to_owned))
    };
    match field(&told.0, "role:").as_deref() {
        Some("master" | "primary") => Ok(field(&told.1, "run_id:").unwrap_or_default()),
        _ => Err(Refusal::Replica),
    }
}

/// As it is shown in messages.
impl fmt::Display for Listed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for place in 0..self.members.len() {
            write!(f, "{}{}", if place == 0 { "" } else { " or " }, self.address(place))?;
        }
        Ok(())
    }
}
