//! Passes a request on to one engine and its reply back, both as streams, unchanged but for the headers
//! that are ours.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use api_compat::error::ApiError;
use api_compat::filters::Filters;
use api_compat::query::Query;
use bytes::Bytes;
use http::Request;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::time::Sleep;

use super::exchange::Exchange;
use super::reply::{Outcome, from_engine, strip_hop_by_hop};
use crate::engine::{BoxError, Error, Host};

/// Passes the request on under another path. `target` is path and query.
pub(crate) async fn forward(host: &Arc<Host>, target: &str, exchange: Exchange) -> Outcome {
    pass(host, target, exchange, None).await
}

/// [`forward`], where the reply ends with `last_words` if the node is lost, instead of breaking off.
pub(crate) async fn forward_with_last_words(
    host: &Arc<Host>,
    target: &str,
    exchange: Exchange,
    last_words: impl Into<Bytes>,
) -> Outcome {
    pass(host, target, exchange, Some(last_words.into())).await
}

/// [`forward`] of what is answered with lines of progress: if the node is lost the last one says so.
pub(crate) async fn forward_progress(
    host: &Arc<Host>,
    target: &str,
    exchange: Exchange,
) -> Outcome {
    let lost = ApiError::unavailable(format!(
        "node {} was lost before this was done: try again",
        host.tag.name
    ));
    forward_with_last_words(host, target, exchange, lost.stream_error_line()).await
}

/// A request with a longer body is worth a connection of its own.
const SHORT_BYTES: u64 = 64 << 10;

async fn pass(
    host: &Arc<Host>,
    target: &str,
    exchange: Exchange,
    last_words: Option<Bytes>,
) -> Outcome {
    let (parts, body) = exchange.request.into_parts();
    let mut request = Request::new(body);
    *request.method_mut() = parts.method;
    *request.headers_mut() = parts.headers;
    strip_hop_by_hop(request.headers_mut());
    let length = request.body().size_hint().upper();
    let response = if length.is_some_and(|bytes| bytes <= SHORT_BYTES) {
        host.send(exchange.version, target, request).await
    } else {
        host.send_long(exchange.version, target, request).await
    };
    let response = response.map_err(from_engine)?;
    let (mut parts, body) = response.into_parts();
    strip_hop_by_hop(&mut parts.headers);
    let body = WhileUp::new(body, host, last_words);
    Ok(http::Response::from_parts(parts, body.boxed_unsync()))
}

/// A path with a query, if there is one.
pub(crate) fn with_query(path: String, query: &str) -> String {
    if query.is_empty() {
        path
    } else {
        format!("{path}?{query}")
    }
}

/// The query for one engine: without the filters that are ours.
pub(crate) fn engines_query(query: &Query, filters: &Filters) -> String {
    let mut query = query.clone();
    if query.contains("filters") {
        let mut filters = filters.clone();
        filters.remove("node");
        query.set("filters", &filters.to_json());
    }
    query.encode()
}

/// An engine that is killed breaks its connections off a little before its node is known to be lost.
const LOSS_NOTICED: Duration = Duration::from_secs(5);

/// A reply's body that ends when its node is lost: a lost node sends no more, but nothing says so.
struct WhileUp {
    state: State,
    last_words: Option<Bytes>,
    lost: Pin<Box<dyn Future<Output = Error> + Send>>,
}

enum State {
    Streaming(Incoming),
    /// It broke off; whether the node is lost shows soon.
    Broken(Option<hyper::Error>, Pin<Box<Sleep>>),
    Ended,
}

impl WhileUp {
    fn new(body: Incoming, host: &Arc<Host>, last_words: Option<Bytes>) -> Self {
        let host = Arc::clone(host);
        Self {
            state: State::Streaming(body),
            last_words,
            lost: Box::pin(async move { host.lost().await }),
        }
    }
}

impl HttpBody for WhileUp {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        loop {
            let this = &mut *self;
            match &mut this.state {
                State::Ended => return Poll::Ready(None),
                State::Streaming(body) => match Pin::new(body).poll_frame(cx) {
                    Poll::Ready(Some(Err(error))) if this.last_words.is_some() => {
                        let soon = Box::pin(tokio::time::sleep(LOSS_NOTICED));
                        this.state = State::Broken(Some(error), soon);
                        continue;
                    }
                    Poll::Ready(frame) => {
                        return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
                    }
                    Poll::Pending => {}
                },
                State::Broken(error, soon) => {
                    if soon.as_mut().poll(cx).is_ready() {
                        let error = error.take();
                        this.state = State::Ended;
                        return Poll::Ready(error.map(|error| Err(error.into())));
                    }
                }
            }
            let lost = std::task::ready!(this.lost.as_mut().poll(cx));
            this.state = State::Ended;
            return Poll::Ready(Some(
                this.last_words
                    .take()
                    .map(Frame::data)
                    .ok_or_else(|| lost.into()),
            ));
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.state {
            State::Streaming(body) => body.is_end_stream(),
            State::Broken(..) => false,
            State::Ended => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.state {
            // What the engine announced does not hold for the last words.
            State::Streaming(body) if self.last_words.is_none() => body.size_hint(),
            _ => SizeHint::default(),
        }
    }
}
