//! The body of a response of this layer, and the buffering of a handler's body.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use futures_util::future::poll_fn;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, timeout_at};

/// A body from the cache, or the handler's own.
pub struct CacheBody<B: Body>(Kind<B>);

enum Kind<B: Body> {
    /// `None` once it is sent.
    Whole(Option<Bytes>),
    /// For 304 and HEAD. Its length counts as unknown. Otherwise a server would state a `Content-Length` of 0.
    Absent,
    /// The frames that were read before the layer gave up buffering, and the rest.
    Stream(VecDeque<Read<B>>, Pin<Box<B>>),
}

type Read<B> = Result<Frame<Bytes>, <B as Body>::Error>;

// The frames are moved out, and never pinned in place.
impl<B: Body> Unpin for CacheBody<B> {}

impl<B: Body> CacheBody<B> {
    pub(crate) fn whole(bytes: Bytes) -> Self {
        Self(Kind::Whole(Some(bytes)))
    }

    pub(crate) fn absent() -> Self {
        Self(Kind::Absent)
    }

    pub(crate) fn stream(body: B) -> Self {
        Self(Kind::Stream(VecDeque::new(), Box::pin(body)))
    }
}

impl<B: Body<Data = Bytes>> Body for CacheBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match &mut self.get_mut().0 {
            Kind::Whole(bytes) => Poll::Ready(
                bytes.take().filter(|bytes| !bytes.is_empty()).map(|bytes| Ok(Frame::data(bytes))),
            ),
            Kind::Absent => Poll::Ready(None),
            Kind::Stream(read, rest) => match read.pop_front() {
                Some(frame) => Poll::Ready(Some(frame)),
                None => rest.as_mut().poll_frame(cx),
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Whole(bytes) => bytes.as_ref().is_none_or(Bytes::is_empty),
            Kind::Absent => true,
            Kind::Stream(read, rest) => read.is_empty() && rest.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Kind::Absent => SizeHint::new(),
            Kind::Stream(read, rest) => {
                let frames = read.iter().filter_map(|read| read.as_ref().ok());
                let waiting = frames.filter_map(Frame::data_ref).map(|data| data.len() as u64).sum();
                let rest = rest.size_hint();
                let mut hint = SizeHint::new();
                hint.set_lower(rest.lower().saturating_add(waiting));
                if let Some(upper) = rest.upper() {
                    hint.set_upper(upper.saturating_add(waiting));
                }
                hint
            }
        }
    }
}

impl<B: Body> fmt::Debug for CacheBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match &self.0 {
            Kind::Whole(_) => "whole",
            Kind::Absent => "absent",
            Kind::Stream(..) => "stream",
        };
        f.debug_tuple("CacheBody").field(&kind).finish()
    }
}

/// What became of buffering a body.
pub(crate) enum Buffered<B: Body> {
    /// All of it, without trailers.
    Whole(Bytes),
    /// It is too large or too slow, has trailers, or failed. The stream gives every frame, as the handler's body would.
    Not(CacheBody<B>),
}

/// Reads a body of at most `limit` bytes, until `deadline`.
pub(crate) async fn buffer<B: Body<Data = Bytes>>(body: B, limit: usize, deadline: Instant) -> Buffered<B> {
    let mut body = Box::pin(body);
    let mut read = VecDeque::new();
    let mut size = 0;
    if body.size_hint().lower() > limit as u64 {
        return Buffered::Not(CacheBody(Kind::Stream(read, body)));
    }
    loop {
        let Ok(next) = timeout_at(deadline, poll_fn(|cx| body.as_mut().poll_frame(cx))).await else {
            return Buffered::Not(CacheBody(Kind::Stream(read, body)));
        };
        let Some(next) = next else { return Buffered::Whole(join(read, size)) };
        let data = next.as_ref().ok().and_then(Frame::data_ref).map(Bytes::len);
        read.push_back(next);
        match data {
            Some(length) if length <= limit - size => size += length,
            _ => return Buffered::Not(CacheBody(Kind::Stream(read, body))),
        }
    }
}

fn join<E>(read: VecDeque<Result<Frame<Bytes>, E>>, size: usize) -> Bytes {
    let mut parts = read.into_iter().filter_map(|frame| frame.ok()?.into_data().ok());
    match (parts.next(), parts.next()) {
        (None, _) => Bytes::new(),
        (Some(only), None) => only,
        (Some(first), Some(second)) => {
            let mut joined = BytesMut::with_capacity(size);
            joined.extend_from_slice(&first);
            joined.extend_from_slice(&second);
            parts.for_each(|part| joined.extend_from_slice(&part));
            joined.freeze()
        }
    }
}
