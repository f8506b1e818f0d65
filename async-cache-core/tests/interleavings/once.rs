//! What is stored, and answers nobody, is loaded once in the fleet: whoever has found it looks for its successor.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_cache_core::backend::Filled;
use async_cache_core::testing::{No, until};
use async_cache_memory::MemoryBackend;
use bytes::Bytes;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::stage::{Cache, Holder, Stage};
use crate::{key, tier};

/// Why what is stored does not answer.
#[derive(Clone, Copy, Debug)]
enum Useless {
    /// It has ended, by the time that it carries, and the server has not thrown it out yet.
    Ended,
    /// One byte of it is another one.
    Corrupt,
}

const USELESS: [Useless; 2] = [Useless::Ended, Useless::Corrupt];

/// How the second node asks.
#[derive(Clone, Copy, Debug)]
enum Verb {
    One,
    Optional,
    Many,
}

const VERBS: [Verb; 3] = [Verb::One, Verb::Optional, Verb::Many];

/// Loads: each brings its number, once it may.
#[derive(Clone)]
struct Loads {
    begun: Arc<AtomicU64>,
    may_end: Arc<Semaphore>,
}

impl Loads {
    fn new() -> Self {
        Self { begun: Arc::default(), may_end: Arc::new(Semaphore::new(0)) }
    }

    fn begun(&self) -> u64 {
        self.begun.load(Ordering::SeqCst)
    }

    async fn run(self) -> u64 {
        let number = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
        let _may_end = self.may_end.acquire().await;
        number
    }
}

/// Asks on a node.
fn ask(node: &Cache, verb: Verb, loads: &Loads) -> JoinHandle<Option<u64>> {
    let (node, loads) = (node.clone(), loads.clone());
    tokio::spawn(async move {
        match verb {
            Verb::One => {
                let load = move || async move { Ok::<_, No>(loads.run().await) };
                Some(*node.get_or_load("k", load).await.unwrap())
            }
            Verb::Optional => {
                let load = move || async move { Ok::<_, No>(Some(loads.run().await)) };
                node.get_or_load_optional("k", load).await.unwrap().as_deref().copied()
            }
            Verb::Many => {
                let load = move |keys: Vec<String>| async move {
                    let number = loads.run().await;
                    Ok::<_, No>(keys.into_iter().map(|key| (key, number)).collect::<HashMap<_, _>>())
                };
                let found = node.get_many_or_load(&["k".to_owned()], load).await.unwrap();
                found[0].as_deref().copied()
            }
        }
    })
}

/// Stores under the key what answers nobody, for as long as a minute.
async fn store(useless: Useless, tier: &MemoryBackend<Bytes>) {
    let stage = Stage::on(tier);
    let node = stage.bare_node();
    node.insert("k", 0).ttl(Duration::from_secs(1)).await.unwrap();
    let mut holder = Holder::beside(&stage);
    let frame = holder.frame(&key()).await;
    let frame = match useless {
        Useless::Ended => {
            tokio::time::sleep(Duration::from_secs(2)).await;
            frame
        }
        Useless::Corrupt => {
            let mut bytes = frame.to_vec();
            *bytes.last_mut().unwrap() ^= 1;
            Bytes::from(bytes)
        }
    };
    let lease = holder.lease(&key()).await;
    assert!(matches!(holder.fill(&key(), lease, &frame).await, Filled::Stored { .. }));
    node.shutdown().await;
}

/// 1. two nodes find it; 2. one is granted the lease, and the other waits; 3. the load ends.
#[tokio::test(start_paused = true)]
async fn who_has_waited_has_what_was_loaded_meanwhile() {
    for (useless, verb) in USELESS.into_iter().flat_map(|useless| VERBS.map(|verb| (useless, verb))) {
        let (tier, loads) = (tier(), Loads::new());
        store(useless, &tier).await;
        let (first, second) = (Stage::on(&tier).node().await, Stage::on(&tier).node().await);
        let leads = ask(&first, Verb::One, &loads);
        until("the first loads", || loads.begun() == 1).await;
        let waits = ask(&second, verb, &loads);
        until("the second waits", || second.stats().lease_waits == 1).await;
        loads.may_end.add_permits(100);
        assert_eq!((leads.await.unwrap(), waits.await.unwrap()), (Some(1), Some(1)), "{useless:?}, {verb:?}");
        assert_eq!(loads.begun(), 1, "{useless:?}, {verb:?}");
    }
}

/// 1. a node reads it, and the answer is slow; 2. another loads its successor; 3. the answer arrives.
#[tokio::test(start_paused = true)]
async fn who_has_been_overtaken_has_what_was_loaded_meanwhile() {
    for useless in USELESS {
        let (tier, loads) = (tier(), Loads::new());
        store(useless, &tier).await;
        let stage = Stage::on(&tier);
        let (first, second) = (Stage::on(&tier).node().await, stage.node().await);
        loads.may_end.add_permits(100);
        stage.answers_are_late();
        let late = ask(&second, Verb::Many, &loads);
        stage.an_answer_is_on_its_way().await;
        assert_eq!(ask(&first, Verb::One, &loads).await.unwrap(), Some(1), "{useless:?}");
        stage.answers_arrive();
        assert_eq!(late.await.unwrap(), Some(1), "{useless:?}");
        assert_eq!(loads.begun(), 1, "{useless:?}");
    }
}
