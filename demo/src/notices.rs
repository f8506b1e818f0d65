//! The events of a cache that an operator wants to know, in words.

use async_cache::{Event, Refused, Resumed, SuspendCause, TieredCache};
use futures_util::StreamExt;
use tokio::sync::mpsc;

use crate::catalogue::Product;
use crate::messages::Message;

/// Sends the events to the server until the cache is closed or the server ends.
pub(crate) fn pass_on(cache: &TieredCache<u32, Product>, out: mpsc::Sender<Message>) {
    let mut events = cache.subscribe();
    tokio::spawn(async move {
        while let Some(event) = events.next().await {
            let Some(text) = words(event) else { continue };
            if out.send(Message::Notice(text)).await.is_err() {
                return;
            }
        }
    });
}

/// An event in words. `None` for those of a single lookup: there are too many of them.
fn words(event: Event) -> Option<String> {
    Some(match event {
        Event::L1Suspended { cause } => {
            format!("its own memory stopped answering: {}", cause_in_words(cause))
        }
        Event::L1Resumed { held: Resumed::Kept } => {
            "its own memory answers again, with all its copies".into()
        }
        Event::L1Resumed { held: Resumed::InDoubt } => {
            "its own memory answers again; each copy is verified on its next use".into()
        }
        Event::L2Lost => "it cannot reach the shared tier".into(),
        Event::L2Regained => "it reaches the shared tier again".into(),
        Event::L2Refused { what: Refused::Changes } => "the shared tier refuses its changes".into(),
        Event::L2Refused { .. } => "the shared tier refuses it".into(),
        Event::InvalidationLanded { pending: 0 } => {
            "every change made meanwhile has reached the shared tier".into()
        }
        _ => return None,
    })
}

fn cause_in_words(cause: SuspendCause) -> &'static str {
    match cause {
        SuspendCause::BusLost => "its subscription was lost",
        SuspendCause::Missed => "it missed invalidations",
        SuspendCause::ServerChanged => "the server was replaced, or lost its data",
        SuspendCause::Silence => "no message came for 1 s",
        _ => "it may have missed invalidations",
    }
}
