//! The memory of a namespace, put aside and brought back: a server that restarts from a snapshot.

use std::collections::HashMap;

use async_cache_core::backend::RunId;
use async_cache_core::key::Key;

use super::{Partition, State, Store, Stored};

/// What a namespace held at one moment.
#[derive(Clone)]
pub(crate) struct Image {
    run: RunId,
    partitions: Vec<Partition>,
    values: HashMap<Key, Stored>,
}

impl State {
    pub(crate) fn image(&self) -> Image {
        let values = self.values.iter().map(|(key, stored)| ((*key).clone(), stored)).collect();
        Image { run: self.run, partitions: self.partitions.clone(), values }
    }
}

impl Store {
    /// The memory becomes an older one, and the process goes on: nobody is told.
    pub(crate) fn revert(&self, image: &Image) {
        let mut state = self.state.lock();
        let run = state.run;
        Self::replace(&mut state, Some(image));
        state.run = run;
    }

    /// Replaces the memory; the next operation finds it so.
    pub(crate) fn restart(&self, image: Option<&Image>) {
        {
            let mut state = self.state.lock();
            Self::replace(&mut state, image);
            state.outbox.resubscribe();
        }
        self.courier.run(&self.state, |state| &mut state.outbox);
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
