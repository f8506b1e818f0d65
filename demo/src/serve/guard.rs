//! Refuses what a page of another site could make a browser send, and sets the headers of every answer.

use std::net::IpAddr;

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::serve::answer::Refusal;

/// Headers of every answer. Nothing on the page comes from elsewhere.
const HEADERS: [(HeaderName, &str); 5] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CACHE_CONTROL, "no-store"),
];

/// The middleware in front of every route.
pub(crate) async fn guard(request: Request, next: Next) -> Response {
    let mut response = match check(request.method(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(why) => Refusal::new(StatusCode::FORBIDDEN, why).into_response(),
    };
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Whether a request may come from where it says it comes from.
fn check(method: &Method, headers: &HeaderMap) -> Result<(), String> {
    let text = |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or("(not text)"));
    let host = text(header::HOST).ok_or("a request needs a Host")?;
    // DNS rebinding: a name of another site can point here, an address cannot.
    if !is_an_address(host) {
        return Err(format!("this server is reached as localhost or by its address, not as {host}"));
    }
    if matches!(*method, Method::GET | Method::HEAD) {
        return Ok(());
    }
    // Every browser sends an origin with a request that changes something; other clients need none.
    if let Some(origin) = text(header::ORIGIN)
        && origin.split_once("://").is_none_or(|(_, authority)| authority != host)
    {
        return Err(format!("a page of {origin} may not change anything here"));
    }
    let site = text(HeaderName::from_static("sec-fetch-site"));
    match site {
        None | Some("same-origin" | "none") => Ok(()),
        Some(_) => Err("a page of another site may not change anything here".into()),
    }
}

/// Whether it is `localhost` or an IP address, with or without a port.
fn is_an_address(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !name.ends_with(':') => name,
        _ => host,
    };
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    name.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(method: &Method, headers: &[(&'static str, &'static str)]) -> bool {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, HeaderValue::from_static(value));
        }
        check(method, &map).is_ok()
    }

    #[test]
    fn only_localhost_and_addresses_are_hosts() {
        for host in ["localhost", "LOCALHOST:8080", "127.0.0.1:1", "[::1]:8080", "[::1]", "10.0.0.7:80"] {
            assert!(verdict(&Method::GET, &[("host", host)]), "{host}");
        }
        for host in
            ["evil.example", "localhost.evil.example:8080", "127.0.0.1.evil.example", "", ":80", "a:b:c"]
        {
            assert!(!verdict(&Method::GET, &[("host", host)]), "{host}");
        }
        assert!(!verdict(&Method::GET, &[]));
    }

    #[test]
    fn only_this_origin_and_clients_without_one_change_anything() {
        let host = ("host", "127.0.0.1:8080");
        for method in [Method::POST, Method::PUT, Method::DELETE] {
            assert!(verdict(&method, &[host]));
            assert!(verdict(&method, &[host, ("origin", "http://127.0.0.1:8080")]));
            assert!(verdict(&method, &[host, ("sec-fetch-site", "same-origin")]));
            for origin in
                ["http://127.0.0.1:8081", "http://evil.example", "null", "http://127.0.0.1:8080.evil.example"]
            {
                assert!(!verdict(&method, &[host, ("origin", origin)]), "{origin}");
            }
            for site in ["cross-site", "same-site"] {
                assert!(!verdict(&method, &[host, ("sec-fetch-site", site)]), "{site}");
            }
        }
        assert!(verdict(&Method::GET, &[host, ("origin", "http://evil.example")]));
    }
}
