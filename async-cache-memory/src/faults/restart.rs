//! A server process that restarts, or goes on with older memory.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use async_cache_core::backend::{BusEvent, RunId};
use async_cache_core::key::Key;

use crate::store::deliver::To;
use crate::store::partition::Partition;
use crate::store::state::{State, Stored};
use crate::store::{Store, Stores};

/// The content of a shared tier at one moment.
#[derive(Clone, Default)]
pub struct Snapshot(HashMap<String, Image>);

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// The content of the namespaces now.
pub(crate) fn snapshot(stores: &Stores) -> Snapshot {
    let namespaces = stores.namespaces.lock();
    Snapshot(namespaces.iter().map(|(name, store)| (name.clone(), image(&store.state.lock()))).collect())
}

/// Goes on as the same server process with older memory.
pub(crate) fn revert(stores: &Stores, snapshot: &Snapshot) {
    for (name, store) in &*stores.namespaces.lock() {
        if let Some(image) = snapshot.0.get(name) {
            store.revert(image);
        }
    }
}

/// Goes on as another server process.
pub(crate) fn restart(stores: &Stores, snapshot: Option<&Snapshot>) {
    stores.run.fetch_add(1, Ordering::SeqCst);
    for (name, store) in &*stores.namespaces.lock() {
        let image = snapshot.and_then(|snapshot| snapshot.0.get(name));
        store.restart(image);
    }
}

/// The content of a namespace at one moment.
#[derive(Clone)]
struct Image {
    run: RunId,
    partitions: Vec<Partition>,
    values: HashMap<Key, Stored>,
}

fn image(state: &State) -> Image {
    let values = state.values.iter().map(|(key, stored)| ((*key).clone(), stored)).collect();
    Image { run: state.run, partitions: state.partitions.clone(), values }
}

impl Store {
    /// Replaces the memory by an older one of the same process. No node is told.
    fn revert(&self, image: &Image) {
        let mut state = self.state.lock();
        let run = state.run;
        Self::replace(&mut state, Some(image));
        state.run = run;
    }

    /// Replaces the memory. The next operation finds the new one.
    fn restart(&self, image: Option<&Image>) {
        {
            let mut state = self.state.lock();
            Self::replace(&mut state, image);
            // Every subscription was lost and made again.
            for event in [BusEvent::Lost, BusEvent::Subscribed] {
                state.outbox.push(To::Everyone, &event);
            }
        }
        self.deliver();
    }

    fn replace(state: &mut State, image: Option<&Image>) {
        let held: Vec<_> = state.values.iter().map(|(key, _)| key).collect();
        held.iter().for_each(|key| state.values.invalidate(key.as_bytes()));
        match image {
            Some(image) => {
                state.run = image.run;
                state.partitions.clone_from(&image.partitions);
                image.values.iter().for_each(|(key, stored)| {
                    state.values.insert(key.clone(), stored.clone());
                });
            }
            None => {
                state.run = RunId(0);
                let count = state.partitions.len();
                state.partitions = vec![Partition::default(); count];
            }
        }
    }
}
