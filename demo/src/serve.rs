//! A page with live figures, and the service over HTTP.
//!
//! | | |
//! |---|---|
//! | `GET /` | the page |
//! | `GET /figures` | all figures as JSON |
//! | `GET /instances/{i}/products/{id}` | a product from one instance, and the source of the answer |
//! | `POST /instances/{i}/products/{id}` | sells one piece there: update, then invalidate |

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Html;
use axum::routing::get;
use axum::{Json, Router};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::driver::Driver;
use crate::events::Purpose;
use crate::figures::{Circumstances, Figures};
use crate::instance::chain;
use crate::referee::Referee;

struct Site {
    drivers: Vec<Arc<Driver>>,
    referee: Arc<Mutex<Referee>>,
    circumstances: Circumstances,
}

type Answer = Result<Json<Value>, (StatusCode, String)>;

/// Binds the address.
pub(crate) async fn bind(address: &str) -> Result<TcpListener, String> {
    TcpListener::bind(address).await.map_err(|error| format!("--serve: cannot listen on {address}: {error}"))
}

/// Serves in the background. Returns the bound address, with the real port if 0 was asked for.
pub(crate) fn start(
    listener: TcpListener,
    drivers: Vec<Arc<Driver>>,
    referee: Arc<Mutex<Referee>>,
    circumstances: Circumstances,
) -> Result<SocketAddr, String> {
    let bound = listener.local_addr().map_err(|error| format!("no address is bound: {error}"))?;
    let router = Router::new()
        .route("/", get(async || Html(include_str!("dashboard.html"))))
        .route("/figures", get(figures))
        .route("/instances/{instance}/products/{id}", get(product).post(sell))
        .with_state(Arc::new(Site { drivers, referee, circumstances }));
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(bound)
}

async fn figures(State(site): State<Arc<Site>>) -> Json<Figures> {
    Json(Figures::of(&site.referee.lock(), &site.circumstances))
}

async fn product(State(site): State<Arc<Site>>, Path((instance, id)): Path<(usize, u32)>) -> Answer {
    let mut caller = site.driver(instance)?.caller();
    let begun = Instant::now();
    match caller.read(id, Purpose::Lag).await {
        Ok((Some(product), source)) => {
            let micros = begun.elapsed().as_micros();
            Ok(Json(json!({ "product": *product, "source": source, "took_us": micros })))
        }
        Ok((None, _)) => Err((StatusCode::NOT_FOUND, format!("no product {id}"))),
        Err(error) => Err((StatusCode::SERVICE_UNAVAILABLE, chain(&error))),
    }
}

async fn sell(State(site): State<Arc<Site>>, Path((instance, id)): Path<(usize, u32)>) -> Answer {
    match site.driver(instance)?.sell(id).await {
        Ok(Some(version)) => Ok(Json(json!({ "version": version }))),
        Ok(None) => Err((StatusCode::NOT_FOUND, format!("no product {id}"))),
        Err(error) => Err((StatusCode::SERVICE_UNAVAILABLE, error.to_string())),
    }
}

impl Site {
    fn driver(&self, instance: usize) -> Result<&Arc<Driver>, (StatusCode, String)> {
        let missing =
            || (StatusCode::NOT_FOUND, format!("no instance {instance}: 0 to {}", self.drivers.len() - 1));
        self.drivers.get(instance).ok_or_else(missing)
    }
}
