//! Keeps the slots up: asks whether their connections live, and restores those that do not.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::attempts::Attempts;
use super::connect::Connector;
use super::link::Link;
use super::slots::{Slot, Slots};
use crate::limits::Pauses;

/// How often an idle connection is asked whether it lives.
const CHECK: Duration = Duration::from_secs(1);
/// Between attempts to connect.
const PAUSES: Pauses = Pauses { first: Duration::from_millis(50), longest: Duration::from_secs(1) };

/// Keeps one slot up: asks whether the connection lives, and restores it when it does not.
pub(crate) async fn supervise(slots: Arc<Slots>, index: usize, connector: Arc<Connector>) {
    let slot = slots.slot(index);
    loop {
        if let Ok(link) = slot.link() {
            watch(&slots, slot, link).await;
        } else {
            restore(&slots, slot, &connector).await;
        }
    }
}

/// Returns when the link has gone down. A dead connection gives no sign by itself, so it is asked.
async fn watch(slots: &Slots, slot: &Slot, link: Arc<Link>) {
    let checkout = slots.checkout(slot, link, slots.deadlines.longest());
    while slot.link().is_ok_and(|current| Arc::ptr_eq(&current, &checkout.link)) {
        tokio::select! {
            () = slot.went_down.notified() => {}
            () = sleep(CHECK) => {
                // `answer` notes a failure, and takes the slot down if it has to.
                let _ = checkout.answer(checkout.link.query::<()>(&redis::cmd("PING"))).await;
            }
        }
    }
}

/// Returns when a connection has been put in place.
///
/// Only one slot at a time tries to connect, because more attempts would show nothing new. After one has
/// succeeded, the others follow.
async fn restore(slots: &Slots, slot: &Slot, connector: &Connector) {
    let _probing = slots.probing.lock().await;
    let mut attempts = Attempts::new(PAUSES);
    loop {
        sleep(attempts.pause()).await;
        match connector.link().await {
            Ok(link) => return slots.install(slot, link),
            Err(refusal) => {
                let outage = refusal.outage(&slots.secrets, slots.address());
                attempts.failed(&outage);
                slot.still_down(outage);
                slots.attempt_ended();
            }
        }
    }
}
