//! Sends the parts of an operation to their servers, and again to where their slots have gone.

use std::error::Error as _;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_cache_core::backend::Region as _;
use async_cache_core::{Error, ErrorKind, Result};
use futures_util::future::join_all;
use tokio::time::{Instant, timeout_at};

use super::learn::Topology;
use super::seats::Seats;
use crate::commands::errors::Redirected;
use crate::commands::region::RedisRegion;

/// The pauses before an operation is sent again.
const FIRST_PAUSE: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// Longer than any operation takes.
const FIRST_ATTEMPT: Duration = Duration::from_secs(3600);

pub(super) type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// One operation on a cluster.
#[derive(Clone, Copy)]
pub(super) struct Spread<'a> {
    pub(super) topology: &'a Topology,
    pub(super) seats: &'a Seats,
    pub(super) limit: Duration,
    pub(super) doing: &'static str,
}

/// Items of one server, and their places.
struct Group<I> {
    region: Arc<RedisRegion>,
    places: Vec<usize>,
    items: Vec<I>,
}

impl Spread<'_> {
    /// Runs an operation on the items of each server. Returns an outcome for each item, in their order.
    pub(super) async fn run<'b, I, T>(
        &self,
        items: &[I],
        partition: impl Fn(&I) -> u16 + Sync,
        operation: impl Fn(Arc<RedisRegion>, Vec<I>) -> BoxFuture<'b, Vec<Result<T>>> + Sync,
    ) -> Vec<Result<T>>
    where
        I: Clone + Sync + Send,
        T: Send + 'b,
    {
        let deadline = Instant::now() + self.limit;
        // The first attempt has its own deadlines: long operations have one for each pipeline.
        let mut limit = deadline + FIRST_ATTEMPT;
        let mut outcomes: Vec<Option<Result<T>>> = Vec::new();
        outcomes.resize_with(items.len(), || None);
        let mut open: Vec<usize> = (0..items.len()).collect();
        let mut pause = FIRST_PAUSE;
        loop {
            let mut groups = self.groups(&open, items, &partition, &mut outcomes);
            let sent = groups
                .iter_mut()
                .map(|group| operation(Arc::clone(&group.region), std::mem::take(&mut group.items)));
            let sent: Vec<_> = sent.map(|operation| timeout_at(limit, operation)).collect();
            for (group, answer) in groups.iter().zip(join_all(sent).await) {
                let answer =
                    answer.unwrap_or_else(|_| group.places.iter().map(|_| Err(self.late())).collect());
                for (place, outcome) in group.places.iter().zip(answer) {
                    outcomes[*place] = Some(outcome);
                }
            }
            open.retain(|place| outcomes[*place].as_ref().is_some_and(is_redirected));
            if open.is_empty() || Instant::now() >= deadline {
                return outcomes
                    .into_iter()
                    .map(|outcome| outcome.unwrap_or_else(|| Err(self.late())))
                    .collect();
            }
            self.topology.another_map(pause.mul_f64(0.5 + 0.5 * fastrand::f64()), deadline).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
            limit = deadline;
        }
    }

    /// Runs an operation on one partition.
    pub(super) async fn one<'b, T: Send + 'b>(
        &self,
        partition: u16,
        operation: impl Fn(Arc<RedisRegion>) -> BoxFuture<'b, Result<T>> + Sync,
    ) -> Result<T> {
        let mut outcomes = self
            .run(
                &[partition],
                |partition| *partition,
                |region, _| {
                    let outcome = operation(region);
                    Box::pin(async move { vec![outcome.await] })
                },
            )
            .await;
        outcomes.pop().unwrap_or_else(|| Err(self.late()))
    }

    /// The open items by server. Those without one have failed.
    fn groups<I: Clone, T>(
        &self,
        open: &[usize],
        items: &[I],
        partition: impl Fn(&I) -> u16,
        outcomes: &mut [Option<Result<T>>],
    ) -> Vec<Group<I>> {
        let mut groups: Vec<Group<I>> = Vec::new();
        for place in open {
            let item = &items[*place];
            let index = partition(item);
            let Some(region) = self.seats.region_of(index) else {
                outcomes[*place] = Some(Err(self.nowhere(index)));
                continue;
            };
            let group = match groups.iter_mut().find(|group| Arc::ptr_eq(&group.region, &region)) {
                Some(group) => group,
                None => {
                    groups.push(Group { region, places: Vec::new(), items: Vec::new() });
                    let Some(group) = groups.last_mut() else { continue };
                    group
                }
            };
            group.places.push(*place);
            group.items.push(item.clone());
        }
        groups
    }

    /// Why a partition cannot be asked, if that is known.
    pub(super) fn outage_of(&self, partition: u16) -> Option<Error> {
        match self.seats.region_of(partition) {
            Some(region) => region.outage(),
            None => Some(self.nowhere(partition)),
        }
    }

    fn nowhere(&self, partition: u16) -> Error {
        if let Some(error) = self.topology.failure() {
            let message = format!("{}: not tried, {error}", self.doing);
            return Error::new(error.kind(), message)
                .with_source(error)
                .in_namespace(&self.seats.spec.namespace);
        }
        let message = format!(
            "{}: not tried, no node of the Redis Cluster at {} is known to have partition {partition}: either none has \
             answered yet, or its slot is assigned to no master",
            self.doing,
            self.topology.seeds()
        );
        Error::new(ErrorKind::Backend, message).in_namespace(&self.seats.spec.namespace)
    }

    pub(super) fn late(&self) -> Error {
        let message = format!(
            "{}: the Redis Cluster did not answer within {:?}; the command may yet be executed",
            self.doing, self.limit
        );
        Error::new(ErrorKind::Backend, message).in_namespace(&self.seats.spec.namespace)
    }
}

/// All values, or an error. An error whose effect is unknown has precedence, because the caller must learn of
/// it.
pub(super) fn whole<T>(outcomes: Vec<Result<T>>) -> Result<Vec<T>> {
    let unknown = |error: &Error| !error.effect_is_known();
    if let Some(error) =
        outcomes.iter().filter_map(|outcome| outcome.as_ref().err()).find(|error| unknown(error))
    {
        return Err(error.clone());
    }
    outcomes.into_iter().collect()
}

/// Whether a server has refused an operation because the slot has moved or is moving.
pub(super) fn is_redirected<T>(outcome: &Result<T>) -> bool {
    let Err(error) = outcome else { return false };
    let mut source = error.source();
    while let Some(cause) = source {
        if cause.is::<Redirected>() {
            return true;
        }
        source = cause.source();
    }
    false
}
