//! The buttons of the dashboard: each makes something happen, and measures it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use futures_util::future;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::catalogue::{Change, Product};
use crate::clock::MILLISECOND;
use crate::conductor::{COLD_QUERY_MS, COLD_TASKS};
use crate::database::Health;
use crate::orders::{Order, Reply, Shown};
use crate::rush::{Cold, Rush, soon};
use crate::serve::answer::Refusal;
use crate::serve::asked::Asked;
use crate::serve::hub::{Hub, Tier};
use crate::serve::products::{MAX_NUMBER, numbered, unexpected};
use crate::traffic::Apart;

pub(crate) type Answered = Result<Json<Value>, Refusal>;

/// How many seconds an instance looks for a change before it gives up.
const LOOK_FOR_S: u64 = 5;

/// `POST /api/rush`: 1,000 requests, over all instances, for a product that no tier has.
pub(crate) async fn rush(State(hub): State<Arc<Hub>>) -> Answered {
    let living = hub.living();
    // Outside the traffic, which might load it before the requests begin.
    static TURN: AtomicU32 = AtomicU32::new(0);
    let product = hub.facts.quiet + 1 + TURN.fetch_add(1, Ordering::Relaxed) % Apart::RUSHES;
    // An earlier rush may have left it in the tiers. If the shared tier is away, each instance drops its own copy.
    let forgotten = living.iter().map(|instance| hub.ask(*instance, Order::Forget { product }));
    let forgotten = future::join_all(forgotten).await;
    let cold_everywhere = forgotten.iter().all(Result::is_ok);
    // A key whose lease was broken rests for 10 ms; the requests begin after 50.
    let (at, of) = (soon(), living.len() as u32);
    let rushes = (0..).zip(&living).map(|(turn, instance)| {
        let tasks = COLD_TASKS / of + u32::from(turn < COLD_TASKS % of);
        hub.ask(*instance, Order::Rush(Rush { product, tasks, at, query_ms: COLD_QUERY_MS }))
    });
    let mut cold = Cold::default();
    for reply in future::join_all(rushes).await {
        match reply? {
            Reply::Rushed(part) => cold.add(part),
            reply => return Err(unexpected(&reply)),
        }
    }
    let slowest_ms = ms(cold.slowest_ns);
    let Cold { tasks, failed, loads, .. } = cold;
    hub.note(format!(
        "{tasks} requests at once for product {product}, cold on every instance: {loads} {}, the slowest request took {slowest_ms:.0} ms",
        if loads == 1 { "query" } else { "queries" }
    ));
    Ok(Json(json!({
        "product": product, "tasks": tasks, "failed": failed, "queries": loads, "query_ms": COLD_QUERY_MS,
        "slowest_ms": slowest_ms, "instances": living.len(), "cold_everywhere": cold_everywhere,
    })))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChangeAsked {
    product: u32,
    /// The instance that makes the change.
    instance: u16,
    price_cents: u32,
}

/// How a change arrived at an instance.
#[derive(Debug, Serialize)]
pub(crate) struct Arrival {
    instance: u16,
    /// Milliseconds from the return of the change until its copy was gone; 0 if it was gone before. `None` if
    /// it held none.
    pub(crate) dropped_ms: Option<f64>,
    /// The same for the first request that was answered with the new price. `None` if there was none.
    shown_ms: Option<f64>,
    error: Option<String>,
}

/// `POST /api/change`: every instance takes a copy, one changes the price, and all look when they show it.
pub(crate) async fn change(State(hub): State<Arc<Hub>>, Json(asked): Json<ChangeAsked>) -> Answered {
    let writer = numbered(&hub, asked.instance)?;
    if asked.price_cents > MAX_NUMBER {
        return Err(Refusal::invalid(format!("price_cents is at most {MAX_NUMBER}")));
    }
    let product = asked.product;
    let _one_at_a_time = hub.watching.lock().await;
    let row = row(&hub, product).await?;
    let others = hub.living().into_iter().filter(|instance| *instance != writer);
    let watches = watch(&hub, others, &row, LOOK_FOR_S).await?;
    let change = Change::Set { name: None, price_cents: Some(asked.price_cents), stock: None };
    let changed = match hub.ask(writer, Order::Change { product, change }).await? {
        Reply::Changed(changed) => changed,
        reply => return Err(unexpected(&reply)),
    };
    let arrivals = arrivals(watches, changed.at).await;
    let (version, number) = (changed.version, writer + 1);
    let first = arrivals.iter().filter_map(|arrival| arrival.shown_ms).fold(0.0, f64::max);
    let missing = arrivals.iter().filter(|arrival| arrival.shown_ms.is_none()).count();
    hub.note(match missing {
        0 => format!("Product {product} was changed on instance {number}: every instance showed it within {first:.2} ms"),
        _ => format!("Product {product} was changed on instance {number}: {missing} of the others did not show it within {LOOK_FOR_S} s"),
    });
    Ok(Json(json!({
        "product": product, "version": version, "written_on": number, "from_cents": row.price_cents,
        "to_cents": asked.price_cents, "pending": changed.pending, "arrivals": arrivals,
    })))
}

/// The row of a product.
pub(crate) async fn row(hub: &Hub, product: u32) -> Result<Product, Refusal> {
    let row = hub.truth.product(product).await;
    let row = row.map_err(|error| Refusal::unavailable(format!("the database: {error}")))?;
    row.ok_or_else(|| Refusal::not_found(format!("product {product}")))
}

/// Instances that look for a newer version of a product.
pub(crate) type Watches<'a> = Vec<(u16, Asked<'a>)>;

/// Makes instances look for a newer version than this one, for so many seconds. Each takes a copy with its first look, if
/// it has none.
pub(crate) async fn watch<'a>(
    hub: &'a Hub,
    instances: impl IntoIterator<Item = u16>,
    row: &Product,
    seconds: u64,
) -> Result<Watches<'a>, Refusal> {
    let (product, above) = (row.id, row.version);
    let mut watches = Vec::new();
    for instance in instances {
        let mut asked = hub.order(instance, Order::Watch { product, above, seconds }).await?;
        asked.reply().await?;
        hub.ask(instance, Order::Read { product }).await?;
        watches.push((instance, asked));
    }
    Ok(watches)
}

/// Waits until all have seen it, or have given up. Their times count from `since`.
pub(crate) async fn arrivals(watches: Watches<'_>, since: u64) -> Vec<Arrival> {
    let arrivals = watches.into_iter().map(|(instance, mut asked)| async move {
        let reply = asked.reply().await;
        arrival(instance, since, reply)
    });
    future::join_all(arrivals).await
}

fn arrival(instance: u16, since: u64, reply: Result<Reply, Refusal>) -> Arrival {
    let since = |at: u64| ms(at.saturating_sub(since));
    let instance = instance + 1;
    match reply {
        Ok(Reply::Shown(Shown { at, dropped_at, .. })) => {
            Arrival { instance, dropped_ms: dropped_at.map(since), shown_ms: Some(since(at)), error: None }
        }
        Ok(reply) => {
            Arrival { instance, dropped_ms: None, shown_ms: None, error: Some(format!("{reply:?}")) }
        }
        Err(refusal) => Arrival { instance, dropped_ms: None, shown_ms: None, error: Some(refusal.why()) },
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Subscriber {
    instance: u16,
    cut: bool,
}

/// `POST /api/subscriber`
pub(crate) async fn subscriber(State(hub): State<Arc<Hub>>, Json(asked): Json<Subscriber>) -> Answered {
    let instance = numbered(&hub, asked.instance)?;
    let what = if asked.cut { "is cut" } else { "is connected again" };
    hub.note(format!("The subscriber of instance {} {what}", asked.instance));
    hub.switch(|switches| switches.cut[usize::from(instance)] = asked.cut).await?;
    Ok(Json(json!(hub.switches())))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TierAsked {
    stopped: bool,
}

/// `POST /api/tier`
pub(crate) async fn tier(State(hub): State<Arc<Hub>>, Json(asked): Json<TierAsked>) -> Answered {
    if hub.facts.tier == Tier::ForeignRedis {
        let why = "this Redis is not the demo's own, so it is not stopped: start the demo with --redis spawn";
        return Err(Refusal::new(StatusCode::FORBIDDEN, why));
    }
    let name = if hub.facts.tier == Tier::Memory { "The shared tier" } else { "Redis" };
    hub.note(format!("{name} {}", if asked.stopped { "is stopped" } else { "runs again" }));
    hub.switch(|switches| switches.tier_stopped = asked.stopped).await?;
    Ok(Json(json!(hub.switches())))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DatabaseAsked {
    health: Health,
}

/// `POST /api/database`
pub(crate) async fn database(State(hub): State<Arc<Hub>>, Json(asked): Json<DatabaseAsked>) -> Answered {
    hub.note(match asked.health {
        Health::Normal => "The database works normally",
        Health::Slow => "The database is slow",
        Health::Failing => "The database fails",
    });
    hub.switch(|switches| switches.database = asked.health).await?;
    Ok(Json(json!(hub.switches())))
}

/// Milliseconds, to the microsecond.
pub(crate) fn ms(nanoseconds: u64) -> f64 {
    (nanoseconds as f64 / MILLISECOND as f64 * 1000.0).round() / 1000.0
}
