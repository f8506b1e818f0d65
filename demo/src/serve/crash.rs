//! A button of the dashboard: a process is killed after its commit, and the outbox has the invalidation.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::json;

use crate::serve::answer::Refusal;
use crate::serve::hub::Hub;
use crate::serve::products::MAX_NUMBER;
use crate::serve::trials::{Answered, Arrival, arrivals, ms, row, watch};

/// How many seconds an instance looks for the change: a writer starts and commits within 20, and another relay takes over
/// within 10 if the one at work has ended.
const LOOK_FOR_S: u64 = 35;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CrashAsked {
    price_cents: u32,
}

/// `POST /api/crash`: every instance takes a copy of the product without traffic. A writer changes its price, and is
/// killed after its commit. All instances look when their copy goes.
pub(crate) async fn crash(State(hub): State<Arc<Hub>>, Json(asked): Json<CrashAsked>) -> Answered {
    let Some(writers) = &hub.writers else {
        let why = "the demo has no outbox: start it with `cargo run --release -p async-cache-demo --features outbox -- \
                   serve --outbox`";
        return Err(Refusal::new(StatusCode::FORBIDDEN, why));
    };
    if asked.price_cents > MAX_NUMBER {
        return Err(Refusal::invalid(format!("price_cents is at most {MAX_NUMBER}")));
    }
    let _one_at_a_time = hub.watching.lock().await;
    let row = row(&hub, hub.facts.quiet).await?;
    let watches = watch(&hub, hub.living(), &row, LOOK_FOR_S).await?;
    let killed = writers.kill_one(row.id, asked.price_cents).await.map_err(Refusal::unavailable)?;
    let committed = &killed.committed;
    let arrivals = arrivals(watches, committed.at).await;
    let last_gone_ms = last_gone(&arrivals);
    let (product, instances) = (row.id, arrivals.len());
    hub.note(match last_gone_ms {
        Some(ms) => format!("A process changed product {product} and was killed after its commit: the last of {instances} copies was gone {ms:.0} ms after the commit"),
        None => format!("A process changed product {product} and was killed after its commit: not all of {instances} copies were dropped"),
    });
    Ok(Json(json!({
        "product": product, "version": committed.version, "from_cents": row.price_cents,
        "to_cents": asked.price_cents, "status": killed.status, "rows": committed.rows,
        "killed_ms": ms(killed.at.saturating_sub(committed.at)), "last_gone_ms": last_gone_ms,
        "arrivals": arrivals,
    })))
}

/// When the last copy was gone. `None` if an instance has dropped none: it had none, or it has heard of no change.
fn last_gone(arrivals: &[Arrival]) -> Option<f64> {
    arrivals.iter().map(|arrival| arrival.dropped_ms).reduce(|one, other| Some(one?.max(other?))).flatten()
}
