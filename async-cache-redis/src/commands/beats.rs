//! Heartbeats to a master of a cluster: those that are due at the same time are one command, whatever their partitions
//! and namespaces.

use std::future::ready;
use std::sync::Arc;

use redis::{Value, make_extension_error};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::coalesce::end_of_the_queue;
use crate::beat_queue::{Answer, Beat, BeatQueue, Due};
use crate::connection::failure::Failure;
use crate::connection::slots::{Checkout, Slots};
use crate::inner::Inner;
use crate::limits::Purpose;
use crate::pubsub::bus::Bus;

/// The maximum number of heartbeats in one command.
const TOGETHER: usize = 512;

/// Adds a heartbeat to those that are sent next, and waits for its answer.
pub(super) async fn join(inner: &Inner, beat: impl FnOnce(oneshot::Sender<Answer>) -> Beat) -> Answer {
    let (sender, answer) = oneshot::channel();
    if inner.beats.add(beat(sender)) == Due::Soon {
        let gathering = Gathering {
            taken: false,
            beats: Arc::clone(&inner.beats),
            slots: Arc::clone(&inner.slots),
            bus: Arc::clone(&inner.bus),
        };
        inner.background.spawn(gathering.send());
    }
    let limit = inner.slots.deadlines.of(Purpose::Read);
    // The command has this deadline itself. It may have to wait before it is sent.
    match timeout(2 * limit, answer).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) | Err(_) => Err(Failure::Timeout(limit)),
    }
}

/// Heartbeats that are sent after all tasks that are ready now have run. If the runtime ends before, they are dropped.
struct Gathering {
    /// Whether the queue has been taken. What is in it since then belongs to the next task.
    taken: bool,
    beats: Arc<BeatQueue>,
    slots: Arc<Slots>,
    bus: Arc<Bus>,
}

impl Gathering {
    async fn send(mut self) {
        end_of_the_queue().await;
        self.taken = true;
        let mut beats = self.beats.take();
        while !beats.is_empty() {
            let rest = beats.split_off(beats.len().min(TOGETHER));
            match self.slots.pick(Purpose::Read) {
                Ok(checkout) => self.send_together(&checkout, std::mem::replace(&mut beats, rest)).await,
                Err(failure) => {
                    let failed = beats.into_iter().chain(rest);
                    return failed.for_each(|beat| drop(beat.answer.send(Err(failure.clone()))));
                }
            }
        }
    }

    async fn send_together(&self, checkout: &Checkout<'_>, beats: Vec<Beat>) {
        let script = &checkout.link.lua.heartbeats;
        let mut call = checkout.link.call_without_keys(script);
        for Beat { meta, record, known_seq, node, number, .. } in &beats {
            call.arg(&meta[..]).arg(record).arg(known_seq).arg(node).arg(number);
        }
        let sent = self.bus.vitals.now();
        let answers: Result<Vec<Value>, Failure> = checkout.answer(checkout.link.script(script, &call)).await;
        let count = beats.len();
        let mut answers = match answers {
            Ok(answers) if answers.len() == count => answers.into_iter().map(Ok).collect::<Vec<_>>(),
            Ok(_) => vec![Ok(Value::Nil); count],
            Err(failure) => vec![Err(failure); count],
        }
        .into_iter();
        for (beat, answer) in beats.into_iter().zip(&mut answers) {
            let answer = match answer {
                Ok(Value::Int(time_ms)) => Ok((checkout.link.run, time_ms.unsigned_abs())),
                Ok(Value::BulkString(text)) => Err(refusal(checkout, &text).await),
                Ok(_) => Err(refusal(checkout, b"ERR an answer of another shape").await),
                Err(failure) => Err(failure),
            };
            if answer.is_ok() && beat.is_heard {
                self.bus.vitals.pulse(sent);
            }
            // The caller may be gone.
            let _ = beat.answer.send(answer);
        }
    }
}

impl Drop for Gathering {
    fn drop(&mut self) {
        if !self.taken {
            drop(self.beats.take());
        }
    }
}

/// The failure of one heartbeat of a command, from the text of its error.
async fn refusal(checkout: &Checkout<'_>, text: &[u8]) -> Failure {
    let text = String::from_utf8_lossy(text);
    let text = without_place(&text);
    let (code, detail) = text.trim_start_matches('-').split_once(' ').unwrap_or((text, ""));
    // In a script, a master uses another text for the error that it does not have a slot.
    let code = match detail {
        _ if text.contains("non local key") => "MOVED",
        _ if text.contains("cluster is down") => "CLUSTERDOWN",
        _ => code,
    };
    let error = make_extension_error(code.to_owned(), Some(detail.to_owned()));
    match checkout.answer(ready(Err::<(), _>(error))).await {
        Err(failure) => failure,
        Ok(()) => Failure::Timeout(checkout.limit),
    }
}

/// The text of an error without the place in the script, which Redis 6 puts before it: `@user_script: 7: `.
fn without_place(text: &str) -> &str {
    let rest = text.strip_prefix("@user_script:").and_then(|rest| rest.split_once(": "));
    match rest {
        Some((line, rest)) if line.trim().bytes().all(|byte| byte.is_ascii_digit()) => without_place(rest),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_in_a_script_is_no_part_of_an_error() {
        for (text, error) in [
            ("@user_script: 20: -OOM command not allowed", "-OOM command not allowed"),
            ("@user_script:20: @user_script: 20: BADRECORD x: y", "BADRECORD x: y"),
            ("BADRECORD @user_script: 20: y", "BADRECORD @user_script: 20: y"),
            ("MOVED 7 127.0.0.1:1", "MOVED 7 127.0.0.1:1"),
        ] {
            assert_eq!(without_place(text), error);
        }
    }
}
