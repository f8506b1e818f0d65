//! Responses made of what is stored.

use std::fmt::Write;
use std::time::SystemTime;

use http::header::{
    AGE, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_LOCATION, DATE, ETAG, EXPIRES, HeaderName, HeaderValue,
    IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED, VARY,
};
use http::request::Parts;
use http::{HeaderMap, Response, StatusCode};
use http_body::Body;

use crate::body::CacheBody;
use crate::key::{Credentials, Slots, slot_key};
use crate::layer::Config;
use crate::response::{Kind, Stored};
use crate::rules::told_lifetime;

const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// What happened to a request, for `Cache-Status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Hit,
    /// A stale response, because the handler failed or is being asked.
    Stale,
    /// The handler ran, and its response is stored.
    Stored,
    /// The handler ran. The cache may have refused to store its response.
    Loaded,
    /// The handler ran, and its response is not stored.
    NotStored,
    /// The cache was not asked.
    Bypass,
}

/// Adds `Cache-Status`, if the layer has a name.
pub(crate) fn with_status<B: Body>(
    mut response: Response<CacheBody<B>>,
    config: &Config,
    outcome: Outcome,
) -> Response<CacheBody<B>> {
    if let Some(name) = &config.status_name {
        let mut text = String::from(&**name);
        let _ = text.write_str(match outcome {
            Outcome::Hit => "; hit",
            Outcome::Stale => "; hit; detail=stale",
            Outcome::Stored => "; fwd=miss; stored",
            Outcome::Loaded | Outcome::NotStored => "; fwd=miss",
            Outcome::Bypass => "; fwd=bypass",
        });
        if let Ok(value) = HeaderValue::try_from(text) {
            // The last cache adds itself at the end.
            response.headers_mut().append(CACHE_STATUS, value);
        }
    }
    response
}

/// Answers a GET or HEAD with the stored response, or with 304 if the client has it.
pub(crate) fn answer<B: Body>(stored: &Stored, request: &Parts, outcome: Outcome) -> Response<CacheBody<B>> {
    let now = SystemTime::now();
    let mut response = if client_has_it(stored, &request.headers) {
        let mut response = Response::new(CacheBody::absent());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        for name in [CACHE_CONTROL, CONTENT_LOCATION, DATE, ETAG, EXPIRES, LAST_MODIFIED, VARY] {
            for value in stored.headers.get_all(&name) {
                response.headers_mut().append(name.clone(), value.clone());
            }
        }
        response
    } else {
        let is_head = request.method == http::Method::HEAD;
        let body = if is_head { CacheBody::absent() } else { CacheBody::whole(stored.body.clone()) };
        let mut response = Response::new(body);
        *response.status_mut() = stored.status;
        *response.headers_mut() = stored.headers.clone();
        if is_head {
            response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(stored.body.len()));
        }
        response
    };
    let is_own = matches!(outcome, Outcome::Stored | Outcome::Loaded) && stored.life.initial_age.is_zero();
    if !is_own {
        let age = stored.life.age(now).as_secs();
        // No client may take a stale response for fresh. If a change has expired it, its own age may still be that of a
        // fresh one.
        let age = match outcome {
            Outcome::Stale => age.max(stored.life.lifetime().as_secs()).max(told_lifetime(&stored.headers)),
            _ => age,
        };
        response.headers_mut().insert(AGE, HeaderValue::from(age));
    }
    response
}

/// The preconditions of a GET: RFC 9110, section 13. Only for a response with status 200.
fn client_has_it(stored: &Stored, request: &HeaderMap) -> bool {
    if stored.status != StatusCode::OK {
        return false;
    }
    if request.contains_key(IF_NONE_MATCH) {
        let etag = stored.headers.get(ETAG).and_then(|etag| etag.to_str().ok());
        return request.get_all(IF_NONE_MATCH).iter().filter_map(|line| line.to_str().ok()).any(|line| {
            line.trim() == "*"
                || etag.is_some_and(|etag| entity_tags(line).any(|tag| weak(tag) == weak(etag)))
        });
    }
    let date = |value: Option<&HeaderValue>| httpdate::parse_http_date(value?.to_str().ok()?).ok();
    let (Some(since), Some(modified)) =
        (date(request.get(IF_MODIFIED_SINCE)), date(stored.headers.get(LAST_MODIFIED)))
    else {
        return false;
    };
    modified <= since
}

/// The entity tags of a list. A tag may contain a comma, so the list is split at quotes.
fn entity_tags(mut list: &str) -> impl Iterator<Item = &str> {
    std::iter::from_fn(move || {
        list = list.trim_start_matches([' ', '\t', ',']);
        let opening = list.find('"')?;
        let length = opening + 1 + list.get(opening + 1..)?.find('"')? + 1;
        let (tag, rest) = list.split_at(length);
        list = rest;
        Some(tag)
    })
}

/// For the weak comparison.
fn weak(tag: &str) -> &str {
    tag.trim().trim_start_matches("W/")
}

/// Answers a HEAD from the stored response to a GET. `None` if there is none: then the handler is asked, because its HEAD
/// may cost less than its GET.
pub(crate) async fn answer_head<B: Body>(
    config: &Config,
    request: &Parts,
    url: &str,
) -> Option<Response<CacheBody<B>>> {
    let credentials = Credentials::of(&request.headers);
    let mut slots = Slots::new(config.max_variants);
    while let Some(slot) = slots.next() {
        let found = config.cache.get(&slot_key(url, credentials, slot)).await.ok()??;
        let Kind::Stored(stored) = &found.0 else { return None };
        if !stored.is_selected_by(&request.headers) {
            slots.begin_at(stored.selecting.iter().map(|selecting| &selecting.name), &request.headers);
            continue;
        }
        let now = SystemTime::now();
        if stored.life.stale_since(now).is_some() || !config.rules.allows(&request.headers, &stored.life, now)
        {
            return None;
        }
        return Some(with_status(answer(stored, request, Outcome::Hit), config, Outcome::Hit));
    }
    None
}
