//! The verb `doctor`: examines a server, the rights of its user, and a namespace.

mod cost;
mod report;
mod server;

use std::time::Duration;

use async_cache::tools::{Examiner, Right, RightState};
use async_cache::{Error, RedisBackend};
use serde_json::json;

use crate::args::{Doctor, Shared};
use crate::connect;
use crate::failure::{Failure, Outcome, chain};
use crate::fleet::Fleet;
use crate::stats::health;
use report::{Check, Report, Status};

/// Makes every examination, and prints what was found.
pub(crate) async fn run(shared: &Shared, how: &Doctor) -> Result<Outcome, Failure> {
    let config = connect::settings(shared)?;
    let in_cluster = !config.cluster.is_empty();
    let name = connect::namespace_name(shared);
    let mut report = Report::default();
    let first = Examiner::connect(RedisBackend::from_config(config)).await?;
    let subject = Subject { in_cluster, name: name.as_deref(), limit: shared.timeout };
    let (facts, refused) = match in_cluster {
        true => (None, examine_masters(&mut report, &first, &subject).await),
        false => (Some(examine(&mut report, &first, &subject, None).await), first.refused().is_some()),
    };
    let mut fleet = match (&name, refused) {
        (Some(_), false) => Some(Fleet::open(shared, "doctor").await),
        _ => None,
    };
    report.add(record(name.is_some(), fleet.as_ref()).await);
    let mut nodes = None;
    if let Some(Ok(fleet)) = &mut fleet {
        let (check, count) = asked(fleet).await;
        report.add(check);
        nodes = count;
    }
    report.add(match &facts {
        None => Check::new("cost", Status::Skipped, "not estimated for a cluster".to_owned()),
        Some(facts) => cost::cost(how.nodes.or(nodes), facts),
    });
    report.print(shared.json)?;
    Ok(report.outcome())
}

/// What is examined at each server.
struct Subject<'a> {
    in_cluster: bool,
    /// The namespace.
    name: Option<&'a str>,
    /// The deadline of a command.
    limit: Duration,
}

/// Examines each master of a cluster. Returns whether one refuses nodes, or cannot be reached.
async fn examine_masters(report: &mut Report, first: &Examiner, subject: &Subject<'_>) -> bool {
    if !first.is_logged_in() {
        examine(report, first, subject, Some(&first.address())).await;
        return true;
    }
    let masters = match first.masters().await {
        Ok(masters) => masters,
        Err(error) => {
            report.add(unanswered("masters", &error));
            examine(report, first, subject, Some(&first.address())).await;
            return true;
        }
    };
    report.add(Check::new("masters", Status::Good, format!("{} with slots", masters.len())));
    let mut refused = false;
    for (host, port) in masters {
        let node = format!("{host}:{port}");
        match first.at(&host, port).await {
            Ok(examiner) => {
                examine(report, &examiner, subject, Some(&node)).await;
                refused |= examiner.refused().is_some();
            }
            Err(error) => {
                report.add(unanswered("connect", &error).at(Some(&node)));
                refused = true;
            }
        }
    }
    refused
}

/// Examines a server, and returns what it says of itself. `node` is its name if it is one of several.
async fn examine(
    report: &mut Report,
    examiner: &Examiner,
    subject: &Subject<'_>,
    node: Option<&str>,
) -> server::Facts {
    let mut add = |check: Check| report.add(check.at(node));
    add(accepted(examiner));
    add(server::encryption(examiner));
    if !examiner.is_logged_in() {
        for name in ["version", "topology", "rights", "clock", "latency", "eviction"] {
            add(Check::new(name, Status::Skipped, "not examined, because nobody is logged in".to_owned()));
        }
        return server::Facts::new();
    }
    let facts = match examiner.info().await {
        Ok(facts) => {
            add(server::version(&facts));
            add(server::topology(&facts, subject.in_cluster));
            facts
        }
        Err(error) => {
            add(unanswered("version", &error));
            add(unanswered("topology", &error));
            server::Facts::new()
        }
    };
    let tried = examiner.rights(subject.name).await;
    add(rights(&tried, subject.name));
    add(match server::clock(examiner).await {
        Ok(check) => check,
        Err(error) => unanswered("clock", &error),
    });
    add(match examiner.round_trips(server::PINGS).await {
        Ok(times) => server::latency(times, subject.limit),
        Err(error) => unanswered("latency", &error),
    });
    add(server::memory(&facts));
    report.add_rights(tried);
    facts
}

/// Whether `connect` accepts the server and the user.
fn accepted(examiner: &Examiner) -> Check {
    let database = match examiner.database() {
        0 => String::new(),
        number => format!(", database {number}"),
    };
    match examiner.refused() {
        None => Check::new("connect", Status::Good, format!("connected to {}{database}", examiner.address())),
        Some(error) => {
            Check::new("connect", Status::Bad, format!("nodes refuse this server or user: {}", chain(error)))
        }
    }
}

fn unanswered(name: &'static str, error: &Error) -> Check {
    Check::new(name, Status::Bad, chain(error))
}

fn rights(rights: &[Right], namespace: Option<&str>) -> Check {
    let of = |state: RightState| {
        rights.iter().filter(move |right| right.state == state).map(|right| &*right.name).collect::<Vec<_>>()
    };
    let names = if namespace.is_some() { "" } else { "; with --namespace the names are tried, too" };
    let (missing, forgone, unknown) =
        (of(RightState::Missing), of(RightState::Forgone), of(RightState::Unknown));
    if !missing.is_empty() || !unknown.is_empty() {
        let mut parts = Vec::new();
        if !missing.is_empty() {
            parts.push(format!("the user lacks {}: permit them with ACL SETUSER", missing.join(" ")));
        }
        if !unknown.is_empty() {
            parts.push(format!("not tried, because of the other problems: {}", unknown.join(" ")));
        }
        let text = parts.join("; ");
        return Check::new("rights", Status::Bad, text);
    }
    if !forgone.is_empty() {
        let text = format!("all that are needed; {} would save round trips{names}", forgone.join(" "));
        return Check::new("rights", Status::Doubtful, text);
    }
    Check::new("rights", Status::Good, format!("all {} that are needed{names}", rights.len()))
}

/// Whether the nodes answer, and how many there are.
async fn asked(fleet: &mut Fleet) -> (Check, Option<u64>) {
    let answers = match fleet.ask(b"stats").await {
        Ok(answers) => answers,
        Err(error) => return (unanswered("nodes", &error), None),
    };
    let (answered, silent) = (answers.nodes.len() as u64, answers.missing);
    let ill = answers.nodes.iter().filter(|node| health(node) != "ok").count();
    let figures = json!({ "answered": answered, "missing": silent, "ill": ill });
    let (status, text) = match (answered, silent, ill) {
        (0, 0, _) => (Status::Doubtful, "no node has the namespace open".to_owned()),
        (_, 0, 0) => (Status::Good, format!("{answered} answer, and their L1 answers")),
        (_, 0, _) => (Status::Bad, format!("{ill} of {answered} do not serve: see `stats`")),
        _ => (Status::Bad, format!("{answered} answer, and {silent} listen but do not")),
    };
    (Check::new("nodes", status, text).with(figures), Some(answered + silent).filter(|nodes| *nodes > 0))
}

/// The record of the namespace, and the state of its partitions.
async fn record(named: bool, fleet: Option<&Result<Fleet, Failure>>) -> Check {
    let namespace = match (named, fleet) {
        (false, _) => {
            return Check::new(
                "record",
                Status::Skipped,
                "give --namespace to examine its record".to_owned(),
            );
        }
        (true, None) => {
            return Check::new(
                "record",
                Status::Skipped,
                "not read, because nodes cannot connect".to_owned(),
            );
        }
        (true, Some(Err(failure))) => {
            return Check::new("record", Status::Bad, failure.message().to_owned());
        }
        (true, Some(Ok(fleet))) => &fleet.namespace,
    };
    let record = namespace.record();
    let mut replaced = 0;
    for number in 0..record.partitions {
        match namespace.partition(number).await {
            Ok(partition) if !partition.current => replaced += 1,
            Ok(partition) if partition.seq.is_none() || partition.floor.is_none() => {
                let text = format!(
                    "the state of partition {number} is damaged: the next command of a node repairs it, and \
                                    voids what is stored"
                );
                return Check::new("record", Status::Doubtful, text);
            }
            Ok(_) => {}
            Err(error) => return unanswered("record", &error),
        }
    }
    let text = format!(
        "format {}, codec {}, values of type `{}`, {} partition(s)",
        record.format, record.codec, record.schema, record.partitions
    );
    if replaced > 0 {
        let text = format!("{text}; the server was restarted or replaced, and no node has asked it since");
        return Check::new("record", Status::Doubtful, text);
    }
    Check::new("record", Status::Good, text)
}
