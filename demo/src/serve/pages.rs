//! The dashboard's files, its live stream, and the health of the service.

use std::convert::Infallible;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{StatusCode, Uri, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{Html, IntoResponse, Response};
use futures_util::{Stream, future, stream};
use serde::Serialize;
use tokio::sync::Semaphore;

use crate::clock;
use crate::orders::{Order, Reply};
use crate::serve::answer::Refusal;
use crate::serve::hub::{Facts, Hub};
use crate::serve::products::Shown;
use crate::serve::pulse::Pulse;

/// Most pages that are kept up to date at the same time.
const MAX_STREAMS: usize = 32;
/// How long a pulse waits for the copies of the instances.
const COPIES_WITHIN: Duration = Duration::from_millis(400);

static STREAMS: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(MAX_STREAMS)));

const ASSETS: [(&str, &str, &str); 8] = [
    ("style.css", "text/css; charset=utf-8", include_str!("../dashboard/style.css")),
    ("parts.css", "text/css; charset=utf-8", include_str!("../dashboard/parts.css")),
    ("app.js", "text/javascript; charset=utf-8", include_str!("../dashboard/app.js")),
    ("instances.js", "text/javascript; charset=utf-8", include_str!("../dashboard/instances.js")),
    ("copies.js", "text/javascript; charset=utf-8", include_str!("../dashboard/copies.js")),
    ("charts.js", "text/javascript; charset=utf-8", include_str!("../dashboard/charts.js")),
    ("words.js", "text/javascript; charset=utf-8", include_str!("../dashboard/words.js")),
    ("icon.svg", "image/svg+xml", include_str!("../dashboard/icon.svg")),
];

/// `GET /`
pub(crate) async fn index() -> Html<&'static str> {
    Html(include_str!("../dashboard/index.html"))
}

/// `GET /assets/{name}`
pub(crate) async fn asset(Path(name): Path<String>) -> Result<Response, Refusal> {
    let found = ASSETS.iter().find(|(asset, ..)| *asset == name);
    let (_, kind, text) = found.ok_or_else(|| Refusal::not_found(format!("asset {name}")))?;
    Ok(([(header::CONTENT_TYPE, *kind)], *text).into_response())
}

/// `GET /healthz`: whether requests are answered.
pub(crate) async fn health(State(hub): State<Arc<Hub>>) -> (StatusCode, String) {
    match hub.living().len() {
        0 => (StatusCode::SERVICE_UNAVAILABLE, "every instance has ended\n".into()),
        living => (StatusCode::OK, format!("{living} of {} instances serve\n", hub.len())),
    }
}

/// `GET /api/facts`
pub(crate) async fn facts(State(hub): State<Arc<Hub>>) -> Json<Facts> {
    Json(hub.facts.clone())
}

/// A pulse, and the copies of one product.
#[derive(Serialize)]
struct Live<'a> {
    #[serde(flatten)]
    pulse: &'a Pulse,
    product: Chosen<'a>,
}

#[derive(Serialize)]
struct Chosen<'a> {
    id: u32,
    /// The row itself; `None` if there is none.
    row: Option<Shown<'a>>,
    copies: Vec<Copy<'a>>,
}

/// What one instance holds of the product.
#[derive(Serialize)]
struct Copy<'a> {
    instance: u16,
    /// `None` if it holds nothing.
    held: Option<Held<'a>>,
}

#[derive(Serialize)]
struct Held<'a> {
    #[serde(flatten)]
    product: Shown<'a>,
    /// Time since the row was read from the database.
    age_s: f64,
    /// The instance whose query read it.
    queried_by: u16,
    /// Whether this instance got it from the shared tier.
    from_tier: bool,
}

/// `GET /api/live?product=17`: a pulse for each event.
pub(crate) async fn live(
    State(hub): State<Arc<Hub>>,
    uri: Uri,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Refusal> {
    let product = uri.query().and_then(|query| query.strip_prefix("product=")).map(str::parse);
    let Some(Ok(product)) = product else {
        return Err(Refusal::invalid("give the number of a product, /api/live?product=17"));
    };
    let permit = Arc::clone(&STREAMS).try_acquire_owned();
    let permit = permit.map_err(|_| Refusal::unavailable(format!("{MAX_STREAMS} dashboards are open")))?;
    let pulses = hub.pulse.subscribe();
    let events = stream::unfold((hub, pulses, permit), move |(hub, mut pulses, permit)| async move {
        pulses.changed().await.ok()?;
        let pulse = Arc::clone(&pulses.borrow_and_update());
        let event = event(&hub, &pulse, product).await;
        Some((Ok(event), (hub, pulses, permit)))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::default()))
}

async fn event(hub: &Hub, pulse: &Pulse, id: u32) -> Event {
    let copy = |instance| async move {
        let asked = tokio::time::timeout(COPIES_WITHIN, hub.ask(instance, Order::Copy { product: id })).await;
        match asked {
            Ok(Ok(Reply::Copy(copy))) => (instance, copy),
            _ => (instance, None),
        }
    };
    let (row, copies) = future::join(hub.truth.product(id), future::join_all((0..hub.len()).map(copy))).await;
    let row = row.ok().flatten();
    let now = clock::now();
    let copies = copies.iter().map(|(instance, copy)| Copy {
        instance: instance + 1,
        held: copy.as_ref().map(|product| Held {
            product: Shown::from(product),
            age_s: now.saturating_sub(product.origin.read_at) as f64 / clock::SECOND as f64,
            queried_by: product.origin.instance.saturating_add(1),
            from_tier: !product.origin.at_home,
        }),
    });
    let product = Chosen { id, row: row.as_ref().map(Shown::from), copies: copies.collect() };
    let event = Event::default().json_data(Live { pulse, product });
    event.unwrap_or_else(|_| Event::default().comment("a pulse could not be written"))
}
