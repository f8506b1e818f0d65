//! One namespace: the names of its keys, and the calls of scripts on them.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_cache_core::backend::RegionSpec;
use async_cache_core::key::Key;
use async_cache_core::{Error, ErrorKind, Result};
use redis::{Cmd, FromRedisValue};

use super::errors::Errors;
use crate::connection::failure::Failure;
use crate::connection::slots::Checkout;
use crate::connection::tokens::Agreed;
use crate::inner::Inner;
use crate::keys::{PartitionKeys, ValueName};
use crate::limits::Purpose;
use crate::lua::{Caller, Script};
use crate::pubsub::member::Member;

pub(crate) struct RedisRegion {
    pub(crate) inner: Arc<Inner>,
    pub(super) spec: RegionSpec,
    /// The record that is kept in `M`: the caller's record and the number of partitions.
    pub(super) record: String,
    pub(super) node: String,
    /// The names of each partition.
    pub(super) names: Arc<[PartitionKeys]>,
    /// `None` in a cluster, where each partition has a subscription of its own.
    pub(super) member: Option<Arc<Member>>,
    errors: Errors,
    /// The record has been compared in partition 0.
    checked: AtomicBool,
    /// Whether the region is closed. Then another region may have its name.
    closed: AtomicBool,
}

impl RedisRegion {
    pub(crate) fn new(
        inner: Arc<Inner>,
        spec: RegionSpec,
        names: Arc<[PartitionKeys]>,
        member: Option<Arc<Member>>,
    ) -> Self {
        let record = format!("{};partitions={}", spec.record, names.len());
        let member_is_none = member.is_none();
        let node = spec.node.to_string();
        let errors = Errors {
            server: inner.server.clone(),
            namespace: spec.namespace.clone(),
            record: record.clone(),
            meta: String::from_utf8_lossy(names[0].meta()).into_owned(),
        };
        Self {
            inner,
            spec,
            record,
            node,
            names,
            member,
            errors,
            // In a cluster this is done for all servers together.
            checked: AtomicBool::new(member_is_none),
            closed: AtomicBool::new(false),
        }
    }

    /// Frees the name for another region.
    pub(super) fn leave(&self) {
        if let Some(member) = &self.member
            && !self.closed.swap(true, Ordering::AcqRel)
        {
            self.inner.bus.leave(member);
            self.inner.open_names.lock().remove(&self.spec.namespace);
        }
    }

    pub(super) fn partition_count(&self) -> u16 {
        // At most 1024, see the builder.
        self.names.len() as u16
    }

    pub(super) fn partition_of(&self, key: &Key) -> u16 {
        key.partition(self.partition_count())
    }

    /// The name of a key's value.
    pub(super) fn value_name<'a>(&'a self, key: &'a Key) -> ValueName<'a> {
        ValueName { partition: self.names_for(key), key }
    }

    /// The slot of a value, in a cluster.
    #[cfg(feature = "cluster")]
    pub(super) fn slot_of(&self, name: &ValueName<'_>) -> Option<u16> {
        self.member.is_none().then_some(name.partition.slot)
    }

    #[cfg(not(feature = "cluster"))]
    #[expect(clippy::unused_self, reason = "with the feature `cluster` it is used")]
    pub(super) fn slot_of(&self, _: &ValueName<'_>) -> Option<u16> {
        None
    }

    pub(crate) fn names_for(&self, key: &Key) -> &PartitionKeys {
        &self.names[usize::from(self.partition_of(key))]
    }

    /// The names of a partition that a caller has chosen.
    pub(crate) fn names_of(&self, partition: u16) -> Result<&PartitionKeys> {
        self.names.get(usize::from(partition)).ok_or_else(|| {
            let count = self.names.len();
            let message = format!("partition {partition} does not exist: there are {count}");
            Error::new(ErrorKind::Config, message).in_namespace(&self.spec.namespace)
        })
    }

    /// A connection for one operation.
    ///
    /// Nodes with different numbers of partitions have only partition 0 in common. So the record is compared
    /// there before an operation on another partition.
    pub(crate) async fn checkout(&self, purpose: Purpose, doing: &str) -> Result<Checkout<'_>> {
        let checkout = self.checkout_unchecked(purpose, doing).await?;
        if self.names.len() > 1 && !self.checked.load(Ordering::Relaxed) {
            self.read_state(&checkout, 0).await.map_err(|failure| self.error(doing, failure))?;
            self.checked.store(true, Ordering::Relaxed);
        }
        Ok(checkout)
    }

    /// A connection for a plain read, which does not depend on the number of partitions.
    pub(crate) async fn checkout_unchecked(&self, purpose: Purpose, doing: &str) -> Result<Checkout<'_>> {
        let checkout = self.checkout_without_scripts(purpose, doing).await?;
        if checkout.link.has_tokens() {
            self.agree(&checkout).await.map_err(|failure| self.error(doing, failure))?;
        }
        Ok(checkout)
    }

    /// A connection for commands that are no scripts. It agrees on no run token, which may write to `M`: a tool must not
    /// create the record of a namespace that does not exist.
    pub(crate) async fn checkout_without_scripts(
        &self,
        purpose: Purpose,
        doing: &str,
    ) -> Result<Checkout<'_>> {
        self.inner.connected(purpose).await;
        self.inner.slots.pick(purpose).map_err(|failure| self.error(doing, failure))
    }

    /// Agrees on a run token for the scripts of this namespace. With run tokens it has one partition: see the
    /// builder.
    async fn agree(&self, checkout: &Checkout<'_>) -> Result<(), Failure> {
        let meta = self.names[0].meta();
        if checkout.answer(checkout.link.agree(meta, self.caller(0))).await? == Agreed::Now {
            self.inner.slots.agreed(&checkout.link, meta);
        }
        Ok(())
    }

    fn caller(&self, partition: u16) -> Caller<'_> {
        Caller { record: &self.record, known_seq: self.spec.known.seq(partition) }
    }

    /// The call of a script about one key, ready for its own arguments.
    pub(crate) fn key_call(&self, checkout: &Checkout<'_>, script: &Script, key: &Key) -> Cmd {
        self.call(checkout, script, self.partition_of(key), &self.names_for(key).of_key(key))
    }

    /// The call of a script with a run token in its text, on which this connection need not have agreed.
    #[cfg(feature = "tools")]
    pub(crate) fn marked_call(&self, script: &Script, key: &Key) -> Cmd {
        let keys = self.names_for(key).of_key(key);
        let mut call = redis::cmd("EVALSHA");
        call.arg(script.hash()).arg(keys.len());
        keys.iter().for_each(|name| _ = call.arg(name));
        // It replaces no token, and knows no number.
        call.arg("").arg(&self.record).arg(0);
        call
    }

    /// The call of a script about a partition, ready for its own arguments.
    pub(super) fn call(
        &self,
        checkout: &Checkout<'_>,
        script: &Script,
        partition: u16,
        keys: &[impl AsRef<[u8]>],
    ) -> Cmd {
        checkout.link.call(script, keys, self.caller(partition))
    }

    /// Runs a script.
    pub(crate) async fn script<T: FromRedisValue>(
        &self,
        doing: &str,
        checkout: &Checkout<'_>,
        script: &Script,
        call: &Cmd,
    ) -> Result<T> {
        let answer = checkout.answer(checkout.link.script(script, call)).await;
        answer.map_err(|failure| self.error(doing, failure))
    }

    /// Sequence, floor and time of a partition that exists.
    pub(super) async fn read_state(
        &self,
        checkout: &Checkout<'_>,
        partition: u16,
    ) -> Result<(u64, u64, u64), Failure> {
        let meta = [self.names[usize::from(partition)].meta()];
        let call = self.call(checkout, &checkout.link.lua.state, partition, &meta);
        checkout.answer(checkout.link.script(&checkout.link.lua.state, &call)).await
    }

    /// As [`read_state`](Self::read_state), and connects first.
    #[cfg(feature = "cluster")]
    pub(crate) async fn state_of(&self, partition: u16, doing: &str) -> Result<()> {
        let checkout = self.checkout_unchecked(Purpose::Read, doing).await?;
        let state = self.read_state(&checkout, partition).await;
        state.map(drop).map_err(|failure| self.error(doing, failure))
    }

    pub(crate) fn error(&self, doing: &str, failure: Failure) -> Error {
        self.errors.of(doing, failure)
    }

    pub(crate) fn unexpected_reply(&self, doing: &str) -> Error {
        self.errors.unexpected_reply(doing)
    }
}

impl Drop for RedisRegion {
    fn drop(&mut self) {
        self.leave();
    }
}

impl fmt::Debug for RedisRegion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisRegion")
            .field("namespace", &self.spec.namespace)
            .field("node", &self.spec.node)
            .field("server", &self.inner.server)
            .finish_non_exhaustive()
    }
}
