//! `DataLoader` standing alone: batching, sharing, errors, cancellation.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use async_cache_core::testing::{No, ms, until};
use async_cache_core::{DataLoader, ErrorKind};
use futures_util::future::join_all;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::time::Instant;

/// The batches a function was called with.
#[derive(Clone, Default)]
struct Calls(Arc<Mutex<Vec<Vec<u64>>>>);

impl Calls {
    fn note(&self, keys: &[u64]) {
        self.0.lock().push(keys.to_vec());
    }

    fn batches(&self) -> Vec<Vec<u64>> {
        self.0.lock().clone()
    }

    fn len(&self) -> usize {
        self.0.lock().len()
    }
}

/// Doubles its keys, after `time`.
fn doubling(calls: &Calls, time: Duration) -> DataLoader<u64, u64> {
    let calls = calls.clone();
    DataLoader::new(move |keys: Vec<u64>| {
        calls.note(&keys);
        async move {
            tokio::time::sleep(time).await;
            Ok::<HashMap<u64, u64>, No>(keys.into_iter().map(|key| (key, 2 * key)).collect())
        }
    })
}

#[tokio::test(start_paused = true)]
async fn a_thousand_keys_in_batches_of_a_hundred_take_as_long_as_one_batch() {
    let calls = Calls::default();
    let loader = doubling(&calls, ms(100)).max_batch_size(100).delay(ms(1)).build();
    let begun = Instant::now();
    let outcomes = join_all((0..1000).map(|key| tokio::spawn(loader.load(key)))).await;
    assert!(begun.elapsed() < ms(130), "{:?}", begun.elapsed());
    for (key, outcome) in (0..).zip(outcomes) {
        assert_eq!(outcome.unwrap().unwrap().as_deref(), Some(&(2 * key)));
    }
    let batches = calls.batches();
    assert_eq!(batches.len(), 10);
    assert!(batches.iter().all(|batch| batch.len() == 100), "the cap is hard");
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_is_not_full_sets_out_when_its_time_has_come() {
    let calls = Calls::default();
    let loader = doubling(&calls, Duration::ZERO).delay(ms(20));
    let begun = Instant::now();
    let first = tokio::spawn(loader.load(1));
    tokio::time::sleep(ms(15)).await;
    let second = tokio::spawn(loader.load(2));
    first.await.unwrap().unwrap();
    second.await.unwrap().unwrap();
    assert!((ms(20)..ms(25)).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    assert_eq!(calls.batches(), [vec![1, 2]]);
    // A time that came for a batch that was full before says nothing to the next.
    let loader = doubling(&calls, Duration::ZERO).max_batch_size(2).delay(ms(20));
    let full = join_all([loader.load(1), loader.load(2)]);
    full.await;
    tokio::time::sleep(ms(10)).await;
    let begun = Instant::now();
    loader.load(3).await.unwrap();
    assert!(begun.elapsed() >= ms(20), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn without_a_delay_what_is_asked_for_at_once_goes_together() {
    let calls = Calls::default();
    let loader = doubling(&calls, Duration::ZERO).delay(Duration::ZERO);
    let begun = Instant::now();
    join_all((0..10).map(|key| loader.load(key))).await;
    assert_eq!((calls.len(), begun.elapsed()), (1, Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn a_key_is_in_one_batch_once_however_often_and_whenever_it_is_asked_for() {
    let calls = Calls::default();
    let loader = doubling(&calls, ms(50)).max_batch_size(3);
    let waiting = join_all([1, 2, 1, 1, 3, 4].map(|key| tokio::spawn(loader.load(key))));
    let waiting = tokio::spawn(waiting);
    until("both batches run", || calls.len() == 2).await;
    assert_eq!(*loader.load(1).await.unwrap().unwrap(), 2, "joined");
    waiting.await.unwrap();
    assert_eq!(*loader.load(1).await.unwrap().unwrap(), 2, "remembered");
    assert_eq!(calls.batches(), [vec![1, 2, 3], vec![4]]);
    let many = loader.load_many([4, 1, 4]).await;
    let many: Vec<u64> = many.into_iter().map(|value| *value.unwrap().unwrap()).collect();
    assert_eq!(many, [8, 2, 8]);
}

#[tokio::test(start_paused = true)]
async fn the_error_of_a_batch_reaches_its_batch_alone_and_is_not_remembered() {
    let calls = Calls::default();
    let noted = calls.clone();
    let loader = DataLoader::new(move |keys: Vec<u64>| {
        noted.note(&keys);
        let fails = keys.contains(&2) && noted.len() <= 2;
        async move { if fails { Err(No(2)) } else { Ok(keys.into_iter().map(|key| (key, key)).collect()) } }
    })
    .max_batch_size(2);
    let outcomes = loader.load_many([1, 2, 3, 4]).await;
    for failed in &outcomes[..2] {
        let error = failed.as_ref().unwrap_err();
        assert_eq!((error.kind(), error.loader_error::<No>()), (ErrorKind::Loader, Some(&No(2))));
    }
    assert!(outcomes[2..].iter().all(Result::is_ok), "another batch is not concerned");
    assert_eq!(loader.load(2).await.unwrap().as_deref(), Some(&2), "asked again");
}

#[tokio::test(start_paused = true)]
async fn the_error_of_a_key_reaches_those_who_asked_for_it() {
    let calls = Calls::default();
    let noted = calls.clone();
    let loader = DataLoader::each(move |keys: Vec<u64>| {
        noted.note(&keys);
        async move {
            let outcome = |key| if key % 2 == 0 { Ok(key) } else { Err(No(7)) };
            keys.into_iter().map(|key| (key, outcome(key))).collect::<HashMap<u64, Result<u64, No>>>()
        }
    });
    let outcomes = loader.load_many([1, 2, 3]).await;
    assert_eq!(outcomes[0].as_ref().unwrap_err().loader_error::<No>(), Some(&No(7)));
    assert_eq!(outcomes[1].as_ref().unwrap().as_deref(), Some(&2));
    assert!(outcomes[2].is_err());
    assert_eq!(calls.len(), 1);
    assert!(loader.load(1).await.is_err());
    assert_eq!(calls.batches()[1], [1], "an error is not remembered, the value beside it is");
}

#[tokio::test(start_paused = true)]
async fn a_batch_function_may_fail_as_a_whole_and_by_key() {
    let loader = DataLoader::each(|keys: Vec<u64>| async move {
        if keys.contains(&0) {
            return Err(No(0));
        }
        let outcome = |key| if key == 1 { Err(No(1)) } else { Ok(key) };
        Ok::<HashMap<u64, Result<u64, No>>, No>(keys.into_iter().map(|key| (key, outcome(key))).collect())
    });
    let outcomes = loader.load_many([1, 2]).await;
    assert!(outcomes[0].is_err() && outcomes[1].is_ok());
    let outcomes = loader.load_many([0, 3]).await;
    assert!(outcomes.iter().all(|outcome| outcome.as_ref().unwrap_err().loader_error() == Some(&No(0))));
}

#[tokio::test(start_paused = true)]
async fn keys_nobody_asked_for_are_ignored() {
    let loader = DataLoader::new(|keys: Vec<u64>| async move {
        Ok::<_, No>(keys.into_iter().flat_map(|key| [(key, key), (key + 1, 0)]).collect())
    });
    assert_eq!(loader.load(1).await.unwrap().as_deref(), Some(&1));
    assert_eq!(loader.load(2).await.unwrap().as_deref(), Some(&2), "not the value that came with 1");
}

#[tokio::test(start_paused = true)]
async fn a_panic_and_a_hang_strand_nobody() {
    let loader = DataLoader::new(|keys: Vec<u64>| async move {
        if keys.contains(&1) {
            panic!("out of cheese");
        }
        std::future::pending::<()>().await;
        Ok::<HashMap<u64, u64>, No>(HashMap::new())
    })
    .max_batch_size(2)
    .load_timeout(ms(200));
    let begun = Instant::now();
    let outcomes = loader.load_many([1, 2, 3, 4]).await;
    let kinds: Vec<_> = outcomes.iter().map(|outcome| outcome.as_ref().unwrap_err().kind()).collect();
    assert_eq!(kinds[..2], [ErrorKind::LoaderPanicked; 2]);
    assert_eq!(kinds[2..], [ErrorKind::Timeout; 2]);
    assert!(outcomes[0].as_ref().unwrap_err().to_string().contains("out of cheese"));
    assert!(begun.elapsed() < ms(250));

    let at_once = DataLoader::new(|_: Vec<u64>| -> std::future::Ready<Result<HashMap<u64, u64>, No>> {
        panic!("before there is a future")
    });
    assert_eq!(at_once.load(1).await.unwrap_err().kind(), ErrorKind::LoaderPanicked);
}

#[tokio::test(start_paused = true)]
async fn callers_that_go_away_strand_nobody() {
    let calls = Calls::default();
    let loader = doubling(&calls, ms(50)).delay(ms(10));
    // The first caller, whose call began the batch, goes away before it sets out; another while it runs.
    let first = tokio::spawn(loader.load(1));
    let second = tokio::spawn(loader.load(2));
    let third = tokio::spawn(loader.load(3));
    tokio::time::sleep(ms(5)).await;
    first.abort();
    until("the batch runs", || calls.len() == 1).await;
    second.abort();
    assert_eq!(third.await.unwrap().unwrap().as_deref(), Some(&6));
    assert_eq!(loader.load(1).await.unwrap().as_deref(), Some(&2), "what was loaded for nobody is there");
    assert_eq!(calls.batches(), [vec![1, 2, 3]]);
}

#[test]
fn a_runtime_that_ends_strands_nobody_elsewhere() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (here, elsewhere) = (runtime(), runtime());
    let answers = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let ready = Arc::clone(&answers);
    let loader: DataLoader<u64, u64> = DataLoader::new(move |keys: Vec<u64>| {
        let ready = ready.load(std::sync::atomic::Ordering::SeqCst);
        async move {
            if !ready {
                std::future::pending::<()>().await;
            }
            Ok::<HashMap<u64, u64>, No>(keys.into_iter().map(|key| (key, key)).collect())
        }
    })
    .max_batch_size(2)
    .delay(ms(200));
    // Two keys in a batch that runs there, one in a batch that is being gathered there; and a
    // caller here who has joined each.
    for key in [1, 2, 3] {
        elsewhere.spawn(loader.load(key));
    }
    elsewhere.block_on(async { tokio::task::yield_now().await });
    let joined = [1, 3].map(|key| here.spawn(loader.load(key)));
    here.block_on(async { tokio::task::yield_now().await });
    drop(elsewhere);
    here.block_on(async {
        for joined in joined {
            let told = tokio::time::timeout(Duration::from_secs(10), joined).await.expect("nobody hangs");
            assert_eq!(told.unwrap().unwrap_err().kind(), ErrorKind::Shutdown);
        }
        answers.store(true, std::sync::atomic::Ordering::SeqCst);
        for outcome in join_all([loader.load(1), loader.load(3)]).await {
            assert!(outcome.is_ok(), "loaded anew");
        }
    });
}

#[tokio::test(start_paused = true)]
async fn loads_from_inside_a_batch_function_are_batched_too() {
    let calls = Calls::default();
    let noted = calls.clone();
    // Each node is the sum of the two below it; asked for through the same loader.
    let loader = Arc::new_cyclic(|own: &std::sync::Weak<DataLoader<u64, u64>>| {
        let own = own.clone();
        DataLoader::new(move |keys: Vec<u64>| {
            noted.note(&keys);
            let loader = own.upgrade().expect("held by the test").as_ref().clone();
            async move {
                let sums = keys.into_iter().map(|key| {
                    let loader = loader.clone();
                    async move {
                        if key >= 8 {
                            return Ok((key, 1));
                        }
                        let below = loader.load_many([2 * key, 2 * key + 1]).await;
                        let mut sum = 0;
                        for value in below {
                            sum += *value?.expect("every node is there");
                        }
                        Ok::<_, async_cache_core::Error>((key, sum))
                    }
                });
                futures_util::future::try_join_all(sums)
                    .await
                    .map(|sums| sums.into_iter().collect::<HashMap<_, _>>())
            }
        })
    });
    assert_eq!(*loader.load(1).await.unwrap().unwrap(), 8);
    let sizes: Vec<usize> = calls.batches().iter().map(Vec::len).collect();
    assert_eq!(sizes, [1, 2, 4, 8], "one batch a level, and nothing twice");
}

#[tokio::test(start_paused = true)]
async fn a_batch_function_that_asks_for_its_own_key_is_told_so() {
    let loader = Arc::new_cyclic(|own: &std::sync::Weak<DataLoader<u64, u64>>| {
        let own = own.clone();
        DataLoader::new(move |keys: Vec<u64>| {
            let loader = own.upgrade().expect("held by the test").as_ref().clone();
            async move {
                loader.load(keys[0]).await?;
                Ok::<HashMap<u64, u64>, async_cache_core::Error>(HashMap::new())
            }
        })
    });
    let error = loader.load(1).await.unwrap_err();
    let cause = error.loader_error::<async_cache_core::Error>().expect("the cause is there");
    assert_eq!(cause.kind(), ErrorKind::Reentrant);
}

#[tokio::test(start_paused = true)]
async fn what_is_primed_or_cleared_during_a_load_is_not_undone_by_it() {
    let (calls, go) = (Calls::default(), Arc::new(Semaphore::new(0)));
    let (noted, gate) = (calls.clone(), Arc::clone(&go));
    let loader = DataLoader::new(move |keys: Vec<u64>| {
        noted.note(&keys);
        let (gate, version) = (Arc::clone(&gate), noted.len() as u64);
        async move {
            gate.acquire().await.expect("never closed").forget();
            Ok::<HashMap<u64, u64>, No>(keys.into_iter().map(|key| (key, version)).collect())
        }
    });
    let old = tokio::spawn(loader.load_many([1, 2]));
    until("the batch runs", || calls.len() == 1).await;
    loader.prime(1, 100);
    loader.clear(&2);
    assert_eq!(loader.load(1).await.unwrap().as_deref(), Some(&100));
    let fresh = tokio::spawn(loader.load(2));
    until("the key is loaded afresh", || calls.len() == 2).await;
    go.add_permits(1);
    let old: Vec<u64> = old.await.unwrap().into_iter().map(|value| *value.unwrap().unwrap()).collect();
    assert_eq!(old, [1, 1], "those who waited get what was loaded for them");
    assert_eq!(loader.load(1).await.unwrap().as_deref(), Some(&100));
    go.add_permits(1);
    assert_eq!(fresh.await.unwrap().unwrap().as_deref(), Some(&2));
    assert_eq!(loader.load(2).await.unwrap().as_deref(), Some(&2));

    loader.clear_all();
    go.add_permits(1);
    assert_eq!(loader.load(1).await.unwrap().as_deref(), Some(&3));
}

#[tokio::test(start_paused = true)]
async fn priming_and_clearing_what_has_not_set_out() {
    let calls = Calls::default();
    let loader = doubling(&calls, Duration::ZERO).delay(ms(10));
    let (one, two) = (tokio::spawn(loader.load(1)), tokio::spawn(loader.load(2)));
    tokio::time::sleep(ms(1)).await;
    loader.prime(1, 100).await.unwrap();
    assert_eq!(one.await.unwrap().unwrap().as_deref(), Some(&100));
    loader.clear(&1).await.unwrap();
    loader.clear(&2).await.unwrap();
    let again = join_all([loader.load(1), loader.load(2)]).await;
    assert!(again.iter().all(Result::is_ok) && two.await.unwrap().is_ok());
    let distinct: BTreeSet<u64> = calls.batches()[0].iter().copied().collect();
    assert_eq!((calls.len(), calls.batches()[0].len(), distinct.len()), (1, 2, 2), "{:?}", calls.batches());
}

#[tokio::test(start_paused = true)]
async fn there_is_a_limit_on_what_waits_and_on_what_is_remembered() {
    let calls = Calls::default();
    let loader = doubling(&calls, ms(10)).max_pending(3).max_entries(2);
    let outcomes = loader.load_many(0..5).await;
    assert!(outcomes[..3].iter().all(Result::is_ok));
    for refused in &outcomes[3..] {
        let error = refused.as_ref().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Overloaded);
        assert!(error.is_temporary() && error.to_string().contains("`max_pending`"), "{error}");
    }
    for outcome in loader.load_many(0..3).await {
        outcome.unwrap();
    }
    assert_eq!(calls.batches()[1].len(), 1, "two were remembered: {:?}", calls.batches());
}
