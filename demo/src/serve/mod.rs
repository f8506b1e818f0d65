//! The catalogue over HTTP, and the dashboard.
//!
//! | module | content |
//! |---|---|
//! | `hub` | the instances as the server knows them: orders, replies, switches, the log |
//! | `pulse` | what the dashboard shows of them, twice a second; `problems` is its banner |
//! | `products` | `GET` and `PUT /products/{id}`, and the search |
//! | `trials` | the buttons of the dashboard; `crash` is the one of the outbox |
//! | `pages` | the dashboard's files, `/live`, `/metrics` and `/healthz` |
//! | `guard` | which requests are refused: those of other sites |

mod answer;
mod asked;
mod crash;
mod guard;
mod hub;
mod metrics;
mod pages;
mod problems;
mod products;
mod pulse;
mod trials;

use std::future::IntoFuture;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};
use axum::{Router, middleware};
use tokio::net::TcpListener;

use crate::args::{FleetArgs, SPAWN, ServeArgs};
use crate::database::Database;
use crate::messages::Setup;
use crate::referee::Referee;
use crate::run::{Stage, mode};
use crate::writer::Writers;
use crate::{Failure, outbox};
use hub::{Facts, Hub, Rest, Tier};

/// Rows in the database, unless the arguments say otherwise: with a short lifetime, few enough to be found fresh.
const PRODUCTS: u32 = 1_000;
/// Largest body of a request.
const MAX_BODY: usize = 16 * 1024;

/// Serves until the process is told to end.
pub(crate) async fn serve(args: &ServeArgs) -> Result<(), Failure> {
    if args.outbox {
        outbox::check().map_err(|why| Failure::Input(format!("--outbox: {why}")))?;
    }
    let listener = TcpListener::bind(args.listen)
        .await
        .map_err(|error| Failure::Input(format!("--listen: cannot listen on {}: {error}", args.listen)))?;
    let address =
        listener.local_addr().map_err(|error| Failure::Run(format!("no address is bound: {error}")))?;
    let mut stage = Stage::set(&args.fleet, args.fleet.products.unwrap_or(PRODUCTS)).await?;
    eprintln!("filling the database, starting {} instances", args.fleet.size());
    let path = stage.fill_database()?;
    if args.outbox {
        outbox::migrate(&path).await.map_err(Failure::Run)?;
    }
    let (rate, ttl) = (f64::from(args.rate) / f64::from(args.fleet.size()), args.ttl * 1000.0);
    // Copies go when they are invalidated or expire, and not because others need the room.
    let l1_entries = args.fleet.l1_entries.unwrap_or(2 * u64::from(stage.products) + 64);
    let (serve_ttl_ms, outbox) = (Some(ttl as u64), args.outbox);
    let amend = |setup| Setup { rate: Some(rate), serve_ttl_ms, l1_entries, outbox, ..setup };
    let fleet = stage.start(&args.fleet, stage.setups(&args.fleet, &path, amend)).await?;
    let referee = Referee::new(args.fleet.size(), stage.apart().watched);
    let own_redis = stage.own_redis.take();
    // The dashboard's own look at the rows is no query of an instance.
    let truth = Database::open(&path, u16::MAX, Duration::ZERO, Arc::new(|_, _| 0));
    let writers = Writers { database: path, namespace: args.fleet.namespace.clone() };
    let rest = Rest { truth, own_redis, writers: args.outbox.then_some(writers) };
    let hub = Hub::new(facts(args, &stage), fleet, referee, rest);
    hub.begin().await.map_err(Failure::Run)?;
    pulse::start(&hub);
    eprintln!("serving http://{address}/ (Ctrl-C ends)");
    tokio::select! {
        // Streams to the dashboard never end by themselves, so the server does not wait for them.
        outcome = axum::serve(listener, router(Arc::clone(&hub))).into_future() => {
            outcome.map_err(|error| Failure::Run(format!("cannot serve: {error}")))?;
        }
        () = told_to_end() => {}
    }
    hub.finish().await;
    drop(stage);
    Ok(())
}

fn facts(args: &ServeArgs, stage: &Stage) -> Facts {
    Facts {
        mode: mode(&args.fleet),
        tier: tier(&args.fleet),
        instances: args.fleet.size(),
        products: stage.products,
        quiet: stage.apart().quiet,
        ttl_s: args.ttl,
        query_ms: args.fleet.query_ms,
        rate: args.rate,
        outbox: args.outbox,
    }
}

fn tier(args: &FleetArgs) -> Tier {
    match (args.redis.as_deref(), args.on_redis()) {
        (Some(SPAWN), _) => Tier::OwnRedis,
        (_, true) => Tier::ForeignRedis,
        (_, false) => Tier::Memory,
    }
}

fn router(hub: Arc<Hub>) -> Router {
    Router::new()
        .route("/products", get(products::search))
        .route("/products/{id}", get(products::read).put(products::put))
        .route("/instances/{instance}/products/{id}", get(products::read_on).put(products::put_on))
        .route("/metrics", get(metrics::metrics))
        .route("/healthz", get(pages::health))
        .route("/", get(pages::index))
        .route("/assets/{name}", get(pages::asset))
        .route("/api/facts", get(pages::facts))
        .route("/api/live", get(pages::live))
        .route("/api/rush", post(trials::rush))
        .route("/api/change", post(trials::change))
        .route("/api/crash", post(crash::crash))
        .route("/api/subscriber", post(trials::subscriber))
        .route("/api/tier", post(trials::tier))
        .route("/api/database", post(trials::database))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(middleware::from_fn(guard::guard))
        .with_state(hub)
}

/// Ends with Ctrl-C, or with what Docker, Kubernetes and systemd send to stop a service.
async fn told_to_end() {
    let interrupt = async {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    #[cfg(unix)]
    let terminate = async {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut signal) => _ = signal.recv().await,
            Err(_) => std::future::pending().await,
        }
    };
    #[cfg(not(unix))]
    let terminate = std::future::pending::<()>();
    tokio::select! {
        () = interrupt => {}
        () = terminate => {}
    }
}
