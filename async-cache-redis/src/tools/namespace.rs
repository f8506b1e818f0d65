//! A namespace, opened by the record that Redis has of it.

use std::fmt;
use std::sync::{Arc, Weak};

use async_cache_core::backend::{BusEvent, Listener, NodeId, Region, RegionSpec};
use async_cache_core::key::Key;
use async_cache_core::{Error, ErrorKind, Result};
use redis::cmd;

use super::entry::{self, StoredEntry};
use super::record::Record;
use crate::backend::{Opened, RedisBackend};
use crate::commands::region::RedisRegion;
use crate::connection::failure::Failure;
use crate::limits::Purpose;

/// How often a key is inspected anew because its run token was replaced.
const TOKEN_ATTEMPTS: usize = 3;

/// A namespace that has been opened for a tool, as a node of its own that holds no values.
///
/// Dropping it ends its subscription.
pub struct Namespace {
    backend: RedisBackend,
    name: String,
    record: Record,
    node: NodeId,
    opened: Opened,
    region: Arc<dyn Region>,
}

/// The state of one partition, as Redis has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Partition {
    /// The number of the last change; `None` if it is missing or damaged.
    pub seq: Option<u64>,
    /// Values below this number are void; `None` if it is missing or damaged.
    pub floor: Option<u64>,
    /// Whether the state was written to this server process. If not, the server has been replaced or restarted since,
    /// and the next command of a node voids everything that is stored.
    pub current: bool,
    /// Whether its nodes know the server by a token in their scripts, and not by its run id.
    pub has_token: bool,
}

impl Namespace {
    /// Opens a namespace. Returns `None` if Redis has no record of it in this database: no cache has been opened under
    /// this name, or Redis has lost it since. Writes nothing.
    ///
    /// The events of the namespace's bus are delivered to `listener`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`] for an invalid name, a namespace of another program or of another version of the storage
    /// format, and a missing right. [`ErrorKind::Backend`] if Redis does not answer.
    pub async fn open(
        backend: &RedisBackend,
        name: &str,
        listener: Weak<dyn Listener>,
    ) -> Result<Option<Self>> {
        let Some(text) = read_record(backend, name).await? else { return Ok(None) };
        let record = Record::parse(&text).map_err(|why| {
            let message = format!("opening the namespace: {why}");
            Error::new(ErrorKind::Config, message).in_namespace(name)
        })?;
        let node = NodeId::random();
        let spec = RegionSpec::new(name, node, &*record.of_node);
        let opened = backend.open_region(spec, listener, record.partitions)?;
        let region: Arc<dyn Region> = match &opened {
            Opened::One(region) => Arc::clone(region) as _,
            #[cfg(feature = "cluster")]
            Opened::Cluster(region) => Arc::clone(region) as _,
        };
        Ok(Some(Self { backend: backend.clone(), name: name.to_owned(), record, node, opened, region }))
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What all nodes of the namespace have in common.
    #[must_use]
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// The identity under which it was opened.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// The operations on the namespace.
    #[must_use]
    pub fn region(&self) -> Arc<dyn Region> {
        Arc::clone(&self.region)
    }

    /// The name in Redis of the value of a key.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Backend`] if no server of a cluster is known to have it.
    pub fn name_of(&self, key: &Key) -> Result<Vec<u8>> {
        let region = at_server_of(&self.opened, key.partition(self.record.partitions), &self.name)?;
        Ok(region.names_for(key).value(key))
    }

    /// The state of a partition. Writes nothing.
    ///
    /// # Errors
    ///
    /// Those of [`open`](Self::open), and [`ErrorKind::Config`] if there is no such partition.
    pub async fn partition(&self, partition: u16) -> Result<Partition> {
        let region = at_server_of(&self.opened, partition, &self.name)?;
        read_partition(&region, partition).await
    }

    /// Everything that Redis has under a key.
    ///
    /// # Errors
    ///
    /// Those of [`open`](Self::open).
    pub async fn entry(&self, key: &Key) -> Result<StoredEntry> {
        // Scripts void everything if the server has been replaced. A tool that only looks leaves that to the nodes.
        let number = key.partition(self.record.partitions);
        let region = at_server_of(&self.opened, number, &self.name)?;
        // The token may be replaced between two commands.
        for _ in 0..TOKEN_ATTEMPTS {
            let (partition, run) = read_meta(&region, number).await?;
            if !partition.current {
                return Ok(StoredEntry::replaced());
            }
            if !partition.has_token {
                return entry::read(&region, key).await;
            }
            if let Some(entry) = entry::read_with_token(&region, key, &run).await? {
                return Ok(entry);
            }
        }
        let what = "inspecting a key: the server is replaced again and again";
        Err(Error::new(ErrorKind::Backend, what).in_namespace(&self.name))
    }

    /// The backend on which it was opened.
    #[must_use]
    pub fn backend(&self) -> &RedisBackend {
        &self.backend
    }
}

impl fmt::Debug for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Namespace").field("record", &self.record).field("region", &self.region).finish()
    }
}

/// Reads the record of a namespace, which partition 0 has, too.
async fn read_record(backend: &RedisBackend, name: &str) -> Result<Option<String>> {
    const DOING: &str = "reading the record of the namespace";
    // No event is needed, and no script is run: so the number of partitions and the record do not matter yet.
    let spec = RegionSpec::new(name, NodeId::random(), "");
    let probe = backend.open_region(spec, Weak::<Deaf>::new(), 1)?;
    let region = at_server_of(&probe, 0, name)?;
    let meta = region.names_of(0)?.meta();
    let checkout = region.checkout_without_scripts(Purpose::Read, DOING).await?;
    let mut hget = cmd("HGET");
    hget.arg(meta).arg("v");
    let text: Option<Vec<u8>> = checkout.answer(checkout.link.query(&hget)).await.map_err(|failure| {
        let failure = match failure {
            Failure::Refused { code, cause, .. } if code == "WRONGTYPE" => Failure::Refused {
                code: "BADSTATE".to_owned(),
                detail: String::from_utf8_lossy(meta).into_owned(),
                cause,
            },
            other => other,
        };
        region.error(DOING, failure)
    })?;
    Ok(text.map(|text| String::from_utf8_lossy(&text).into_owned()))
}

/// Hears nothing.
struct Deaf;

impl Listener for Deaf {
    fn notify(&self, _: BusEvent) {}
}

/// The operations at the server of a partition.
#[cfg_attr(
    not(feature = "cluster"),
    allow(unused_variables, clippy::unnecessary_wraps, reason = "only in a cluster a server may be away")
)]
fn at_server_of(opened: &Opened, partition: u16, name: &str) -> Result<Arc<RedisRegion>> {
    match opened {
        Opened::One(region) => Ok(Arc::clone(region)),
        #[cfg(feature = "cluster")]
        Opened::Cluster(region) => region.at_server_of(partition).ok_or_else(|| {
            let what = format!("no server of the cluster is known to have partition {partition}");
            Error::new(ErrorKind::Backend, what).in_namespace(name)
        }),
    }
}

async fn read_partition(region: &RedisRegion, partition: u16) -> Result<Partition> {
    Ok(read_meta(region, partition).await?.0)
}

/// Reads the state of a partition, and the run that wrote it: without a script, which would begin a new epoch after the
/// server was replaced.
async fn read_meta(region: &RedisRegion, partition: u16) -> Result<(Partition, Vec<u8>)> {
    const DOING: &str = "reading the state of the namespace";
    let names = region.names_of(partition)?;
    let checkout = region.checkout_without_scripts(Purpose::Read, DOING).await?;
    let mut hmget = cmd("HMGET");
    hmget.arg(names.meta()).arg(&["s", "f", "r"]);
    let answer = checkout.answer(checkout.link.query(&hmget)).await;
    let fields: Vec<Option<Vec<u8>>> = answer.map_err(|failure| region.error(DOING, failure))?;
    let field = |at: usize| fields.get(at)?.as_deref();
    let number = |at| std::str::from_utf8(field(at)?).ok()?.parse().ok();
    let run = field(2).unwrap_or_default();
    let has_token = run.starts_with(b"t:");
    let current = match has_token {
        true => {
            let known = checkout.answer(checkout.link.known_scripts(run)).await;
            known.map_err(|failure| region.error(DOING, failure))?.is_some()
        }
        // The run id of a connection that knows the server by its scripts is empty.
        false => !run.is_empty() && run == checkout.link.run_text().as_bytes(),
    };
    let partition = Partition { seq: number(0), floor: number(1), current, has_token };
    Ok((partition, run.to_vec()))
}
