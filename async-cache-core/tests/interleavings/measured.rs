//! What a node tells the `metrics` facade of the stages of its lookups and changes, and of its fleet.

use std::collections::HashMap;
use std::time::Duration;

use async_cache_core::testing::{Source, ms, until};
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use tokio::time::sleep;

use crate::stage::Stage;
use crate::tier;

/// What was recorded since the last look.
struct Recorded(HashMap<String, DebugValue>);

impl Recorded {
    fn by(snapshotter: &Snapshotter) -> Self {
        let all = snapshotter.snapshot().into_vec().into_iter();
        let named = all.map(|(key, _, _, value)| {
            let labels = key.key().labels().filter(|label| label.key() != "namespace");
            let labels: Vec<String> =
                labels.map(|label| format!("{}={}", label.key(), label.value())).collect();
            (
                format!("async_cache_{}", key.key().name().trim_start_matches("async_cache_"))
                    + &braced(&labels),
                value,
            )
        });
        Self(named.collect())
    }

    /// The durations in a histogram, in seconds.
    fn times(&self, name: &str) -> Vec<f64> {
        match self.0.get(name) {
            Some(DebugValue::Histogram(times)) => times.iter().map(|time| time.into_inner()).collect(),
            other => panic!("{name}: {other:?} in {:?}", self.0.keys()),
        }
    }

    fn longest(&self, name: &str) -> f64 {
        self.times(name).into_iter().fold(0.0, f64::max)
    }

    fn gauge(&self, name: &str) -> f64 {
        match self.0.get(name) {
            Some(DebugValue::Gauge(value)) => value.into_inner(),
            other => panic!("{name}: {other:?}"),
        }
    }
}

fn braced(labels: &[String]) -> String {
    if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) }
}

/// Every command of a lookup or change, by its name.
#[tokio::test(start_paused = true)]
async fn commands_have_their_durations() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let stage = Stage::on(&tier());
    let (node, row) = (stage.node().await, Source::new());
    node.get_or_load("a", move || row.now()).await.unwrap();
    node.insert("b", 1).await.unwrap();
    node.invalidate("a").await.unwrap();
    node.invalidate_tag("t").await.unwrap();
    node.invalidate_all().await.unwrap();
    let keys = ["c".to_owned(), "d".to_owned()];
    node.get_many_or_load(&keys, |keys: Vec<String>| async move {
        Ok::<_, std::io::Error>(keys.into_iter().map(|key| (key, 1)).collect::<HashMap<_, _>>())
    })
    .await
    .unwrap();
    let recorded = Recorded::by(&snapshotter);
    for (command, times) in [("fill", 2), ("put", 1), ("invalidate", 1), ("invalidate_tags", 1), ("clear", 1)]
    {
        let name = format!("async_cache_l2_write_seconds{{command={command}}}");
        assert_eq!(recorded.times(&name).len(), times, "{name}");
    }
    assert_eq!(recorded.times("async_cache_l2_read_seconds{command=lease}").len(), 2);
    assert_eq!(recorded.times("async_cache_l2_read_seconds{command=read}").len(), 2);

    stage.answers_are_late();
    let slow = tokio::spawn(async move { node.get_many(&["e".to_owned(), "f".to_owned()]).await.map(drop) });
    stage.an_answer_is_on_its_way().await;
    sleep(ms(300)).await;
    stage.answers_arrive();
    slow.await.unwrap().unwrap();
    let took = Recorded::by(&snapshotter).longest("async_cache_l2_read_seconds{command=read}");
    assert!((0.3..0.4).contains(&took), "{took}");
}

/// One waits for another task of its node, and one for the other node.
#[tokio::test(start_paused = true)]
async fn waits_have_their_durations() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let stage = Stage::on(&tier());
    let (here, there, row) = (stage.node().await, stage.beside().node().await, Source::new());
    let ask = |node: &crate::stage::Cache| {
        let (node, row) = (node.clone(), row.clone());
        tokio::spawn(async move { node.get_or_load("k", move || row.held()).await })
    };
    let leads = ask(&here);
    row.begun(1).await;
    let waits = [ask(&here), ask(&there)];
    until("the other node waits", || there.stats().lease_waits == 1).await;
    sleep(ms(700)).await;
    row.let_go(1);
    leads.await.unwrap().unwrap();
    for wait in waits {
        wait.await.unwrap().unwrap();
    }
    assert_eq!(row.loads(), 1);
    let recorded = Recorded::by(&snapshotter);
    for who in ["flight", "lease"] {
        let times = recorded.times(&format!("async_cache_wait_seconds{{for={who}}}"));
        assert_eq!(times.len(), 1, "{who}: one wait, whatever it is made of: {times:?}");
        assert!((0.7..0.8).contains(&times[0]), "{who}: {times:?}");
    }
}

/// Messages of the bus are delayed. So are the echoes of heartbeats, which come behind them.
#[tokio::test(start_paused = true)]
async fn a_slow_bus_shows_as_lag_and_as_an_old_serving_lease() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let stage = Stage::on(&tier());
    let node = stage.node().await;
    sleep(ms(3_000)).await;
    let before = Recorded::by(&snapshotter);
    assert!(before.longest("async_cache_invalidation_lag_seconds") < 0.1);
    assert!(before.gauge("async_cache_serving_lease_age_seconds") < 0.3);

    stage.hold_events();
    sleep(ms(3_000)).await;
    let held = Recorded::by(&snapshotter);
    assert!((2.0..3.5).contains(&held.gauge("async_cache_serving_lease_age_seconds")));
    assert!(!node.is_serving());
    stage.let_events_go();
    sleep(ms(1_500)).await;
    let after = Recorded::by(&snapshotter);
    let lag = after.longest("async_cache_invalidation_lag_seconds");
    assert!((2.0..3.5).contains(&lag), "{lag}");
    assert!(after.gauge("async_cache_serving_lease_age_seconds") < 0.3);
}

#[tokio::test(start_paused = true)]
async fn a_gauge_tells_that_commands_fail_at_once() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let stage = Stage::on(&tier());
    let node = stage.node().await;
    let second = Duration::from_millis(1_100);
    for (away, open) in [(false, 0.0), (true, 1.0), (false, 0.0)] {
        if away {
            stage.goes_away();
        } else {
            stage.comes_back();
        }
        sleep(second).await;
        assert_eq!(Recorded::by(&snapshotter).gauge("async_cache_l2_breaker_open"), open);
        assert_eq!(node.stats().l2_breaker_open, away);
    }
}
