//! The builder of a cache. It takes the tiers, the namespace and the options, and validates them once.

use std::marker::PhantomData;
use std::sync::{Arc, Weak};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::api::background;
use crate::api::cache::{TieredCache, first_handle};
use crate::backend::{Backend, Known, Listener, LocalBackend, NodeId, RegionSpec, check_runtime};
use crate::changes::listener::EarlyEventBuffer;
use crate::error::{Error, ErrorKind, Result};
#[cfg(feature = "testing")]
use crate::faults::mutant::Mutant;
use crate::faults::mutant::Switch;
use crate::format::codec::{Bincode, Codec, RoundTrip};
use crate::format::frame::{FORMAT_VERSION, Format};
use crate::inner::{Inner, Policy};
use crate::liveness::lifecycle::Lifecycle;
use crate::liveness::node::Node;
use crate::liveness::state::Liveness;
use crate::local::l1::L1;
use crate::observe::{LoadFailureLog, Observer};
use crate::options::{
    Defaults, Options, OutagePolicy, Verify, load_setters, negative_setters, stale_setters, store_setters,
};
use crate::remote::l2::{L2, MissRate};

/// The maximum length of a namespace, in bytes.
pub const MAX_NAMESPACE_BYTES: usize = 128;

/// The namespace of a cache without an L2, if none is given.
const DEFAULT_NAMESPACE: &str = "default";

/// Builds a [`TieredCache`].
#[must_use = "nothing is built until `build` is called"]
pub struct TieredCacheBuilder<K, V> {
    namespace: Option<String>,
    l1: Option<OpenL1<V>>,
    l2: Option<SharedTier<V>>,
    schema: Option<String>,
    schema_version: u32,
    options: Options,
    outage: OutagePolicy,
    max_staleness: Duration,
    heartbeat: Option<Duration>,
    failure_log: LoadFailureLog,
    verify: Option<Verify<V>>,
    switch: Switch,
    _key: PhantomData<fn(&K)>,
}

/// A function that opens the L1 for the cache of a namespace.
type OpenL1<V> = Box<dyn FnOnce(&str) -> Result<Box<dyn LocalBackend<V>>> + Send + Sync>;

struct SharedTier<V> {
    backend: Arc<dyn Backend>,
    codec: Arc<dyn Codec<V>>,
}

impl<K, V: Send + Sync + 'static> TieredCacheBuilder<K, V> {
    pub(crate) fn new() -> Self {
        Self {
            namespace: None,
            l1: None,
            l2: None,
            schema: None,
            schema_version: 0,
            options: Options::default(),
            outage: OutagePolicy::default(),
            max_staleness: Duration::from_secs(1),
            heartbeat: None,
            failure_log: LoadFailureLog::default(),
            verify: None,
            switch: Switch::default(),
            _key: PhantomData,
        }
    }

    /// Sets the name of the cache: 1 to 128 bytes, without control characters, `{` or `}`. It is the prefix of
    /// every key in L2 and the label of every metric.
    ///
    /// It is required with an [`l2`](Self::l2), because other services use the same server, and two caches with
    /// the same namespace share their entries. Without an L2 the default is `default`.
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = Some(namespace.into());
        self
    }

    /// Sets L1, the tier in this process. It belongs to this cache alone: see [`LocalBackend::open`].
    pub fn l1(mut self, l1: impl LocalBackend<V>) -> Self {
        self.l1 = Some(Box::new(|namespace| l1.open(namespace)));
        self
    }

    /// Sets L2, the tier that is shared with other nodes, with the default codec [`Bincode`].
    pub fn l2(self, l2: impl Backend) -> Self
    where
        V: Serialize + DeserializeOwned,
    {
        self.l2_with(l2, Bincode)
    }

    /// Sets L2, the tier that is shared with other nodes, and the codec for its values.
    pub fn l2_with(mut self, l2: impl Backend, codec: impl Codec<V>) -> Self {
        self.l2 = Some(SharedTier { backend: Arc::new(l2), codec: Arc::new(codec) });
        self
    }

    /// Sets the name of the value type: 1 to 128 bytes without control characters. All nodes of a namespace
    /// must use the same name. A node with another name is refused with [`ErrorKind::Config`]. So two services
    /// that use the same namespace by accident do not read each other's values.
    ///
    /// The default is the name of `V` without its modules, such as `Vec<User>`. If you rename the type, keep
    /// its old name here: `.schema("User")`.
    pub fn schema(mut self, name: impl Into<String>) -> Self {
        self.schema = Some(name.into());
        self
    }

    /// Sets the version of the value type. The default is 0. A stored value of another version is a miss, and
    /// is overwritten. Invalidations reach the nodes of all versions.
    ///
    /// Raise the version if the meaning of the values changes, but the definition of the type does not. With
    /// [`Bincode`] and `Postcard`, values of another definition are not read anyway: see
    /// [`Shape`](crate::format::codec::Shape).
    pub fn schema_version(mut self, version: u32) -> Self {
        self.schema_version = version;
        self
    }

    /// Replaces the default options. The argument is a [`StoreOptions`](crate::options::StoreOptions), a
    /// [`LoadOptions`](crate::options::LoadOptions), or a pair of both.
    pub fn defaults(mut self, options: impl Into<Defaults>) -> Self {
        self.options.set(options.into());
        self
    }

    store_setters!(|this| this.options.store);
    negative_setters!(|this| this.options.store);
    load_setters!(|this| this.options.load);
    stale_setters!(|this| this.options.load);

    /// Sets the behavior while L2 cannot be reached. The default is [`OutagePolicy::ServeL1`].
    pub fn outage(mut self, policy: OutagePolicy) -> Self {
        self.outage = policy;
        self
    }

    /// Sets how failed loads are logged. The default is [`LoadFailureLog::Warn`].
    pub fn load_failure_log(mut self, log: LoadFailureLog) -> Self {
        self.failure_log = log;
        self
    }

    /// Checks a share of the hits in L1 after they were answered, in the background: see [`Verify`]. A hit that
    /// was older than `max_staleness` allows is an [`Event::StaleHit`](crate::observe::Event::StaleHit), is
    /// counted in [`Stats`](crate::observe::Stats), and is logged as a warning. By default nothing is checked.
    pub fn verify(mut self, verify: Verify<V>) -> Self {
        self.verify = Some(verify);
        self
    }

    /// Sets the bound on staleness: 20 ms to 1 hour. The default is 1 s. After an invalidation has returned,
    /// the L1 of another node may still answer with the old value for at most this time. It takes that long
    /// only if messages are lost or a process hangs.
    ///
    /// A node that cannot reach L2 keeps the bound with [`OutagePolicy::Load`] and [`OutagePolicy::Fail`], but
    /// not with the default policy.
    pub fn max_staleness(mut self, limit: Duration) -> Self {
        self.max_staleness = limit;
        self
    }

    /// Sets the time between two heartbeats: above zero, and at most half of `max_staleness`. The default is a
    /// quarter of `max_staleness`.
    pub fn heartbeat(mut self, period: Duration) -> Self {
        self.heartbeat = Some(period);
        self
    }

    /// Switches one safeguard of this cache off, to show that a test finds the fault.
    #[cfg(feature = "testing")]
    #[doc(hidden)]
    pub fn mutant(mut self, mutant: Mutant) -> Self {
        self.switch.off = Some(mutant);
        self
    }

    /// Sets the number of slots in the table of invalidated tags. Half of them are used. The number is rounded
    /// up to a power of two.
    #[cfg(feature = "testing")]
    #[doc(hidden)]
    pub fn tag_slots(mut self, slots: usize) -> Self {
        self.switch.tag_slots = Some(slots.next_power_of_two());
        self
    }

    /// Builds the cache and starts its background tasks. This does no I/O. If L2 cannot be reached, or if other
    /// nodes use it with another codec, the first use of the cache shows it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`], with a message that names the fault: no tier, no Tokio runtime, a bad namespace,
    /// a bad option, or a namespace that is already open on the same backend. A `RedisBackend` is one node of a
    /// namespace. For two nodes in one process, connect twice, or give both caches a clone of one
    /// `MemoryBackend`.
    pub fn build(self) -> Result<TieredCache<K, V>> {
        self.validate().map_err(|error| match self.namespace.as_deref() {
            Some(name) if (1..=MAX_NAMESPACE_BYTES).contains(&name.len()) => error.in_namespace(name),
            _ => error,
        })?;
        let heartbeat = self.heartbeat.unwrap_or(self.max_staleness / 4);
        let (inner, early_events) = self.assemble()?;
        let inner = Arc::new(inner);
        early_events.open(&inner);
        #[cfg(feature = "metrics")]
        crate::observe::describe();
        let here = Arc::downgrade(&inner);
        inner.lifecycle.background.start(move || {
            let Some(inner) = here.upgrade() else { return };
            // The tasks of an earlier runtime may have ended in the middle of a resync.
            inner.local.liveness.node.resync.notify_one();
            background::start(&inner, heartbeat);
        });
        Ok(first_handle(inner))
    }

    /// Returns the cache without its background tasks, and its listener, which is still closed.
    pub(crate) fn assemble(self) -> Result<(Inner<V>, Arc<EarlyEventBuffer<V>>)> {
        let id = NodeId::random();
        let early_events = EarlyEventBuffer::closed();
        let namespace: Arc<str> = self.namespace.as_deref().unwrap_or(DEFAULT_NAMESPACE).into();
        let in_namespace = |error: Error| error.in_namespace(&namespace);
        let known = Known::default();
        let engine = self.l1.map(|open| open(&namespace)).transpose().map_err(in_namespace)?;
        let schema: Arc<str> = self.schema.unwrap_or_else(type_name::<V>).into();
        let opened = self.l2.map(|tier| {
            let record = format!("async-cache/{FORMAT_VERSION} {} {schema}", tier.codec.name());
            let spec = RegionSpec { known: known.clone(), ..RegionSpec::new(&*namespace, id, record) };
            let listener: Weak<dyn Listener> =
                Arc::downgrade(&(Arc::clone(&early_events) as Arc<dyn Listener>));
            Ok((tier.backend.open(spec, listener)?, tier.codec))
        });
        let opened = opened.transpose().map_err(in_namespace)?;
        let mut node = match &opened {
            Some((region, _)) => {
                Node::new(id, region.info().partitions, &known, self.max_staleness, self.switch)
            }
            None => Node::alone(id, self.switch),
        };
        if self.verify.is_some() {
            node = node.watched();
        }
        let observer = Observer::new(Arc::clone(&namespace), self.failure_log, &self.outage);
        let region = opened.as_ref().map(|(region, _)| Arc::clone(region));
        let liveness = Liveness::new(node, Arc::clone(&observer), region, engine.is_some());
        let local = L1::new(engine, liveness, self.outage, self.verify, opened.is_some());
        let remote = opened.map(|(region, codec)| {
            let shape = codec.shape();
            let format = Format::new(codec.name(), self.schema_version, shape.digest);
            let (round_trip, miss_rate) = (RoundTrip::new(shape), MissRate::default());
            L2 { region, codec, format, round_trip, schema, miss_rate, local: Arc::clone(&local) }
        });
        let lifecycle = Lifecycle::new(Arc::clone(&observer), Arc::clone(&early_events) as Arc<dyn Listener>);
        let policy = Policy { defaults: self.options, outage: self.outage, faults: self.switch };
        Ok((Inner { observer, local, remote, policy, lifecycle }, early_events))
    }

    fn validate(&self) -> Result<()> {
        let wrong = |message: &str| Err(Error::new(ErrorKind::Config, message));
        check_runtime("building a cache")?;
        if self.l1.is_none() && self.l2.is_none() {
            return wrong("a cache needs a tier: call `l1`, `l2` or both");
        }
        let namespace = match self.namespace.as_deref() {
            Some(namespace) => namespace,
            None if self.l2.is_some() => {
                return wrong(
                    "a cache with an L2 needs a namespace, or it shares its keys with every other cache there: call `.namespace(\"..\")` with a name of its own",
                );
            }
            None => DEFAULT_NAMESPACE,
        };
        match namespace.len() {
            0 => return wrong("the namespace is empty: give it 1 to 128 bytes"),
            1..=MAX_NAMESPACE_BYTES => {}
            _ => return wrong("the namespace is longer than 128 bytes: shorten it"),
        }
        if namespace.chars().any(|c| c.is_control() || matches!(c, '{' | '}')) {
            return wrong(
                "the namespace contains a control character, `{` or `}`: leave them out, because Redis keys use them for other purposes",
            );
        }
        if self.schema.as_ref().is_some_and(|name| {
            !(1..=MAX_NAMESPACE_BYTES).contains(&name.len()) || name.chars().any(char::is_control)
        }) {
            return wrong("the schema's name must have 1 to 128 bytes and no control characters");
        }
        let least = Duration::from_millis(20);
        if self.max_staleness < least || self.max_staleness > Duration::from_secs(3600) {
            return wrong("option `max_staleness` must be from 20 ms to 1 hour");
        }
        if self.heartbeat.is_some_and(|period| period.is_zero() || period > self.max_staleness / 2) {
            return wrong("option `heartbeat` must be above zero and at most half of `max_staleness`");
        }
        if let Some(verify) = &self.verify {
            verify.validate(self.l1.is_some(), self.l2.is_some())?;
        }
        self.options.validate()?;
        self.options.store.check_tiers(self.l1.is_some())
    }
}

/// The name of a type without the modules of the type and of its parts, because modules move.
fn type_name<V>() -> String {
    let mut name = String::new();
    // The position in `name` where the current path begins.
    let mut begin = 0;
    for c in std::any::type_name::<V>().chars() {
        if c == ':' {
            name.truncate(begin);
            continue;
        }
        name.push(c);
        if !(c.is_alphanumeric() || c == '_') {
            begin = name.len();
        }
    }
    if name.len() > MAX_NAMESPACE_BYTES {
        let digest = xxhash_rust::xxh3::xxh3_64(name.as_bytes());
        let end = (0..=MAX_NAMESPACE_BYTES - 17).rev().find(|at| name.is_char_boundary(*at)).unwrap_or(0);
        name.truncate(end);
        name.push_str(&format!("~{digest:016x}"));
    }
    name
}

impl<K, V> std::fmt::Debug for TieredCacheBuilder<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TieredCacheBuilder")
            .field("namespace", &self.namespace)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}
