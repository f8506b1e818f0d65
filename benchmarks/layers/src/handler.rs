//! The handler behind each layer. The request says what it answers.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, Request, Response};

/// The length of a body.
pub(crate) const BODY: usize = 1024;

/// A header `x-send-NAME` of the request is the header NAME of the response. `x-sleep` is a pause in milliseconds.
pub(crate) async fn answer<A, B: From<Bytes>>(
    runs: Arc<AtomicU64>,
    request: Request<A>,
) -> Result<Response<B>, Infallible> {
    let run = runs.fetch_add(1, Ordering::Relaxed) + 1;
    // Without the body, which threads may not share.
    let headers = request.into_parts().0.headers;
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(pause) = header("x-sleep").and_then(|pause| pause.parse().ok()) {
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }
    let mut body = format!("run {run} ").into_bytes();
    body.resize(BODY, b'.');
    let mut response = Response::new(B::from(Bytes::from(body)));
    for (name, value) in &headers {
        if let Some(sent) = name.as_str().strip_prefix("x-send-")
            && let Ok(sent) = HeaderName::try_from(sent)
        {
            response.headers_mut().insert(sent, value.clone());
        }
    }
    Ok(response)
}
