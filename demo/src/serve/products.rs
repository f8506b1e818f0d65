//! The service's own routes. Without an instance in the path, the instances take turns.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, Uri};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::catalogue::{Change, Product};
use crate::database::{KINDS, MAX_FOUND};
use crate::events::Answer;
use crate::orders::{Changed, Order, Reply};
use crate::serve::answer::Refusal;
use crate::serve::hub::Hub;

/// Longest name of a product, in characters.
const MAX_NAME: usize = 80;
/// Highest price, in cents, and highest stock.
pub(crate) const MAX_NUMBER: u32 = 100_000_000;

/// A product as clients see it.
#[derive(Debug, Serialize)]
pub(crate) struct Shown<'a> {
    pub(crate) id: u32,
    pub(crate) name: &'a str,
    pub(crate) kind: &'a str,
    pub(crate) price_cents: u32,
    pub(crate) stock: u32,
    pub(crate) version: u32,
}

impl<'a> From<&'a Product> for Shown<'a> {
    fn from(product: &'a Product) -> Self {
        let Product { id, name, kind, price_cents, stock, version, .. } = product;
        Self { id: *id, name, kind, price_cents: *price_cents, stock: *stock, version: *version }
    }
}

/// The body of a `PUT`: the fields to set.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Fields {
    name: Option<String>,
    price_cents: Option<u32>,
    stock: Option<u32>,
}

type Answered = Result<(HeaderMap, Json<Value>), Refusal>;

/// `GET /products/{id}`
pub(crate) async fn read(State(hub): State<Arc<Hub>>, Path(id): Path<u32>) -> Answered {
    read_from(&hub, hub.next_instance()?, id).await
}

/// `GET /instances/{instance}/products/{id}`
pub(crate) async fn read_on(State(hub): State<Arc<Hub>>, Path((instance, id)): Path<(u16, u32)>) -> Answered {
    read_from(&hub, numbered(&hub, instance)?, id).await
}

/// `PUT /products/{id}`
pub(crate) async fn put(
    State(hub): State<Arc<Hub>>,
    Path(id): Path<u32>,
    Json(fields): Json<Fields>,
) -> Answered {
    put_on_one(&hub, hub.next_instance()?, id, fields).await
}

/// `PUT /instances/{instance}/products/{id}`
pub(crate) async fn put_on(
    State(hub): State<Arc<Hub>>,
    Path((instance, id)): Path<(u16, u32)>,
    Json(fields): Json<Fields>,
) -> Answered {
    put_on_one(&hub, numbered(&hub, instance)?, id, fields).await
}

/// `GET /products?tag=lamp`
pub(crate) async fn search(State(hub): State<Arc<Hub>>, uri: Uri) -> Result<Json<Value>, Refusal> {
    let tag = uri.query().and_then(|query| query.strip_prefix("tag="));
    let Some(kind) = tag.filter(|tag| KINDS.contains(tag)) else {
        return Err(Refusal::invalid(format!(
            "give a tag, /products?tag=lamp. There are {}",
            KINDS.join(", ")
        )));
    };
    match hub.ask(hub.next_instance()?, Order::Search { kind: kind.to_owned() }).await? {
        Reply::Found(found) => {
            let products: Vec<_> = found.iter().map(Shown::from).collect();
            Ok(Json(json!({ "tag": kind, "limit": MAX_FOUND, "products": products })))
        }
        reply => Err(unexpected(&reply)),
    }
}

async fn read_from(hub: &Hub, instance: u16, id: u32) -> Answered {
    match hub.ask(instance, Order::Read { product: id }).await? {
        Reply::Read { product: Some(product), answer, .. } => {
            Ok((from(instance, Some(answer)), Json(json!(Shown::from(&product)))))
        }
        Reply::Read { product: None, .. } => Err(Refusal::not_found(format!("product {id}"))),
        reply => Err(unexpected(&reply)),
    }
}

async fn put_on_one(hub: &Hub, instance: u16, id: u32, fields: Fields) -> Answered {
    let change = checked(fields)?;
    match hub.ask(instance, Order::Change { product: id, change }).await? {
        Reply::Changed(Changed { version: Some(version), pending, .. }) => {
            let body = json!({ "id": id, "version": version, "pending": pending });
            Ok((from(instance, None), Json(body)))
        }
        Reply::Changed(Changed { version: None, .. }) => Err(Refusal::not_found(format!("product {id}"))),
        reply => Err(unexpected(&reply)),
    }
}

fn checked(fields: Fields) -> Result<Change, Refusal> {
    let Fields { name, price_cents, stock } = fields;
    if (&name, price_cents, stock) == (&None, None, None) {
        return Err(Refusal::invalid("give name, price_cents or stock"));
    }
    if name.as_ref().is_some_and(|name| {
        name.trim().is_empty() || name.chars().any(char::is_control) || name.chars().count() > MAX_NAME
    }) {
        return Err(Refusal::invalid(format!("a name has 1 to {MAX_NAME} characters")));
    }
    if price_cents.into_iter().chain(stock).any(|number| number > MAX_NUMBER) {
        return Err(Refusal::invalid(format!("price_cents and stock are at most {MAX_NUMBER}")));
    }
    Ok(Change::Set { name, price_cents, stock })
}

/// An instance by its number, which begins with 1.
pub(crate) fn numbered(hub: &Hub, number: u16) -> Result<u16, Refusal> {
    let index = number.checked_sub(1).filter(|index| *index < hub.len());
    index.ok_or_else(|| Refusal::not_found(format!("instance {number}: they are 1 to {}", hub.len())))
}

/// Headers that say which instance answered, and from where.
fn from(instance: u16, answer: Option<Answer>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("x-instance", HeaderValue::from(instance + 1));
    if let Some(answer) = answer {
        let source = match answer {
            Answer::L1 => "l1",
            Answer::L2 => "l2",
            Answer::Loaded => "loaded",
            Answer::Waited => "waited",
            Answer::Stale => "stale",
        };
        headers.insert("x-cache", HeaderValue::from_static(source));
    }
    headers
}

/// A reply that does not belong to its order.
pub(crate) fn unexpected(reply: &Reply) -> Refusal {
    Refusal::unavailable(format!("an instance gave a reply to another order: {reply:?}"))
}
