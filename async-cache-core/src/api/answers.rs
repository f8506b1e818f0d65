//! Answers the questions of tools: see [`Region::ask`](crate::backend::Region::ask).

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use crate::api::figures;
use crate::backend::{Entry, Region};
use crate::inner::Inner;
use crate::liveness::questions::Question;
use crate::local::l1::Probe;

/// The pause after each answer. So the node answers at most 20 questions a second.
const PAUSE: Duration = Duration::from_millis(50);

/// Answers questions, one after the other.
pub(crate) async fn run<V: Send + Sync + 'static>(inner: Arc<Inner<V>>, region: Arc<dyn Region>) {
    loop {
        let Question { asker, id, text } = inner.lifecycle.questions.next().await;
        let Some(answer) = answer(&inner, &text) else { continue };
        // The tool has a deadline. Nothing depends on the answer, so an error is ignored.
        let _ = region.answer(asker, id, answer.as_bytes()).await;
        sleep(PAUSE).await;
    }
}

fn answer<V: 'static>(inner: &Inner<V>, question: &[u8]) -> Option<String> {
    if question == b"stats" {
        return Some(stats(inner));
    }
    Some(entry(inner, question.strip_prefix(b"entry:")?))
}

/// The answer to `stats`: this process, and all figures.
fn stats<V: 'static>(inner: &Inner<V>) -> String {
    let mut out = process();
    let staleness = inner.local.liveness.node.max_staleness.as_millis();
    let _ = writeln!(out, "max_staleness_ms={staleness}");
    for (name, number) in figures::stats(inner).figures() {
        let _ = writeln!(out, "{name}={number}");
    }
    out
}

/// What L1 has for a key, whether it may answer or not.
fn entry<V: 'static>(inner: &Inner<V>, key: &[u8]) -> String {
    let mut out = process();
    let (state, entry) = match inner.local.probe(key, None) {
        _ if !inner.local.exists() => ("no_l1", None),
        Probe::Hit(entry) | Probe::Ripe(entry) => ("fresh", Some(entry)),
        Probe::Stale(entry) => ("expired", Some(entry)),
        // L2 is asked before these answer.
        Probe::Capped(entry) | Probe::Unverified(entry) => ("unverified", Some(entry)),
        Probe::Miss => ("none", None),
    };
    let _ = writeln!(out, "state={state}");
    if let Some(Entry { value, life, seq, token, .. }) = entry {
        let now = inner.local.now();
        let (age, left) = (life.age(now).as_millis(), life.expires.since(now).as_millis());
        let absence = u8::from(value.is_none());
        let _ =
            write!(out, "absence={absence}\nage_ms={age}\nexpires_in_ms={left}\nseq={seq}\ntoken={token}\n");
    }
    out
}

/// The host, the process and the version. A host name that is not UTF-8 is left out.
fn process() -> String {
    #[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
    let host = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    #[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
    let host = std::env::var("COMPUTERNAME").ok();
    let host = host.unwrap_or_default().replace(char::is_control, "");
    format!("version={}\nhost={host}\npid={}\n", env!("CARGO_PKG_VERSION"), std::process::id())
}
