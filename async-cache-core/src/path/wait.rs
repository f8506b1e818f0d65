//! Waiting for a flight: for its end, or for as long as the caller's patience with a stale value at hand.

use std::future::pending;

use tokio::time::{Instant, sleep_until};

use super::flight::{Hearing, Landed};
use super::{Flight, Reuse};
use crate::backend::Phase;
use crate::coherence::Mutant;
use crate::error::Error;
use crate::observe::StaleCause;
use crate::options::Options;
use crate::resilience::{Seek, StandIn, Standing, excuses};
use crate::shared::Shared;

/// One caller's lookup, and how it wants to be answered.
pub(crate) struct Call<'a> {
    pub(crate) seek: Seek<'a>,
    pub(crate) reuse: Reuse,
    options: Options,
    /// When to make do with a stale value.
    soft: Option<Instant>,
    /// The last tag change known when it was begun.
    known: u64,
}

impl<'a> Call<'a> {
    fn new(seek: Seek<'a>, reuse: Reuse, options: Options, known: u64) -> Self {
        let soft = options.load.soft_timeout.map(|limit| Instant::now() + limit);
        Self { seek, reuse, options, soft, known }
    }

    /// Who asks for a load whatever is cached does not want what is cached.
    fn takes_stale(&self) -> bool {
        self.reuse != Reuse::Nothing
    }
}

impl<V: Send + Sync + 'static> Shared<V> {
    /// Begins a lookup.
    pub(crate) fn call<'a>(&self, seek: Seek<'a>, reuse: Reuse, options: Options) -> Call<'a> {
        let (_, partition) = self.node.partition_of(seek.key.as_bytes());
        Call::new(seek, reuse, options, partition.last_tag_change())
    }

    /// Whether what a flight has ended with is too old for a caller who joined it.
    pub(crate) fn is_too_old(&self, call: &Call<'_>, flight: &Flight<V>) -> bool {
        let (_, partition) = self.node.partition_of(call.seek.key.as_bytes());
        flight.too_old_since(call.known, partition) && !self.switch.is(Mutant::JoinersUnchecked)
    }

    /// Waits until the flight has landed, or a stale value is to be served instead.
    pub(crate) async fn wait(&self, call: &Call<'_>, flight: &Flight<V>, hearing: Hearing) -> Landed<V> {
        let at_hand = || self.at_hand(call.seek, flight);
        let at_once = async {
            match call.options.load.stale_while_revalidate && call.takes_stale() {
                // What is only past its cap in L1 is not stale: L2 is asked, and not the source.
                true => flight.until(|| at_hand().filter(|found| found.standing != Standing::Capped)).await,
                false => pending().await,
            }
        };
        let soon = async {
            match call.soft {
                Some(limit) if call.takes_stale() => {
                    sleep_until(limit).await;
                    flight.until(at_hand).await
                }
                _ => pending().await,
            }
        };
        let (found, cause) = tokio::select! {
            biased;
            landed = flight.landed() => return match landed {
                Landed::Answer(Err(error)) => self.or_stale(call, flight, error).await,
                Landed::Answer(Ok(answer)) => {
                    let answers = call.seek.want.accepts(&answer) && !self.is_too_old(call, flight);
                    if hearing == Hearing::Unheard && answers {
                        self.serve_stale(call.seek.key.as_bytes(), StaleCause::Outage);
                    }
                    Landed::Answer(Ok(answer))
                }
                Landed::Abandoned => Landed::Abandoned,
            },
            found = at_once => (found, StaleCause::Revalidating),
            found = soon => (found, StaleCause::SlowLoad),
        };
        self.stand_in(call, found, cause)
    }

    /// What a caller gets whose load failed.
    async fn or_stale(&self, call: &Call<'_>, flight: &Flight<V>, error: Error) -> Landed<V> {
        if !(call.takes_stale() && call.options.load.stale_on_error && excuses(&error)) {
            return Landed::Answer(Err(error));
        }
        let Some(found) = self.fallback(call.seek, flight, &call.options).await else {
            return Landed::Answer(Err(error));
        };
        self.stand_in(call, found, StaleCause::LoadFailed(error.kind()))
    }

    /// Answers with what stands in, and tells so if it has expired, or nothing verifies it. Otherwise it is as
    /// good as any: another load may have brought it meanwhile.
    fn stand_in(&self, call: &Call<'_>, found: StandIn<V>, cause: StaleCause) -> Landed<V> {
        let StandIn { entry, standing } = found;
        let key = call.seek.key.as_bytes();
        if standing == Standing::Unverified {
            self.serve_stale(key, StaleCause::Outage);
        } else if entry.life.phase(self.node.clock.now()) == Phase::Stale {
            self.serve_stale(key, cause);
        } else {
            self.counters.l1_hits.increment();
        }
        Landed::Answer(Ok(entry.value))
    }
}
