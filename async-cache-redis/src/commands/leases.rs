//! Leases: asking for them, filling, renewing and releasing them. Each operation is one script, or pipelines of
//! bounded size on one connection.

use std::time::Duration;

use async_cache_core::backend::{Accept, Acquire, Acquired, Announce, Fill, Filled, Lease, Renewed, Token};
use async_cache_core::key::Key;
use async_cache_core::{Error, Result};
use redis::{Cmd, FromRedisValue, RedisResult, Value};

use super::orphan::Orphan;
use super::region::RedisRegion;
use crate::connection::repeat::{Again, Calls};
use crate::connection::slots::Checkout;
use crate::limits::{PIPELINE_KEYS, Purpose, millis, pipeline_len};
use crate::reply::{acquired, filled, renewed};

pub(crate) async fn acquire(region: &RedisRegion, asks: &[(Key, Acquire)]) -> Vec<Result<Acquired>> {
    let doing = match asks.len() {
        1 => "asking for a value or the lease to load it",
        _ => "asking for values or the leases to load them",
    };
    let checkout = match region.checkout(Purpose::Read, doing).await {
        Ok(checkout) => checkout,
        Err(error) => return vec![Err(error); asks.len()],
    };
    let mut outcomes: Vec<Result<Acquired>> = Vec::with_capacity(asks.len());
    // The orphan watches until every answer is known. Otherwise a caller that goes away between two pipelines would
    // leave the leases of the first without a holder.
    let mut orphan = Orphan::new(&region.inner, &checkout.link);
    for chunk in asks.chunks(PIPELINE_KEYS) {
        let calls: Vec<Cmd> =
            chunk.iter().map(|(key, ask)| acquire_call(region, &checkout, key, ask)).collect();
        orphan.watch(chunk.iter().map(|(key, ask)| release_call(region, &checkout, key, ask.token)));
        let answers = each::<Vec<Value>>(
            region,
            doing,
            &checkout,
            Calls { script: &checkout.link.lua.acquire, calls: &calls, again: Again::FromFirst },
        )
        .await;
        let lost = answers.is_err();
        let answers = answers.unwrap_or_else(|error| vec![Err(error); chunk.len()]);
        outcomes.extend(answers.into_iter().zip(chunk).map(|(answer, (_, ask))| {
            answer.and_then(|parts| acquired(parts, ask.token).ok_or_else(|| region.unexpected_reply(doing)))
        }));
        if lost {
            break;
        }
    }
    let asked = outcomes.len();
    // The connection was lost or does not answer: the remaining keys have not been asked for.
    if let Some(Err(error)) = outcomes.last().cloned() {
        outcomes.resize_with(asks.len(), || Err(error.clone()));
    }
    let unknown = |error: &Error| error.is_temporary() && !error.effect_is_known();
    let is_unknown = |place: usize| outcomes[place].as_ref().is_err_and(unknown);
    orphan.settled_but(|place| place < asked && is_unknown(place));
    outcomes
}

pub(crate) async fn fill(region: &RedisRegion, fills: &[Fill]) -> Vec<Result<Filled>> {
    let doing = if fills.len() == 1 { "storing a loaded value" } else { "storing loaded values" };
    let checkout = match region.checkout(Purpose::Write, doing).await {
        Ok(checkout) => checkout,
        Err(error) => return vec![Err(error); fills.len()],
    };
    let mut outcomes: Vec<Result<Filled>> = Vec::with_capacity(fills.len());
    let mut rest = fills;
    while !rest.is_empty() {
        let (chunk, behind) = rest.split_at(pipeline_len(rest.iter().map(|fill| fill.frame.len())));
        rest = behind;
        let calls: Vec<Cmd> = chunk.iter().map(|fill| fill_call(region, &checkout, fill)).collect();
        match each::<u64>(
            region,
            doing,
            &checkout,
            Calls { script: &checkout.link.lua.fill, calls: &calls, again: Again::Forgotten },
        )
        .await
        {
            Ok(answers) => outcomes.extend(answers.into_iter().map(|answer| answer.map(filled))),
            Err(error) => outcomes.resize_with(fills.len(), || Err(error.clone())),
        }
        if outcomes.len() == fills.len() {
            break;
        }
    }
    outcomes
}

pub(crate) async fn renew(
    region: &RedisRegion,
    leases: &[(Key, Lease)],
    ttl: Duration,
) -> Result<Vec<Renewed>> {
    let doing = if leases.len() == 1 { "renewing a lease" } else { "renewing leases" };
    let checkout = region.checkout(Purpose::Write, doing).await?;
    let mut outcomes = Vec::with_capacity(leases.len());
    for chunk in leases.chunks(PIPELINE_KEYS) {
        let calls: Vec<Cmd> =
            chunk.iter().map(|(key, lease)| renew_call(region, &checkout, key, lease, ttl)).collect();
        for answer in each::<bool>(
            region,
            doing,
            &checkout,
            Calls { script: &checkout.link.lua.renew, calls: &calls, again: Again::FromFirst },
        )
        .await?
        {
            outcomes.push(renewed(answer?));
        }
    }
    Ok(outcomes)
}

pub(crate) async fn release(region: &RedisRegion, leases: &[(Key, Lease)]) -> Result<()> {
    let doing = if leases.len() == 1 { "releasing a lease" } else { "releasing leases" };
    let checkout = region.checkout(Purpose::Write, doing).await?;
    let mut first = Ok(());
    for chunk in leases.chunks(PIPELINE_KEYS) {
        let calls: Vec<Cmd> =
            chunk.iter().map(|(key, lease)| release_call(region, &checkout, key, lease.token)).collect();
        for answer in each::<()>(
            region,
            doing,
            &checkout,
            Calls { script: &checkout.link.lua.release, calls: &calls, again: Again::FromFirst },
        )
        .await?
        {
            first = first.and(answer);
        }
    }
    first
}

/// Runs one pipeline, with an outcome for each call.
async fn each<T: FromRedisValue>(
    region: &RedisRegion,
    doing: &str,
    checkout: &Checkout<'_>,
    calls: Calls<'_>,
) -> Result<Vec<Result<T>>> {
    let answers = checkout.answer(checkout.link.scripts_each(calls)).await;
    let answers: Vec<RedisResult<T>> = answers.map_err(|failure| region.error(doing, failure))?;
    if answers.len() != calls.calls.len() {
        return Err(region.unexpected_reply(doing));
    }
    let mut outcomes = Vec::with_capacity(answers.len());
    for answer in answers {
        let outcome = checkout.answer(std::future::ready(answer)).await;
        outcomes.push(outcome.map_err(|failure| region.error(doing, failure)));
    }
    Ok(outcomes)
}

fn acquire_call(region: &RedisRegion, checkout: &Checkout<'_>, key: &Key, ask: &Acquire) -> Cmd {
    let mut call = region.key_call(checkout, &checkout.link.lua.acquire, key);
    call.arg(ask.token.to_string()).arg(&region.node).arg(millis(ask.ttl));
    let (mode, token) = match ask.accept {
        Accept::Any => ("A", None),
        Accept::Known(token) => ("K", Some(token)),
        Accept::Other(token) => ("O", Some(token)),
        Accept::Nothing => ("N", None),
    };
    call.arg(mode).arg(token.map_or_else(Vec::new, |token| token.to_bytes().to_vec()));
    call
}

fn fill_call(region: &RedisRegion, checkout: &Checkout<'_>, fill: &Fill) -> Cmd {
    let mut call = region.key_call(checkout, &checkout.link.lua.fill, &fill.key);
    call.arg(lease_text(&fill.lease)).arg(fill.lease.seq).arg(millis(fill.life));
    call.arg(u8::from(fill.announce == Announce::Yes)).arg(&fill.frame[..]);
    call
}

fn renew_call(region: &RedisRegion, checkout: &Checkout<'_>, key: &Key, lease: &Lease, ttl: Duration) -> Cmd {
    let mut call = region.key_call(checkout, &checkout.link.lua.renew, key);
    call.arg(lease_text(lease)).arg(lease.seq).arg(millis(ttl));
    call
}

fn release_call(region: &RedisRegion, checkout: &Checkout<'_>, key: &Key, token: Token) -> Cmd {
    let mut call = region.key_call(checkout, &checkout.link.lua.release, key);
    call.arg(token.to_string());
    call
}

fn lease_text(lease: &Lease) -> String {
    format!("{}:{}", lease.token, lease.seq)
}
