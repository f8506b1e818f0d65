//! The phases of a run: all instances ready, one cold key, traffic, the end.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::clock;
use crate::fleet::Fleet;
use crate::messages::{Command, Message};
use crate::progress::Progress;
use crate::referee::Referee;
use crate::rush::{Rush, soon};

/// Tasks that ask for the cold key, over all instances.
pub(crate) const COLD_TASKS: u32 = 1000;
/// The duration of its query.
pub(crate) const COLD_QUERY_MS: u64 = 100;
/// Instances report every few milliseconds, so a longer silence is a failure.
const SILENCE: Duration = Duration::from_secs(30);

/// Leads the instances through a run.
pub(crate) struct Conductor {
    pub(crate) fleet: Fleet,
    pub(crate) referee: Arc<Mutex<Referee>>,
    pub(crate) progress: Progress,
    heard: Heard,
}

/// How many instances have reached which phase.
#[derive(Debug, Default)]
struct Heard {
    ready: usize,
    cold: usize,
    traffic_ended: usize,
    finished: usize,
}

impl Conductor {
    pub(crate) fn new(fleet: Fleet, referee: Arc<Mutex<Referee>>, progress: Progress) -> Self {
        Self { fleet, referee, progress, heard: Heard::default() }
    }

    /// Waits until every instance serves.
    pub(crate) async fn ready(&mut self) -> Result<(), String> {
        while self.heard.ready < self.fleet.len() {
            self.next().await?;
        }
        Ok(())
    }

    /// Makes all instances ask for a key that no tier has, at the same moment.
    pub(crate) async fn cold_key(&mut self, product: u32) -> Result<(), String> {
        self.progress.phase(&format!(
            "{COLD_TASKS} tasks ask for one cold product; its query takes {COLD_QUERY_MS} ms"
        ));
        let (at, fleet) = (soon(), self.fleet.len() as u32);
        for (index, instance) in (0..).zip(&self.fleet.commands) {
            let tasks = COLD_TASKS / fleet + u32::from(index < COLD_TASKS % fleet);
            let command = Command::ColdKey(Rush { product, tasks, at, query_ms: COLD_QUERY_MS });
            let _ = instance.send(command).await;
        }
        while self.heard.cold < self.fleet.len() {
            self.next().await?;
        }
        // Its events must arrive before those of the traffic are counted.
        let now = clock::now();
        while self.referee.lock().settled() < now {
            self.next().await?;
        }
        Ok(())
    }

    /// Sends traffic until it ends by itself, or `stop` ends it.
    pub(crate) async fn traffic(
        &mut self,
        seconds: Option<f64>,
        stop: impl Future<Output = ()>,
    ) -> Result<(), String> {
        self.referee.lock().begin_traffic();
        self.tell(Command::Traffic { seconds }).await;
        let mut stop = std::pin::pin!(stop);
        let mut stopped = false;
        while self.heard.traffic_ended < self.fleet.len() {
            tokio::select! {
                outcome = self.next() => outcome?,
                () = &mut stop, if !stopped => {
                    stopped = true;
                    self.tell(Command::Stop).await;
                }
            }
        }
        Ok(())
    }

    /// Ends the instances, and takes their last reports.
    pub(crate) async fn finish(&mut self) -> Result<(), String> {
        self.tell(Command::Finish).await;
        while self.heard.finished < self.fleet.len() {
            self.next().await?;
        }
        self.referee.lock().settle();
        self.progress.finish();
        Ok(())
    }

    async fn tell(&self, command: Command) {
        for instance in &self.fleet.commands {
            // An instance that has ended has reported that.
            let _ = instance.send(command.clone()).await;
        }
    }

    /// Takes one message. Cancelling it loses none.
    async fn next(&mut self) -> Result<(), String> {
        let message = tokio::time::timeout(SILENCE, self.fleet.messages.recv()).await;
        let Ok(Some((instance, message))) = message else {
            return Err(format!("no instance has reported anything for {SILENCE:?}"));
        };
        match message {
            Message::Ready => self.heard.ready += 1,
            Message::Cold(cold) => {
                self.heard.cold += 1;
                self.referee.lock().cold.add(cold);
            }
            Message::Batch { events, complete_to, tiers } => {
                let mut referee = self.referee.lock();
                referee.take(instance, events, complete_to, tiers);
                self.progress.traffic(&referee.seen);
            }
            // Only instances that serve send these.
            Message::Reply { .. } | Message::Notice(_) => {}
            Message::TrafficEnded => self.heard.traffic_ended += 1,
            Message::Finished => self.heard.finished += 1,
            Message::Failed(why) => return Err(why),
        }
        Ok(())
    }
}
