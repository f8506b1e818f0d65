//! Bodies that are not stored arrive whole.

use std::convert::Infallible;
use std::io;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::HeaderMap;
use axum::response::Response;
use futures_util::{StreamExt, stream};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tokio::sync::mpsc;

use crate::site::{Site, layer, request};

fn storable(body: Body) -> Response {
    Response::builder().header("cache-control", "max-age=60").body(body).expect("a response")
}

fn chunks(count: usize) -> Body {
    Body::from_stream(stream::iter((0..count).map(|_| Ok::<_, Infallible>(Bytes::from_static(&[7; 100])))))
}

#[tokio::test]
async fn a_body_up_to_the_limit_is_stored_and_a_larger_one_is_streamed_whole() {
    for (count, outcome) in [(10, "hit"), (11, "fwd=bypass")] {
        let site = Site::new(layer().max_body(1_000), move |_, _| storable(chunks(count)));
        for _ in 0..2 {
            assert_eq!(site.get("/").await.body, vec![7; count * 100]);
        }
        assert_eq!(site.get("/").await.outcome(), outcome);
    }
    // Its size is known at once.
    let site = Site::new(layer().max_body(1_000), |_, _| storable(Body::from(vec![7; 1_001])));
    assert_eq!(site.get("/").await.body.len(), 1_001);
    assert_eq!(site.get("/").await.outcome(), "fwd=bypass");
}

#[tokio::test]
async fn a_body_that_fails_or_ends_early_is_not_stored() {
    let site = Site::new(layer(), |_, _| {
        storable(Body::from_stream(stream::iter([
            Ok(Bytes::from_static(b"begun")),
            Err(io::Error::other("cut")),
        ])))
    });
    for _ in 0..2 {
        let mut body = site.open(request("GET", "/", &[])).await.into_body();
        let first = body.frame().await.expect("a frame").expect("data").into_data().expect("data");
        assert_eq!(first, "begun");
        assert!(body.frame().await.expect("a frame").is_err());
    }
    assert_eq!(site.runs(), 2);

    let site = Site::new(layer(), |_, _| {
        let mut response = storable(Body::from_stream(stream::iter([Ok::<_, Infallible>("short")])));
        response.headers_mut().insert("content-length", 10.into());
        response
    });
    site.get("/").await;
    assert_ne!(site.get("/").await.outcome(), "hit");
}

#[tokio::test]
async fn trailers_arrive() {
    let site = Site::new(layer(), |_, _| {
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", "1".parse().expect("a value"));
        let frames = [Frame::data(Bytes::from_static(b"data")), Frame::trailers(trailers)];
        storable(Body::new(StreamBody::new(stream::iter(frames.map(Ok::<_, Infallible>)))))
    });
    for _ in 0..2 {
        let body = site.open(request("GET", "/", &[])).await.into_body().collect().await.expect("a body");
        assert_eq!(body.trailers().expect("trailers")["x-sum"], "1");
        assert_eq!(body.to_bytes(), "data");
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_body_is_streamed_when_its_time_is_over() {
    let (sender, receiver) = mpsc::unbounded_channel();
    let receiver = std::sync::Arc::new(std::sync::Mutex::new(Some(receiver)));
    let site = Site::new(layer().body_timeout(Duration::from_secs(5)), move |_, _| {
        let receiver = receiver.lock().expect("not poisoned").take().expect("one run");
        let frames =
            stream::unfold(receiver, |mut receiver: mpsc::UnboundedReceiver<&'static str>| async move {
                receiver.recv().await.map(|text| (Ok::<_, Infallible>(text), receiver))
            });
        storable(Body::from_stream(frames.boxed()))
    });
    sender.send("at once").expect("a receiver");
    // The clock jumps to the limit as soon as everything waits.
    let mut body = site.open(request("GET", "/", &[])).await.into_body();
    assert_eq!(body.frame().await.expect("a frame").expect("data").into_data().expect("data"), "at once");
    sender.send("later").expect("a receiver");
    drop(sender);
    assert_eq!(body.collect().await.expect("a body").to_bytes(), "later");
}

#[tokio::test]
async fn an_endless_stream_that_is_not_storable_is_not_held_back() {
    let site = Site::new(layer(), |_, _| {
        Response::new(Body::from_stream(
            stream::iter(["event"; 1]).map(Ok::<_, Infallible>).chain(stream::pending()),
        ))
    });
    for _ in 0..2 {
        let mut body = site.open(request("GET", "/", &[])).await.into_body();
        assert_eq!(body.frame().await.expect("a frame").expect("data").into_data().expect("data"), "event");
    }
}
