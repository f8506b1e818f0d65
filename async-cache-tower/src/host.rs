//! The host of a request: the one on which all headers agree, and all that a header names.

use http::header::{FORWARDED, HOST};
use http::request::Parts;
use http::uri::Authority;

/// The most hosts under which one unsafe request drops its URL.
const MAX_HOSTS: usize = 8;

/// The host on which all sources of a host agree. A handler may use any of them, and a client may set each.
pub(crate) fn certain_host(request: &Parts) -> Option<&str> {
    let headers = &request.headers;
    let header = match headers.get(HOST) {
        Some(host) => Some(host.to_str().ok()?),
        None => None,
    };
    let host = target_host(request).or(header)?;
    let agrees = |other: &str| other.trim().eq_ignore_ascii_case(host);
    let forwarded = headers.get_all("x-forwarded-host").iter().chain(headers.get_all("x-host"));
    let standard = headers.get_all(FORWARDED).iter().all(|line| {
        let Ok(line) = line.to_str() else { return false };
        // Parsers differ in what they make of a line with a mistake, so such a line may mean any host.
        is_forwarded(line) && forwarded_hosts(line).all(|other| other.eq_ignore_ascii_case(host))
    });
    let all_agree = header.is_none_or(agrees)
        && headers.get_all(HOST).iter().count() <= 1
        && forwarded.into_iter().all(|line| line.to_str().is_ok_and(|line| line.split(',').all(agrees)))
        && standard;
    all_agree.then_some(host)
}

/// Every host that the request may mean, in lower case: at most [`MAX_HOSTS`], those of `Host` and of the target first.
pub(crate) fn possible_hosts(request: &Parts) -> Vec<String> {
    let headers = &request.headers;
    let texts = |name: &str| headers.get_all(name).iter().filter_map(|line| line.to_str().ok());
    let lists = texts("x-forwarded-host").chain(texts("x-host")).flat_map(|line| line.split(','));
    let named = target_host(request)
        .into_iter()
        .chain(texts(HOST.as_str()))
        .chain(lists)
        .chain(texts(FORWARDED.as_str()).flat_map(forwarded_hosts));
    let mut hosts = Vec::new();
    for host in named.map(|host| host.trim().to_ascii_lowercase()).filter(|host| !host.is_empty()) {
        if hosts.len() == MAX_HOSTS {
            break;
        }
        if !hosts.contains(&host) {
            hosts.push(host);
        }
    }
    hosts
}

fn target_host(request: &Parts) -> Option<&str> {
    request.uri.authority().map(Authority::as_str)
}

/// All hosts in a line of `Forwarded`, as a tolerant parser reads it: it splits at each `;` and `,`, also in quotes, and
/// trims.
fn forwarded_hosts(line: &str) -> impl Iterator<Item = &str> {
    let pairs = line.split([';', ',']).filter_map(|pair| pair.split_once('='));
    let names_host = |name: &str| name.trim().trim_matches('"').trim().eq_ignore_ascii_case("host");
    pairs.filter(move |(name, _)| names_host(name)).map(|(_, host)| host.trim().trim_matches('"'))
}

/// Whether the line keeps to the grammar of RFC 7239, section 4. Spaces may stand around `;` as around `,`, because
/// proxies write them, and all parsers read the same from them.
fn is_forwarded(line: &str) -> bool {
    let mut rest = line;
    loop {
        rest = rest.trim_start_matches([' ', '\t']);
        rest = match rest.as_bytes().first() {
            None => return true,
            Some(b';' | b',') => &rest[1..],
            Some(_) => match after_pair(rest) {
                Some(after) => after,
                None => return false,
            },
        };
    }
}

/// What follows a pair of name and value, up to its `;` or `,`. `None` if it is no pair.
fn after_pair(text: &str) -> Option<&str> {
    let (name, value) = text.split_at(text.find(|letter| !is_token(letter))?);
    let value = value.strip_prefix('=').filter(|_| !name.is_empty())?;
    let after = match value.strip_prefix('"') {
        Some(quoted) => after_quotes(quoted)?,
        None => {
            let end = value.find(|letter| !is_token(letter) && !is_of_address(letter)).unwrap_or(value.len());
            value.split_at_checked(end).filter(|_| end > 0)?.1
        }
    };
    let after = after.trim_start_matches([' ', '\t']);
    (after.is_empty() || after.starts_with([';', ','])).then_some(after)
}

fn after_quotes(quoted: &str) -> Option<&str> {
    let mut letters = quoted.char_indices();
    loop {
        match letters.next()? {
            (at, '"') => return quoted.get(at + 1..),
            (_, '\\') => letters.next().map(drop)?,
            _ => {}
        }
    }
}

/// The letters of a token: RFC 9110, section 5.6.2.
fn is_token(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(letter)
}

/// The letters of ports and of IPv6 addresses. They need quotes by the RFC, and many proxies leave them out.
fn is_of_address(letter: char) -> bool {
    matches!(letter, ':' | '[' | ']')
}
