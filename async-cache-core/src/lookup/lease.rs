//! The lease: one node of the fleet loads a key, the others wait.

use std::sync::Arc;

use tokio::time::Instant;

use crate::backend::{Accept, Acquire, Acquired, Entry, Phase, Tick};
use crate::error::{Error, Result};
use crate::faults::mutant::Mutant;
use crate::format::frame::Ends;
use crate::inner::Inner;
use crate::local::flight::Elsewhere;
use crate::local::lead::Lead;
use crate::local::request::CacheMode;
use crate::lookup::progress::{self, Progress, Seen};
use crate::lookup::queue::Queue;
use crate::lookup::stale::{self, OutageDecision, decide_in_outage};
use crate::lookup::step::{Action, Basis, Learnt, Reply, Woken};
use crate::observe::{Stage, trace};
use crate::remote::l2::L2;
use crate::remote::read::{Fetched, fetch};

/// Asks for the lease and waits for loads on other nodes, until there is a value, a basis for a load, or a
/// reason to stop. Leaves in `lead` the ticket that belongs to the outcome.
pub(crate) async fn pursue<V: Send + Sync + 'static>(
    inner: &Arc<Inner<V>>,
    lead: &mut Lead<V>,
    progress: &mut Progress<V>,
    first: Accept,
) -> Action {
    let Some(l2) = &inner.remote else { return Action::Load(Basis::Alone) };
    if let Err(error) =
        inner.local.liveness.learn_server_time(&*l2.region, std::slice::from_ref(lead.key())).await
    {
        let seen = unreachable(inner, lead, progress.held.as_ref(), error);
        return progress.learn(inner, lead, seen);
    }
    let give_up = Instant::now() + lead.request.options.load.wait_timeout;
    let mut queue = Queue::join(inner, lead, &Arc::default());
    let mut action = Action::Acquire(first);
    loop {
        let seen = match action {
            Action::Acquire(accept) => {
                lead.ticket = queue.ticket();
                // This node may have to return a lease of its own, of a load whose runtime has ended.
                inner.lifecycle.background.ensure();
                let reply = ask(inner, lead, progress.held.as_ref(), accept).await;
                queue.within_patience(reply, give_up, || settles(inner, lead))
            }
            Action::Wait(lapses_in) => {
                let waits = queue.wait(lapses_in, give_up);
                let stored = trace::stage(&inner.observer.namespace, Stage::WaitForLease, waits).await;
                match stored.and_then(|stored| brought(l2, lead, &stored)) {
                    Some(entry) => Seen::of(Learnt::Waited(Woken::Answers), entry),
                    None if queue.saw_empty_load() && makes_do(inner, lead) => {
                        read_after_empty_load(inner, lead).await
                    }
                    None => Seen::bare(Learnt::Waited(Woken::Due)),
                }
            }
            decided => return decided,
        };
        action = progress.learn(inner, lead, seen);
    }
}

/// Asks for the lease once.
async fn ask<V: Send + Sync + 'static>(
    inner: &Inner<V>,
    lead: &Lead<V>,
    held: Option<&Entry<V>>,
    accept: Accept,
) -> Seen<V> {
    let asked = inner.local.now();
    let Some(l2) = inner.remote.as_ref().filter(|_| !inner.local.liveness.is_unsent(lead.key().as_bytes()))
    else {
        return Seen::bare(Learnt::Lease(Reply::Unsent));
    };
    let (token, ttl) = (inner.local.liveness.node.next_token(), lead.request.options.load.lease_ttl);
    let ask = l2.region.acquire_one(lead.key(), Acquire { token, ttl, accept });
    let answer = inner.observer.stage(Stage::Lease, ask).await;
    reply(inner, lead, held, asked, answer)
}

/// Whether the lookup ends when a load on another node has failed. It ends if there is a fallback that the
/// options allow, or if no caller waits.
///
/// A load on another node may also have failed because of a change. The change has voided the fallback, too.
/// Then there is no fallback, and this node goes on to load.
pub(crate) fn makes_do<V: Send + Sync + 'static>(inner: &Inner<V>, lead: &Lead<V>) -> bool {
    let request = &*lead.request;
    request.background
        || request.mode != CacheMode::Reload
            && request.options.load.stale_on_error
            && stale::has_fallback(inner, request, &lead.flight)
}

/// Decides as [`makes_do`] does. If the lookup ends, this function notes in the flight whether the fallback
/// is valid now. A change may come before the callers look at the flight. Without the note they would then
/// get an error, although no load of this node has failed.
pub(crate) fn settles<V: Send + Sync + 'static>(inner: &Inner<V>, lead: &Lead<V>) -> bool {
    let settles = makes_do(inner, lead);
    if settles {
        let flight = lead.flight();
        flight.came_to_nothing(match stale::has_fallback(inner, &lead.request, &flight) {
            true => Elsewhere::FallbackHeld,
            false => Elsewhere::NothingHeld,
        });
    }
    settles
}

/// The meaning of an answer to the question for the lease. The question was sent at `asked`.
pub(crate) fn reply<V: Send + Sync + 'static>(
    inner: &Inner<V>,
    lead: &Lead<V>,
    held: Option<&Entry<V>>,
    asked: Tick,
    answer: Result<Acquired>,
) -> Seen<V> {
    let Some(l2) = &inner.remote else { return Seen::bare(Learnt::Lease(Reply::Unsent)) };
    let bare = |reply| Seen::bare(Learnt::Lease(reply));
    let reached = |seq| {
        l2.miss_rate.missed(lead.request.mode);
        lead.flight().granted(seq);
        inner.local.partition_of(lead.key().as_bytes()).1.knows(seq);
    };
    match answer {
        Ok(Acquired::Granted(lease)) => {
            reached(lease.seq);
            bare(Reply::Granted(lease))
        }
        Ok(Acquired::NoRoom { seq }) => {
            reached(seq);
            bare(Reply::NoRoom(seq))
        }
        Ok(Acquired::Value(stored)) => {
            l2.miss_rate.found();
            match l2.verdict(lead.key(), &stored, lead.ticket, &lead.request.options) {
                Fetched::Found(entry, _) if lead.request.is_answered_by(&entry) => {
                    Seen::of(Learnt::Lease(Reply::Answers), entry)
                }
                Fetched::Stale(entry, _) if progress::backs_off(inner, &lead.request, &entry) => {
                    Seen::of(Learnt::Lease(Reply::BacksOff), entry)
                }
                Fetched::Found(entry, ticket) | Fetched::Stale(entry, ticket) => {
                    let accept = Accept::Other(entry.token);
                    inner.local.admit(lead.key(), ticket, entry.clone(), lead.request.options.store.l1_ttl);
                    lead.found_stale(entry, asked);
                    bare(Reply::Again(accept))
                }
                // The backend found the value valid, but it checks less than the node. Ask for another one.
                Fetched::Absent(accept) => bare(Reply::Again(accept)),
                Fetched::Unreachable(_) => bare(Reply::Again(Accept::Nothing)),
            }
        }
        Ok(Acquired::Unchanged { seq, ends }) => match held {
            Some(entry) => {
                let entry = Entry { seq: seq.max(entry.seq), ..entry.clone() };
                unchanged(inner, lead, entry, ends, asked)
            }
            None => bare(Reply::Again(Accept::Nothing)),
        },
        Ok(Acquired::Busy(lapses_in)) => bare(Reply::Busy(lapses_in)),
        Err(error) => unreachable(inner, lead, held, inner.local.liveness.l2_failed(error)),
    }
}

/// L2 cannot be asked. The outage policy decides whether the entry of L1 answers.
pub(crate) fn unreachable<V: Send + Sync + 'static>(
    inner: &Inner<V>,
    lead: &Lead<V>,
    held: Option<&Entry<V>>,
    error: Error,
) -> Seen<V> {
    let decision = decide_in_outage(inner, lead.key().as_bytes(), held.cloned(), error);
    let learnt = |held_answers| Learnt::Lease(Reply::Unreachable { held_answers });
    match decision {
        OutageDecision::Serve(entry) if lead.suffices(&entry) => Seen::of(learnt(true), entry),
        OutageDecision::Serve(_) => Seen::bare(learnt(false)),
        OutageDecision::Load(error) | OutageDecision::Fail(error) => Seen::failed(learnt(false), error),
    }
}

/// L2 has confirmed the entry of L1. The entry had not expired when the question was sent, but may have
/// expired since. Its life is the one that L2 keeps.
fn unchanged<V: Send + Sync + 'static>(
    inner: &Inner<V>,
    lead: &Lead<V>,
    mut entry: Entry<V>,
    ends: Ends,
    asked: Tick,
) -> Seen<V> {
    let now = inner.local.now();
    let time = match inner.local.liveness.server_time(lead.key().as_bytes()) {
        _ if inner.policy.faults.is(Mutant::TrustUnknownServerTime) => {
            return Seen::of(Learnt::Lease(Reply::Answers), entry);
        }
        Ok(time) => time,
        Err(error) => return unreachable(inner, lead, Some(&entry), error),
    };
    entry.life = entry.life.confirmed(time.tick_at(ends.expires, now), time.tick_at(ends.ends, now));
    let again = Seen::bare(Learnt::Lease(Reply::Again(Accept::Other(entry.token))));
    match entry.life.phase(now) {
        Phase::Fresh | Phase::Ripe => Seen::of(Learnt::Lease(Reply::Answers), entry),
        Phase::Stale => {
            lead.found_stale(entry, asked);
            again
        }
        Phase::Expired => again,
    }
}

/// The value of a wake-up, if it answers.
pub(crate) fn brought<V: Send + Sync + 'static>(
    l2: &L2<V>,
    lead: &Lead<V>,
    stored: &[u8],
) -> Option<Entry<V>> {
    let Fetched::Found(entry, _) = l2.verdict(lead.key(), stored, lead.ticket, &lead.request.options) else {
        return None;
    };
    (entry.seq >= lead.ticket.last_seq && lead.request.is_answered_by(&entry)).then_some(entry)
}

/// Reads L2 once more after a load on another node has ended without a value, if the lookup may end with that. Another
/// load may have stored a value since, and a change may have voided the fallback.
async fn read_after_empty_load<V: Send + Sync + 'static>(inner: &Inner<V>, lead: &mut Lead<V>) -> Seen<V> {
    lead.ticket = inner.local.ticket(lead.key());
    let fetched =
        fetch(inner.remote.as_ref(), &lead.request.key, None, lead.ticket, &lead.request.options).await;
    after_empty_load(inner, lead, fetched)
}

/// The meaning of a read of L2 after such a load.
pub(crate) fn after_empty_load<V: Send + Sync + 'static>(
    inner: &Inner<V>,
    lead: &Lead<V>,
    fetched: Fetched<V>,
) -> Seen<V> {
    match fetched {
        Fetched::Found(entry, _) if lead.request.is_answered_by(&entry) => {
            Seen::of(Learnt::Waited(Woken::Answers), entry)
        }
        _ if settles(inner, lead) => Seen::bare(Learnt::Waited(Woken::MakesDo)),
        _ => Seen::bare(Learnt::Waited(Woken::Due)),
    }
}
