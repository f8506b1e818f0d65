//! The keys of responses.

use std::fmt::Write;
use std::hash::Hasher;

use http::header::{AUTHORIZATION, COOKIE};
use http::request::Parts;
use http::{HeaderMap, HeaderName};
use xxhash_rust::xxh3::Xxh3;

use crate::host::{certain_host, possible_hosts};

/// The longest key in bytes, without the slot and the credentials. A request with a longer one is not cached.
pub(crate) const MAX_KEY_BYTES: usize = 1_000;

/// Whether a request has credentials. The responses of the two kinds never mix, so that a page for a stranger does not
/// answer a user, and one load serves only requests of its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Credentials {
    None,
    Some,
}

impl Credentials {
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        match headers.contains_key(AUTHORIZATION) || headers.contains_key(COOKIE) {
            true => Self::Some,
            false => Self::None,
        }
    }
}

/// The default key: the host in lower case, a space, the path and the query. `None` if the host is not certain: then
/// the response may be a page of any of several hosts.
pub(crate) fn host_and_path(request: &Parts) -> Option<String> {
    Some(key_of(certain_host(request)?, request))
}

/// The default keys of a request with any host that it may mean: for dropping its URL.
pub(crate) fn possible_keys(request: &Parts) -> Vec<String> {
    possible_hosts(request).into_iter().map(|host| key_of(&host, request)).collect()
}

fn key_of(host: &str, request: &Parts) -> String {
    let path = request.uri.path_and_query().map_or("/", |path| path.as_str());
    let mut key = String::with_capacity(host.len() + path.len() + 1);
    key.push_str(host);
    key.make_ascii_lowercase();
    key.push(' ');
    key.push_str(path);
    key
}

/// The key of one of the slots of a URL. The credentials and the slot come first, so that no URL can imitate them.
pub(crate) fn slot_key(url: &str, credentials: Credentials, slot: usize) -> String {
    let mut key = String::with_capacity(url.len() + 6);
    key.push(match credentials {
        Credentials::None => 'p',
        Credentials::Some => 'c',
    });
    let _ = write!(key, "{slot} ");
    key.push_str(url);
    key
}

/// All keys under which responses for a URL may be stored.
pub(crate) fn all_slots(url: &str, slots: usize) -> Vec<String> {
    let of = |credentials| (0..slots).map(move |slot| slot_key(url, credentials, slot));
    of(Credentials::None).chain(of(Credentials::Some)).collect()
}

/// The slots of a URL in the order in which one request looks at them. The first holds the first variant that was asked
/// for, so a URL without `Vary` needs no other. The rest is a hash table with a fixed size, which limits the variants.
#[derive(Debug)]
pub(crate) struct Slots {
    count: usize,
    looked_at: usize,
    /// Where the search in the hash table begins. It is known after the first slot.
    start: usize,
}

impl Slots {
    pub(crate) fn new(count: usize) -> Self {
        Self { count, looked_at: 0, start: 0 }
    }

    /// The next slot, or `None` after all of them.
    pub(crate) fn next(&mut self) -> Option<usize> {
        let nth = self.looked_at;
        self.looked_at += 1;
        match nth {
            0 => Some(0),
            nth if nth < self.count => Some(1 + (self.start + nth - 1) % (self.count - 1)),
            _ => None,
        }
    }

    /// The first slot holds another variant: these headers select the variant.
    pub(crate) fn begin_at<'a>(&mut self, names: impl Iterator<Item = &'a HeaderName>, headers: &HeaderMap) {
        if self.looked_at == 1 {
            let mut hasher = Xxh3::new();
            for name in names {
                for value in headers.get_all(name) {
                    hasher.update(value.as_bytes());
                    hasher.update(b"\n"); // no header value contains it
                }
                hasher.update(&[0]);
            }
            self.start = (hasher.finish() % self.count.max(1) as u64) as usize;
        }
    }
}
