//! The verb `watch`: the changes of a namespace, as they happen.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::SystemTime;

use async_cache::Tags;
use async_cache::backend::{BusEvent, Listener};
use serde_json::{Map, Value, json};

use crate::args::{Shared, Watch};
use crate::ears::Ears;
use crate::failure::{Failure, Outcome};
use crate::{connect, fleet, key, output};

/// Prints events until the program is ended or nobody reads them, or as many as are asked for.
pub(crate) async fn run(shared: &Shared, how: &Watch) -> Result<Outcome, Failure> {
    let (ears, mut events) = Ears::new();
    let listener = Arc::clone(&ears) as Arc<dyn Listener>;
    let namespace = connect::open(shared, Arc::downgrade(&listener)).await?;
    let mut seqs = Sequences::default();
    let mut left = how.count.unwrap_or(u64::MAX);
    let mut closed = pin!(output::closed());
    loop {
        let event = tokio::select! {
            () = &mut closed => return Ok(Outcome::Good),
            event = events.recv() => event,
        };
        let Some(event) = event else { return Ok(Outcome::Good) };
        if let BusEvent::Asked { asker, id, .. } = event {
            let _ = namespace.region().answer(asker, id, fleet::tool_answer("watch").as_bytes()).await;
        }
        let dropped = ears.take_dropped();
        let missed = (dropped > 0).then(|| json!({ "event": "dropped", "count": dropped }));
        let lines = missed.into_iter().chain(seqs.gap_before(&event)).chain(shown(&event));
        for line in lines {
            output::json_line(&timed(line))?;
            left -= 1;
            if left == 0 {
                return Ok(Outcome::Good);
            }
        }
    }
}

/// The last number of each partition. A number that is skipped is a change that was not heard.
#[derive(Default)]
struct Sequences(HashMap<u16, u64>);

impl Sequences {
    fn gap_before(&mut self, event: &BusEvent) -> Option<Value> {
        let (partition, seq) = match event {
            BusEvent::Invalidated { partition, seq, .. }
            | BusEvent::Expired { partition, seq, .. }
            | BusEvent::TagsExpired { partition, seq, .. }
            | BusEvent::Cleared { partition, seq }
            | BusEvent::TagsInvalidated { partition, seq, .. } => (*partition, *seq),
            _ => return None,
        };
        let last = self.0.insert(partition, seq)?;
        let gap = json!({ "event": "gap", "partition": partition, "after": last, "seq": seq });
        (seq != last + 1).then_some(gap)
    }
}

/// An event as JSON; `None` if it concerns this program only.
fn shown(event: &BusEvent) -> Option<Value> {
    Some(match event {
        BusEvent::Subscribed => json!({ "event": "subscribed" }),
        BusEvent::Lost => json!({ "event": "lost" }),
        BusEvent::PartitionSubscribed { partition } => {
            json!({ "event": "subscribed", "partition": partition })
        }
        BusEvent::PartitionLost { partition } => json!({ "event": "lost", "partition": partition }),
        BusEvent::Refused { why } => json!({ "event": "refused", "why": **why }),
        BusEvent::Invalidated { partition, seq, key } => of_key("invalidated", *partition, *seq, key),
        BusEvent::Expired { partition, seq, key } => of_key("expired", *partition, *seq, key),
        BusEvent::Cleared { partition, seq } => {
            json!({ "event": "cleared", "partition": partition, "seq": seq })
        }
        BusEvent::TagsInvalidated { partition, seq, tags } => {
            of_tags("tags_invalidated", *partition, *seq, tags)
        }
        BusEvent::TagsExpired { partition, seq, tags } => of_tags("tags_expired", *partition, *seq, tags),
        BusEvent::Foreign => json!({ "event": "foreign" }),
        _ => return None,
    })
}

/// A change of one key.
fn of_key(event: &str, partition: u16, seq: u64, key: &[u8]) -> Value {
    let mut shown = json!({ "event": event, "partition": partition, "seq": seq });
    name_bytes(&mut shown, key);
    shown
}

/// A change of tags.
fn of_tags(event: &str, partition: u16, seq: u64, tags: &Tags) -> Value {
    // JSON escapes control characters by itself. What is no text is escaped byte by byte.
    let tags: Vec<_> =
        tags.iter().map(|tag| key::text(tag).map_or_else(|| key::shown(tag), str::to_owned)).collect();
    json!({ "event": event, "partition": partition, "seq": seq, "tags": tags })
}

/// The key as text, or in hexadecimal if it is no text.
fn name_bytes(shown: &mut Value, bytes: &[u8]) {
    let (name, value) = match key::text(bytes) {
        Some(text) => ("key", text.to_owned()),
        None => ("key_hex", key::hex(bytes)),
    };
    shown[name] = value.into();
}

/// The time first, for people who read along.
fn timed(event: Value) -> Value {
    let mut timed = Map::new();
    let now = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
    timed.insert("time".to_owned(), now.into());
    if let Value::Object(fields) = event {
        timed.extend(fields);
    }
    timed.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_is_skipped_is_told() {
        let mut seqs = Sequences::default();
        let at = |seq| BusEvent::Cleared { partition: 0, seq };
        assert_eq!(seqs.gap_before(&at(5)), None, "what was before is not known");
        assert_eq!(seqs.gap_before(&at(6)), None);
        assert_eq!(
            seqs.gap_before(&at(9)),
            Some(json!({ "event": "gap", "partition": 0, "after": 6, "seq": 9 }))
        );
        assert_eq!(seqs.gap_before(&BusEvent::Cleared { partition: 1, seq: 3 }), None);
    }
}
