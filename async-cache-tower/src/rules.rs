//! Whether and how long a response may be stored: RFC 9111 by `http-cache-semantics`, and what is stricter here.

use std::time::{Duration, SystemTime};

use http::header::{
    AGE, AUTHORIZATION, CACHE_CONTROL, CONNECTION, DATE, EXPIRES, LAST_MODIFIED, PRAGMA, SET_COOKIE, VARY,
};
use http::request::Parts as RequestParts;
use http::response::Parts as ResponseParts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_cache_semantics::{BeforeRequest, CacheOptions, CachePolicy};

use crate::key::Credentials;
use crate::layer::RequestDirectives;
use crate::response::{Life, Selecting};
use crate::tags::CacheTtl;

/// Header fields of a connection, not of the response. `Connection` may name more.
const HOP_BY_HOP: [&str; 8] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// The longest freshness and stale windows: a year, as RFC 9111 advises for caches.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// What applies to a layer's responses beside their headers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    /// For a response with status 200 that does not say how long it is fresh.
    pub(crate) default_ttl: Option<Duration>,
    pub(crate) directives: RequestDirectives,
}

impl Rules {
    /// How long the response may be stored, or `None` if it may not be.
    pub(crate) fn life(
        &self,
        request: &RequestParts,
        response: &ResponseParts,
        now: SystemTime,
    ) -> Option<Life> {
        let headers = &response.headers;
        let control = Directives::of(headers);
        let credentials = Credentials::of(&request.headers);
        let varies_by = |name: HeaderName| vary_names(headers).any(|vary| vary == name.as_str());
        // Stricter than RFC 9111: a response that sets a cookie is for one client, whatever else it says.
        if headers.contains_key(SET_COOKIE) || varies_by_all(headers) {
            return None;
        }
        // Stricter, too: a request with a cookie is treated like one with `Authorization`.
        let is_shared = control.has("public") || control.has("s-maxage") || varies_by(http::header::COOKIE);
        let has_cookie = request.headers.contains_key(http::header::COOKIE);
        if credentials == Credentials::Some && has_cookie && !is_shared {
            return None;
        }
        let policy = self.policy(request, response, &control, now);
        if !policy.is_storable() {
            return None;
        }
        let own = self.own_ttl(response, &control).unwrap_or(LONGEST);
        let fresh_for = policy.time_to_live(now).min(own).min(LONGEST);
        let (while_revalidate, if_error) = control.stale_windows();
        let life = Life {
            stored_at: now,
            initial_age: policy.age(now).min(LONGEST),
            fresh_for,
            while_revalidate,
            if_error,
        };
        (!fresh_for.is_zero()).then_some(life)
    }

    fn policy(
        &self,
        request: &RequestParts,
        response: &ResponseParts,
        control: &Directives,
        now: SystemTime,
    ) -> CachePolicy {
        let mut judged = Response::new(());
        *judged.status_mut() = response.status;
        *judged.headers_mut() = self.judged_headers(response, control);

        let mut asked = Request::new(());
        if let Some(value) = request.headers.get(AUTHORIZATION) {
            asked.headers_mut().insert(AUTHORIZATION, value.clone());
        }
        if self.directives == RequestDirectives::Honour {
            copy(&request.headers, &CACHE_CONTROL, asked.headers_mut());
        }
        // A response without an explicit lifetime is not stored: guesses from `Last-Modified` surprise.
        let options = CacheOptions {
            cache_heuristic: 0.0,
            immutable_min_time_to_live: Duration::ZERO,
            ..CacheOptions::default()
        };
        CachePolicy::new_options(&asked, &judged, now, options)
    }

    /// The headers that decide, with the directives in lower case: the library compares them as they are, and RFC 9111
    /// ignores the case.
    fn judged_headers(&self, response: &ResponseParts, control: &Directives) -> HeaderMap {
        let headers = &response.headers;
        let mut judged = HeaderMap::new();
        for name in [AGE, DATE, EXPIRES, LAST_MODIFIED, PRAGMA, SET_COOKIE] {
            copy(headers, &name, &mut judged);
        }
        let text = match self.own_ttl(response, control) {
            Some(ttl) => {
                judged.remove(EXPIRES);
                judged.remove(PRAGMA);
                control.with_ttl(ttl)
            }
            None => control.text(),
        };
        if let Ok(value) = HeaderValue::try_from(text)
            && !value.is_empty()
        {
            judged.insert(CACHE_CONTROL, value);
        }
        judged
    }

    /// The lifetime that the handler or the layer sets for this cache alone.
    fn own_ttl(&self, response: &ResponseParts, control: &Directives) -> Option<Duration> {
        if let Some(CacheTtl(ttl)) = response.extensions.get() {
            return Some(*ttl);
        }
        let headers = &response.headers;
        let is_silent =
            control.0.is_empty() && !headers.contains_key(EXPIRES) && !headers.contains_key(PRAGMA);
        self.default_ttl.filter(|_| is_silent && response.status == StatusCode::OK)
    }

    /// Whether the request's own directives allow the stored response, which is fresh.
    pub(crate) fn allows(&self, request: &HeaderMap, life: &Life, now: SystemTime) -> bool {
        if self.directives == RequestDirectives::Ignore
            || !(request.contains_key(CACHE_CONTROL) || request.contains_key(PRAGMA))
        {
            return true;
        }
        let lifetime = life.lifetime().as_secs();
        let mut stored = Response::new(());
        stored.headers_mut().insert(CACHE_CONTROL, max_age(lifetime));
        stored.headers_mut().insert(AGE, HeaderValue::from(life.age(now).as_secs()));
        let mut asked = Request::new(());
        copy(request, &CACHE_CONTROL, asked.headers_mut());
        copy(request, &PRAGMA, asked.headers_mut());
        let policy = CachePolicy::new_options(&Request::new(()), &stored, now, CacheOptions::default());
        matches!(policy.before_request(&asked, now), BeforeRequest::Fresh(_))
    }
}

fn max_age(seconds: u64) -> HeaderValue {
    HeaderValue::try_from(format!("max-age={seconds}"))
        .unwrap_or_else(|_| HeaderValue::from_static("max-age=0"))
}

fn copy(from: &HeaderMap, name: &HeaderName, to: &mut HeaderMap) {
    for value in from.get_all(name) {
        let lower = value.to_str().ok().filter(|_| *name == CACHE_CONTROL).map(str::to_ascii_lowercase);
        let lower = lower.and_then(|lower| HeaderValue::try_from(lower).ok());
        to.append(name.clone(), lower.unwrap_or_else(|| value.clone()));
    }
}

/// The longest lifetime that the response's headers state, in seconds.
pub(crate) fn told_lifetime(headers: &HeaderMap) -> u64 {
    let control = Directives::of(headers);
    let told =
        ["max-age", "s-maxage"].map(|name| control.values(name).filter_map(|age| age.parse().ok()).max());
    told.into_iter().flatten().max().unwrap_or(0)
}

/// The names in `Vary`, in lower case.
fn vary_names(headers: &HeaderMap) -> impl Iterator<Item = String> {
    let lines = headers.get_all(VARY).iter().filter_map(|line| line.to_str().ok());
    lines
        .flat_map(|line| line.split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .filter(|name| !name.is_empty())
}

/// `Vary: *`, or a line that is no list of names.
fn varies_by_all(headers: &HeaderMap) -> bool {
    headers.get_all(VARY).iter().any(|line| line.to_str().is_err())
        || vary_names(headers).any(|name| name == "*" || HeaderName::try_from(name).is_err())
}

/// The headers that select this variant, as the request has them.
pub(crate) fn selecting(request: &HeaderMap, response: &HeaderMap) -> Vec<Selecting> {
    let names = vary_names(response).filter_map(|name| HeaderName::try_from(name).ok());
    names.map(|name| Selecting::of(name, request)).collect()
}

/// Removes what belongs to the connection to the handler.
pub(crate) fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<String> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(',').map(|name| name.trim().to_ascii_lowercase()))
        .collect();
    for name in named {
        headers.remove(name.as_str());
    }
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
}

/// The directives of `Cache-Control`, in lower case.
struct Directives(Vec<String>);

impl Directives {
    fn of(headers: &HeaderMap) -> Self {
        let lines = headers.get_all(CACHE_CONTROL).iter();
        // A line that is no text may contain anything, so nothing is stored.
        let texts = lines.map(|line| line.to_str().unwrap_or("no-store"));
        let directives = texts.flat_map(|line| line.split(','));
        Self(
            directives.map(|part| part.trim().to_ascii_lowercase()).filter(|part| !part.is_empty()).collect(),
        )
    }

    fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter_map(move |directive| {
            let (key, value) = directive.split_once('=').unwrap_or((directive, ""));
            (key.trim() == name).then_some(value.trim().trim_matches('"'))
        })
    }

    fn has(&self, name: &str) -> bool {
        self.values(name).next().is_some()
    }

    fn seconds(&self, name: &str) -> Duration {
        let seconds = self.values(name).next().and_then(|value| value.parse().ok()).unwrap_or(0);
        Duration::from_secs(seconds).min(LONGEST)
    }

    /// RFC 5861: how long the stale response may answer while it is revalidated, and if that fails.
    fn stale_windows(&self) -> (Duration, Duration) {
        if ["must-revalidate", "proxy-revalidate", "no-cache"].iter().any(|name| self.has(name)) {
            return (Duration::ZERO, Duration::ZERO);
        }
        (self.seconds("stale-while-revalidate"), self.seconds("stale-if-error"))
    }

    fn text(&self) -> String {
        self.0.join(", ")
    }

    /// The directives with this lifetime instead of their own.
    fn with_ttl(&self, ttl: Duration) -> String {
        let kept = ["private", "no-store", "public"].into_iter().filter(|name| self.has(name));
        let lifetime = if self.has("s-maxage") { "s-maxage" } else { "max-age" };
        let seconds = ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0);
        kept.map(ToOwned::to_owned).chain([format!("{lifetime}={seconds}")]).collect::<Vec<_>>().join(", ")
    }
}

/// Whether RFC 9111 lets a cache answer this method, and whether its success makes the stored responses void.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Get,
    Head,
    /// OPTIONS and TRACE: nothing is stored, and nothing becomes void.
    OtherSafe,
    /// It may change what the URL shows.
    Unsafe,
}

impl Verb {
    pub(crate) fn of(method: &Method) -> Self {
        match *method {
            Method::GET => Self::Get,
            Method::HEAD => Self::Head,
            Method::OPTIONS | Method::TRACE => Self::OtherSafe,
            _ => Self::Unsafe,
        }
    }
}
