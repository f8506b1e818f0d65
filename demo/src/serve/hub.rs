//! The instances as the server knows them.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::{Semaphore, mpsc, watch};

use crate::database::{Database, Health};
use crate::fleet::{Children, Fleet};
use crate::messages::{Command, Message};
use crate::orders::{Faults, Order, Reply};
use crate::own_redis::OwnRedis;
use crate::referee::Referee;
use crate::serve::answer::Refusal;
use crate::serve::asked::{Asked, REPLY_WITHIN, gone};
use crate::serve::pulse::Pulse;
use crate::writer::Writers;

/// Most orders under way.
const MAX_ORDERS: usize = 512;
/// Most entries of the log.
const MAX_LOG: usize = 30;
/// The time that the instances have to start.
const START_WITHIN: Duration = Duration::from_secs(30);

/// What stays the same while the server runs.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Facts {
    pub(crate) mode: String,
    pub(crate) tier: Tier,
    pub(crate) instances: u16,
    pub(crate) products: u32,
    /// A product without traffic.
    pub(crate) quiet: u32,
    pub(crate) ttl_s: f64,
    pub(crate) query_ms: u16,
    /// Requests per second of the demo's own traffic.
    pub(crate) rate: u32,
    /// Whether the database has an outbox.
    pub(crate) outbox: bool,
}

/// The shared tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Tier {
    Memory,
    /// Redis, started by the demo: it may be stopped.
    OwnRedis,
    /// A Redis that others may use: it is never stopped.
    ForeignRedis,
}

impl Tier {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Memory => "the shared tier",
            Self::OwnRedis | Self::ForeignRedis => "Redis",
        }
    }
}

/// What the server has besides the instances.
pub(crate) struct Rest {
    /// The rows themselves.
    pub(crate) truth: Database,
    /// Redis, if the demo has started it.
    pub(crate) own_redis: Option<OwnRedis>,
    /// Processes that are killed after their commit, if there is an outbox.
    pub(crate) writers: Option<Writers>,
}

/// What is broken on purpose.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Switches {
    /// For each instance, whether its subscriber is cut.
    pub(crate) cut: Vec<bool>,
    pub(crate) tier_stopped: bool,
    pub(crate) database: Health,
}

/// A line of the log.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Entry {
    /// Raised by one with each line.
    pub(crate) number: u64,
    /// Seconds since the start.
    pub(crate) at_s: f64,
    pub(crate) text: String,
}

/// The instances, the referee, and the switches.
pub(crate) struct Hub {
    pub(crate) facts: Facts,
    pub(crate) begun: Instant,
    pub(crate) referee: Mutex<Referee>,
    pub(crate) pulse: watch::Sender<Arc<Pulse>>,
    /// The rows themselves.
    pub(crate) truth: Database,
    pub(crate) writers: Option<Writers>,
    instances: Vec<Instance>,
    pub(crate) pending: Mutex<HashMap<u64, Pending>>,
    next_order: AtomicU64,
    orders: Semaphore,
    turn: AtomicUsize,
    switches: Mutex<Switches>,
    /// One change of the switches at a time.
    switching: tokio::sync::Mutex<()>,
    /// One change at a time whose arrival is watched: each instance waits for a newer version, whoever makes it.
    pub(crate) watching: tokio::sync::Mutex<()>,
    own_redis: Option<OwnRedis>,
    log: Mutex<(u64, VecDeque<Entry>)>,
    messages: Mutex<Option<mpsc::Receiver<(u16, Message)>>>,
    children: Mutex<Option<Children>>,
}

struct Instance {
    commands: mpsc::Sender<Command>,
    alive: AtomicBool,
    ready: AtomicBool,
}

/// An order that waits for its replies.
pub(crate) struct Pending {
    instance: u16,
    replies: mpsc::Sender<Reply>,
}

impl Hub {
    pub(crate) fn new(facts: Facts, fleet: Fleet, referee: Referee, rest: Rest) -> Arc<Self> {
        let Rest { truth, own_redis, writers } = rest;
        let (commands, messages, children) = fleet.into_parts();
        let instance =
            |commands| Instance { commands, alive: AtomicBool::new(true), ready: AtomicBool::new(false) };
        let instances: Vec<_> = commands.into_iter().map(instance).collect();
        let switches = Switches { cut: vec![false; instances.len()], ..Switches::default() };
        Arc::new(Self {
            facts,
            begun: Instant::now(),
            referee: Mutex::new(referee),
            pulse: watch::Sender::default(),
            truth,
            writers,
            instances,
            pending: Mutex::default(),
            next_order: AtomicU64::new(0),
            orders: Semaphore::new(MAX_ORDERS),
            turn: AtomicUsize::new(0),
            switches: Mutex::new(switches),
            switching: tokio::sync::Mutex::new(()),
            watching: tokio::sync::Mutex::new(()),
            own_redis,
            log: Mutex::default(),
            messages: Mutex::new(Some(messages)),
            children: Mutex::new(Some(children)),
        })
    }

    /// Waits until every instance serves, and begins the traffic.
    pub(crate) async fn begin(self: &Arc<Self>) -> Result<(), String> {
        let messages = self.messages.lock().take().expect("it begins once");
        tokio::spawn(Arc::clone(self).hear(messages));
        let begun = Instant::now();
        while !self.instances.iter().all(|instance| instance.ready.load(Ordering::Relaxed)) {
            if begun.elapsed() > START_WITHIN {
                return Err(format!("an instance did not start within {START_WITHIN:?}"));
            }
            if let Some(gone) = (0..self.len()).find(|instance| !self.is_alive(*instance)) {
                return Err(format!("instance {} has ended: {}", gone + 1, self.last_word()));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        for instance in &self.instances {
            let _ = instance.commands.send(Command::Traffic { seconds: None }).await;
        }
        self.note(format!("{} instances serve", self.len()));
        Ok(())
    }

    /// Ends the instances.
    pub(crate) async fn finish(&self) {
        if let Some(redis) = self.own_redis.as_ref().filter(|_| self.switches().tier_stopped) {
            let _ = redis.set_stopped(false);
        }
        for instance in &self.instances {
            let _ = instance.commands.try_send(Command::Finish);
        }
        let ended = async {
            while (0..self.len()).any(|instance| self.is_alive(instance)) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let _ = tokio::time::timeout(Duration::from_secs(2), ended).await;
        drop(self.children.lock().take());
    }

    pub(crate) fn len(&self) -> u16 {
        self.facts.instances
    }

    pub(crate) fn is_alive(&self, instance: u16) -> bool {
        self.instances[usize::from(instance)].alive.load(Ordering::Relaxed)
    }

    /// The instances that have not ended.
    pub(crate) fn living(&self) -> Vec<u16> {
        (0..self.len()).filter(|instance| self.is_alive(*instance)).collect()
    }

    /// The instance whose turn it is.
    pub(crate) fn next_instance(&self) -> Result<u16, Refusal> {
        let living = self.living();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let chosen = living.get(turn % living.len().max(1)).copied();
        chosen.ok_or_else(|| Refusal::unavailable("every instance has ended"))
    }

    /// Gives an instance an order. Returns its only reply.
    pub(crate) async fn ask(&self, instance: u16, order: Order) -> Result<Reply, Refusal> {
        let mut asked = self.order(instance, order).await?;
        asked.reply().await
    }

    /// Gives an instance an order. Its replies are taken from what is returned.
    pub(crate) async fn order(&self, instance: u16, order: Order) -> Result<Asked<'_>, Refusal> {
        if !self.is_alive(instance) {
            return Err(gone(instance));
        }
        let permit = self.orders.try_acquire();
        let permit =
            permit.map_err(|_| Refusal::unavailable(format!("{MAX_ORDERS} requests are under way")))?;
        let id = self.next_order.fetch_add(1, Ordering::Relaxed);
        let (replies, receiver) = mpsc::channel(2);
        self.pending.lock().insert(id, Pending { instance, replies });
        let asked = Asked { hub: self, id, instance, replies: receiver, permit };
        let commands = &self.instances[usize::from(instance)].commands;
        match tokio::time::timeout(REPLY_WITHIN, commands.send(Command::Order { id, order })).await {
            Ok(Ok(())) => Ok(asked),
            Ok(Err(_)) | Err(_) => Err(gone(instance)),
        }
    }

    pub(crate) fn switches(&self) -> Switches {
        self.switches.lock().clone()
    }

    /// Breaks or mends something, on every instance that it concerns. The switches show it afterwards.
    pub(crate) async fn switch(&self, change: impl FnOnce(&mut Switches)) -> Result<(), Refusal> {
        let _one_at_a_time = self.switching.lock().await;
        let before = self.switches();
        let mut after = before.clone();
        change(&mut after);
        if let Some(redis) = self.own_redis.as_ref().filter(|_| before.tier_stopped != after.tier_stopped) {
            redis.set_stopped(after.tier_stopped).map_err(Refusal::unavailable)?;
        }
        for instance in self.living() {
            let faults = Faults {
                subscriber_cut: after.cut[usize::from(instance)],
                tier_stopped: after.tier_stopped && self.facts.tier == Tier::Memory,
                database: after.database,
            };
            let done = self.ask(instance, Order::Faults(faults)).await;
            // One that has ended meanwhile needs no switch.
            if self.is_alive(instance) {
                done?;
            }
        }
        *self.switches.lock() = after;
        Ok(())
    }

    /// Adds a line to the log.
    pub(crate) fn note(&self, text: impl Into<String>) {
        let mut log = self.log.lock();
        let (count, entries) = &mut *log;
        *count += 1;
        let at_s = self.begun.elapsed().as_secs_f64();
        entries.push_front(Entry { number: *count, at_s, text: text.into() });
        entries.truncate(MAX_LOG);
    }

    /// The log, the last line first.
    pub(crate) fn log(&self) -> Vec<Entry> {
        self.log.lock().1.iter().cloned().collect()
    }

    fn last_word(&self) -> String {
        self.log().into_iter().next().map_or_else(String::new, |entry| entry.text)
    }

    /// Takes the messages of all instances.
    async fn hear(self: Arc<Self>, mut messages: mpsc::Receiver<(u16, Message)>) {
        while let Some((instance, message)) = messages.recv().await {
            let seat = &self.instances[usize::from(instance)];
            match message {
                Message::Ready => seat.ready.store(true, Ordering::Relaxed),
                Message::Batch { events, complete_to, tiers } => {
                    self.referee.lock().take(instance, events, complete_to, tiers);
                }
                Message::Reply { id, reply } => {
                    if let Some(pending) = self.pending.lock().get(&id) {
                        let _ = pending.replies.try_send(reply);
                    }
                }
                Message::Notice(text) => self.note(format!("Instance {}: {text}", instance + 1)),
                Message::Cold(_) | Message::TrafficEnded => {}
                Message::Finished => seat.alive.store(false, Ordering::Relaxed),
                Message::Failed(why) => {
                    seat.alive.store(false, Ordering::Relaxed);
                    self.note(format!("Instance {} has ended: {why}", instance + 1));
                    self.pending.lock().retain(|_, pending| pending.instance != instance);
                    self.referee.lock().dismiss(instance);
                }
            }
        }
    }
}
