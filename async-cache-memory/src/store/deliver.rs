//! Delivery of events: in order, and outside the lock under which they were made.

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Weak;

use async_cache_core::backend::{BusEvent, Listener, NodeId};
use parking_lot::Mutex;

/// The nodes that an event is sent to.
#[derive(Debug, Clone, Copy)]
pub(crate) enum To {
    Everyone,
    Node(NodeId),
}

/// The nodes that listen, and the events that have not been delivered yet. Part of a store's state.
#[derive(Default)]
pub(crate) struct Outbox {
    /// The nodes have a fixed order, so that a run can be repeated exactly.
    listeners: BTreeMap<NodeId, Member>,
    events: VecDeque<(Weak<dyn Listener>, BusEvent)>,
}

struct Member {
    listener: Weak<dyn Listener>,
    subscribed: bool,
}

impl Outbox {
    pub(crate) fn join(&mut self, node: NodeId, listener: Weak<dyn Listener>) {
        self.listeners.insert(node, Member { listener, subscribed: false });
    }

    pub(crate) fn leave(&mut self, node: NodeId) {
        self.listeners.remove(&node);
    }

    /// Makes a node a subscriber on its first operation. When the namespace is opened, the listener cannot receive
    /// events yet.
    pub(crate) fn subscribe(&mut self, node: NodeId) {
        if let Some(member) = self.listeners.get_mut(&node)
            && !member.subscribed
        {
            member.subscribed = true;
            self.events.push_back((Weak::clone(&member.listener), BusEvent::Subscribed));
        }
    }

    /// Whether there are events that have not been delivered.
    pub(crate) fn events_wait(&self) -> bool {
        !self.events.is_empty()
    }

    pub(crate) fn push(&mut self, to: To, event: &BusEvent) {
        for (node, member) in &self.listeners {
            let meant = match to {
                To::Everyone => true,
                To::Node(one) => *node == one,
            };
            if meant && member.subscribed {
                self.events.push_back((Weak::clone(&member.listener), event.clone()));
            }
        }
    }
}

/// Delivers the events in an outbox.
#[derive(Debug, Default)]
pub(crate) struct Courier(Mutex<()>);

impl Courier {
    /// Delivers until the outbox is empty, unless another caller is delivering.
    ///
    /// Only one caller at a time delivers, which keeps the order. If another caller is delivering, a caller leaves its
    /// events to that one. So a listener may call operations. The last check is outside the courier's lock:
    ///
    /// 1. A finds the outbox empty; 2. B adds an event and finds A busy; 3. A lets go.
    pub(crate) fn run<S>(&self, state: &Mutex<S>, outbox: impl Fn(&mut S) -> &mut Outbox) {
        loop {
            let Some(busy) = self.0.try_lock() else { return };
            loop {
                let next = outbox(&mut state.lock()).events.pop_front();
                let Some((listener, event)) = next else { break };
                if let Some(listener) = listener.upgrade() {
                    // A panic of one node, in a value's `Drop` for instance, must not reach other nodes or the caller.
                    let _ = catch_unwind(AssertUnwindSafe(|| listener.notify(event)));
                }
            }
            drop(busy);
            if !outbox(&mut state.lock()).events_wait() {
                return;
            }
        }
    }
}
