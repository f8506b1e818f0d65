//! The verb `inspect`: everything that Redis has under one key.

use std::time::Duration;

use async_cache::frame::{self, Inspected, Uninspected};
use async_cache::key::Key;
use async_cache::tools::{LeaseState, Namespace, Record, StoredEntry, StoredValue, Verdict};
use serde_json::{Value, json};

use crate::args::{Shared, Which};
use crate::failure::{Failure, Outcome};
use crate::fleet::{Answers, Fleet, Node};
use crate::{key, output};

/// Prints what is stored under the key.
pub(crate) async fn run(shared: &Shared, which: &Which) -> Result<Outcome, Failure> {
    let key = key::read_one(which)?;
    let mut fleet = Fleet::open(shared, "inspect").await?;
    let entry = fleet.namespace.entry(&key).await?;
    let l1 = fleet.ask(&[b"entry:", key.as_bytes()].concat()).await?;
    let namespace = &fleet.namespace;
    let subject = Subject { redis_key: key::shown(&namespace.name_of(&key)?), key };
    let finding = judge(&entry, namespace.record());
    if shared.json {
        let mut out = as_json(namespace, &subject, &entry, &finding);
        out["l1"] =
            json!({ "nodes": l1.nodes.iter().map(Node::json).collect::<Vec<_>>(), "missing": l1.missing });
        output::json(&out)?;
    } else {
        as_text(namespace, &subject, &entry, &finding)?;
        l1_as_text(&l1)?;
    }
    Ok(finding.outcome)
}

/// The key, and the name in Redis of its value.
struct Subject {
    key: Key,
    redis_key: String,
}

/// The state of the value.
struct Finding {
    /// A word for programs.
    state: &'static str,
    /// A sentence for people.
    text: String,
    outcome: Outcome,
    value: Option<Inspected>,
}

fn judge(entry: &StoredEntry, record: &Record) -> Finding {
    let found = |state, text: &str, outcome, value| Finding { state, text: text.to_owned(), outcome, value };
    let (value, verdict) = match value_of(entry) {
        Ok(found) => found,
        Err((state, text)) => return found(state, &text, Outcome::Problem, None),
    };
    let now = entry.time_ms;
    let (state, text, outcome) = match verdict {
        Verdict::BelowFloor => ("void", "the namespace was cleared after it was stored", Outcome::Problem),
        Verdict::TagInvalidated => {
            ("void", "one of its tags was invalidated after it was stored", Outcome::Problem)
        }
        _ if value.codec != frame::codec_id(&record.codec) => {
            ("other_codec", "written by another codec than the namespace's: a miss", Outcome::Problem)
        }
        Verdict::Expired if now < value.ends_ms => {
            ("expired", "expired by a change: a fallback if its loader fails or is slow", Outcome::Good)
        }
        _ if now < value.expires_ms && verdict != Verdict::Expired => ("fresh", "it answers", Outcome::Good),
        _ if now < value.ends_ms => {
            ("expired", "expired: a fallback if its loader fails or is slow", Outcome::Good)
        }
        _ => ("over", "expired, and of no use as a fallback", Outcome::Problem),
    };
    found(state, text, outcome, Some(value))
}

/// The value, or why there is none that a node can use: a word for programs, and a sentence.
fn value_of(entry: &StoredEntry) -> Result<(Inspected, Verdict), (&'static str, String)> {
    let no = |state, text: &str| Err((state, text.to_owned()));
    let (bytes, verdict) = match &entry.value {
        StoredValue::Bytes(bytes, verdict) => (bytes, *verdict),
        StoredValue::Nothing => return no("none", "nothing is stored under this key"),
        StoredValue::OtherType => {
            return no(
                "foreign",
                "another program stored something else under this name: nodes take it for a miss",
            );
        }
        StoredValue::Replaced => {
            return no(
                "replaced",
                "the server was restarted or replaced, and no node has asked it since: whatever is stored is void",
            );
        }
        _ => return no("unknown", "this program does not know what is stored"),
    };
    match frame::inspect(bytes) {
        Ok(value) => Ok((value, verdict)),
        Err(Uninspected::Foreign) => {
            no("foreign", "another program stored these bytes: nodes take them for a miss")
        }
        Err(Uninspected::Damaged) => {
            no("damaged", "the stored bytes are damaged: nodes take them for a miss")
        }
        Err(Uninspected::OtherVersion(version)) => no(
            "other_format",
            &format!("stored in version {version} of the format: nodes take it for a miss"),
        ),
    }
}

fn as_json(namespace: &Namespace, subject: &Subject, entry: &StoredEntry, finding: &Finding) -> Value {
    let record = namespace.record();
    let mut out = json!({
        "namespace": namespace.name(),
        "redis_key": subject.redis_key,
        "key_hex": key::hex(subject.key.as_bytes()),
        "found": finding.outcome == Outcome::Good,
        "state": finding.state,
        "text": finding.text,
        "l2": Value::Null,
        "lease": lease_json(&entry.lease),
        "waiters": entry.waiters.iter().map(ToString::to_string).collect::<Vec<_>>(),
    });
    if let Some(text) = key::text(subject.key.as_bytes()) {
        out["key"] = text.into();
    }
    if let Some(value) = &finding.value {
        let now = entry.time_ms;
        out["l2"] = json!({
            "absence": value.absent,
            "stored_bytes": stored_len(entry),
            "payload_bytes": value.payload_len,
            "age_ms": now.saturating_sub(value.loaded_ms),
            "expires_in_ms": difference(value.expires_ms, now),
            "ends_in_ms": difference(value.ends_ms, now),
            "kept_for_ms": entry.kept_for.map(millis),
            "load_us": value.cost.as_micros(),
            "tags": value.tags.iter().map(key::shown).collect::<Vec<_>>(),
            "codec": codec(record, value),
            "schema": record.schema,
            "schema_number": value.schema,
            "seq": value.seq,
            "token": value.token.to_string(),
            "stored_by": value.token.node.to_string(),
        });
    }
    out
}

fn lease_json(lease: &LeaseState) -> Value {
    match lease {
        LeaseState::Free => json!({ "state": "free" }),
        LeaseState::Cooling => json!({ "state": "cooling" }),
        LeaseState::Void => json!({ "state": "void" }),
        LeaseState::Held { token, seq, left } => json!({
            "state": "held",
            "holder": token.node.to_string(),
            "token": token.to_string(),
            "seq": seq,
            "left_ms": left.map(millis),
        }),
        _ => json!({ "state": "foreign" }),
    }
}

fn as_text(
    namespace: &Namespace,
    subject: &Subject,
    entry: &StoredEntry,
    finding: &Finding,
) -> Result<(), Failure> {
    let mut rows = vec![
        ("redis key", subject.redis_key.clone()),
        ("state", format!("{}: {}", finding.state, finding.text)),
    ];
    if let Some(value) = &finding.value {
        rows.extend(value_rows(namespace.record(), entry, value));
    }
    rows.push(("lease", lease_text(&entry.lease)));
    let waiters: Vec<_> = entry.waiters.iter().map(ToString::to_string).collect();
    rows.push(("waiters", if waiters.is_empty() { "none".to_owned() } else { waiters.join(" ") }));
    Ok(output::columns(&rows)?)
}

/// What the L1 of each node has.
fn l1_as_text(l1: &Answers) -> Result<(), Failure> {
    let mut rows = Vec::new();
    for node in &l1.nodes {
        let what = match node.text("state") {
            "none" => "nothing".to_owned(),
            "no_l1" => "it has no L1".to_owned(),
            state => {
                let span = |name| output::span(Duration::from_millis(node.number(name)));
                let meaning = if state == "unverified" { ": L2 is asked before it answers" } else { "" };
                format!("{state}{meaning}, age {}, expires in {}", span("age_ms"), span("expires_in_ms"))
            }
        };
        rows.push((
            "L1 of node",
            format!("{} ({}/{}): {what}", node.id, node.text("host"), node.text("pid")),
        ));
    }
    if l1.missing > 0 {
        rows.push(("L1", format!("{} listener(s) did not answer in time", l1.missing)));
    }
    Ok(output::columns(&rows)?)
}

fn value_rows(record: &Record, entry: &StoredEntry, value: &Inspected) -> Vec<(&'static str, String)> {
    let now = entry.time_ms;
    let until = |at: u64| match difference(at, now) {
        left if left > 0 => format!("in {}", output::span(Duration::from_millis(left.unsigned_abs()))),
        past => format!("{} ago", output::span(Duration::from_millis(past.unsigned_abs()))),
    };
    let tags: Vec<_> = value.tags.iter().map(key::shown).collect();
    let size = match value.absent {
        true => "a cached absence".to_owned(),
        false => format!("{} bytes, with the header {}", value.payload_len, stored_len(entry)),
    };
    vec![
        ("size", size),
        ("age", output::span(Duration::from_millis(now.saturating_sub(value.loaded_ms)))),
        ("expires", until(value.expires_ms)),
        ("fallback ends", until(value.ends_ms)),
        ("tags", if tags.is_empty() { "none".to_owned() } else { tags.join(" ") }),
        ("codec", codec(record, value)),
        ("schema", format!("{} (number {})", record.schema, value.schema)),
        ("load took", output::span(value.cost)),
        ("stored by", format!("node {}, as of change {}", value.token.node, value.seq)),
    ]
}

fn lease_text(lease: &LeaseState) -> String {
    match lease {
        LeaseState::Free => "free".to_owned(),
        LeaseState::Cooling => "broken a moment ago, granted again within 10 ms".to_owned(),
        LeaseState::Void => "void: the namespace was cleared since it was granted".to_owned(),
        LeaseState::Held { token, left, .. } => {
            let left =
                left.map_or_else(|| "without limit".to_owned(), |left| format!("for {}", output::span(left)));
            format!("held by node {}, unless renewed {left}", token.node)
        }
        _ => "another program stored something else under its name".to_owned(),
    }
}

/// The name of the codec, if the record has it.
fn codec(record: &Record, value: &Inspected) -> String {
    match value.codec == frame::codec_id(&record.codec) {
        true => record.codec.clone(),
        false => format!("another one ({:08x})", value.codec),
    }
}

fn stored_len(entry: &StoredEntry) -> usize {
    match &entry.value {
        StoredValue::Bytes(bytes, _) => bytes.len(),
        _ => 0,
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// How far `at` is ahead of `now`; negative if it has passed.
fn difference(at: u64, now: u64) -> i64 {
    i64::try_from(i128::from(at) - i128::from(now)).unwrap_or(i64::MAX)
}
