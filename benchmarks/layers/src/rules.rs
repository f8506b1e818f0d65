//! What a layer does with a rule of HTTP caching, found by asking it.

use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};
use http::{Request, StatusCode};

use crate::request;
use crate::sides::Side;

pub(crate) struct Rule {
    pub(crate) name: &'static str,
    pub(crate) judge: fn(Side) -> BoxFuture<'static, String>,
}

const YES: &str = "yes";
const NO: &str = "**no**";

fn verdict(holds: bool) -> String {
    if holds { YES } else { NO }.to_owned()
}

/// Whether the handler runs for both of two requests.
async fn runs_twice(side: &Side, first: http::request::Builder, second: http::request::Builder) -> bool {
    let before = side.runs();
    side.ask(first).await;
    side.ask(second).await;
    side.runs() - before == 2
}

macro_rules! rules {
    ($($name:literal: $side:ident => $judge:expr;)*) => {
        pub(crate) fn all() -> Vec<Rule> {
            vec![$(Rule { name: $name, judge: |$side| async move { $judge }.boxed() }),*]
        }
    };
}

rules! {
    "a response with `private` is not stored": side => {
        let ask = || request("/private").header("x-send-cache-control", "private, max-age=60");
        verdict(runs_twice(&side, ask(), ask()).await)
    };
    "a response with `no-store` is not stored": side => {
        let ask = || request("/no-store").header("x-send-cache-control", "no-store");
        verdict(runs_twice(&side, ask(), ask()).await)
    };
    "`max-age` is its lifetime": side => {
        let ask = || request("/age").header("x-send-cache-control", "max-age=1");
        side.ask(ask()).await;
        tokio::time::sleep(Duration::from_millis(2100)).await;
        let before = side.runs();
        side.ask(ask()).await;
        verdict(side.runs() > before)
    };
    "a response to `Authorization` is not stored without `public`": side => {
        let ask = |token: &str| {
            request("/auth").header("authorization", token).header("x-send-cache-control", "max-age=60")
        };
        verdict(runs_twice(&side, ask("Bearer a"), ask("Bearer b")).await)
    };
    "`Set-Cookie` is not repeated to others": side => {
        let ask = || {
            request("/cookie").header("x-send-set-cookie", "id=1").header("x-send-cache-control", "max-age=60")
        };
        side.ask(ask()).await;
        let before = side.runs();
        let second = side.ask(ask()).await;
        verdict(side.runs() > before || !second.headers.contains_key("set-cookie"))
    };
    "`Vary`: each variant is its own": side => {
        let ask = |language: &str| {
            request("/vary").header("accept-language", language).header("x-send-vary", "accept-language")
                .header("x-send-cache-control", "max-age=60")
        };
        verdict(runs_twice(&side, ask("de"), ask("fr")).await)
    };
    "the query is part of the key": side => {
        let ask = |path: &str| request(path).header("x-send-cache-control", "max-age=60");
        verdict(runs_twice(&side, ask("/query?q=1"), ask("/query?q=2")).await)
    };
    "the host is part of the key": side => {
        let ask = |host: &str| {
            Request::get("/host").header("host", host).header("x-send-cache-control", "max-age=60")
        };
        verdict(runs_twice(&side, ask("a.example"), ask("b.example")).await)
    };
    "`If-None-Match` is answered with 304": side => {
        let ask = || {
            request("/etag").header("x-send-etag", "\"1\"").header("x-send-cache-control", "max-age=60")
        };
        side.ask(ask()).await;
        let second = side.ask(ask().header("if-none-match", "\"1\"")).await;
        verdict(second.status == StatusCode::NOT_MODIFIED)
    };
    "a hit has `Age`": side => {
        let ask = || request("/aged").header("x-send-cache-control", "max-age=60");
        side.ask(ask()).await;
        verdict(side.ask(ask()).await.headers.contains_key("age"))
    };
    "a POST is not answered from the cache, and drops its URL": side => {
        let ask = || request("/post").header("x-send-cache-control", "max-age=60");
        side.ask(ask()).await;
        let before = side.runs();
        side.ask(Request::post("/post").header("host", "shop.example")).await;
        side.ask(ask()).await;
        verdict(side.runs() - before == 2)
    };
    "200 requests at once run the handler so often": side => {
        let before = side.runs();
        let ask = || request("/storm").header("x-sleep", "50").header("x-send-cache-control", "max-age=60");
        join_all((0..200).map(|_| side.ask(ask()))).await;
        (side.runs() - before).to_string()
    };
}
