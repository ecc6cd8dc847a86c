//! What is left of a request's body when the answer is there already: it is read, not cut off.
//!
//! A client that is refused early may still be writing. If the connection were closed under it, it would learn of a broken
//! pipe and never of the refusal. Go's servers read on for 256 KiB, and so do we.
//!
//! **Invariant**: no more than that is read, and not for long; nothing here waits before the answer goes out.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use crate::engine::{Body, BoxError};
use crate::tasks::spawn_stream;

/// As `net/http` has it.
const MOST_BYTES: usize = 256 << 10;
/// A client that is still writing writes now.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where a body is left that was not read to its end.
#[derive(Debug, Clone, Default)]
pub(super) struct Leftover(Arc<Mutex<Option<Incoming>>>);

impl Leftover {
    /// The body, to be given to whoever answers.
    pub(super) fn lend(&self, body: Incoming) -> Body {
        if body.is_end_stream() {
            return body.map_err(Into::into).boxed_unsync();
        }
        let lent = Lent {
            body: Some(body),
            left: self.clone(),
        };
        lent.boxed_unsync()
    }

    /// Reads on in the background, if whoever answered is done with the body before its end.
    pub(super) fn read_on(&self) {
        let left = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(body) = left {
            spawn_stream(tracing::debug_span!("leftover"), async move {
                // Whether it came to its end or not, nobody asks.
                let _ = tokio::time::timeout(PATIENCE, read(body)).await;
            });
        }
    }
}

async fn read(mut body: Incoming) {
    let mut left = MOST_BYTES;
    while let Some(Ok(frame)) = body.frame().await {
        let length = frame.data_ref().map_or(0, Bytes::len);
        match left.checked_sub(length) {
            Some(rest) => left = rest,
            None => return,
        }
    }
}

/// A body that comes back if it is not read to its end.
struct Lent {
    body: Option<Incoming>,
    left: Leftover,
}

impl HttpBody for Lent {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut self.body {
            Some(body) => Pin::new(body).poll_frame(context).map_err(Into::into),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body
            .as_ref()
            .map_or_else(|| SizeHint::with_exact(0), HttpBody::size_hint)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(body) = self.body.take().filter(|body| !body.is_end_stream()) {
            *self.left.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(body);
        }
    }
}
