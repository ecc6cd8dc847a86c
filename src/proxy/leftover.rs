//! What is left of a request's body when the answer is there already: it is read, not cut off.
//!
//! A client that is refused early may still be writing. If the connection were closed under it, it would learn of a broken
//! pipe and never of the refusal. Go's servers read on for 256 KiB, and so do we.
//!
//! What is longer is cut off, which is noted: such a connection is not closed at once ([`super::linger`]).
//!
//! **Invariant**: no more than that is read, and not for long; nothing here waits before the answer goes out.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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

/// Whether a body of a connection was cut off: its client may still be writing it.
#[derive(Debug, Clone, Default)]
pub(super) struct CutOff(Arc<AtomicBool>);

impl CutOff {
    /// Notes it. To be told before the body is dropped, since the connection ends then.
    pub(super) fn note(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether it was noted.
    pub(super) fn is_noted(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// Where a body is left that was not read to its end.
#[derive(Debug, Clone)]
pub(super) struct Leftover {
    left: Arc<Mutex<Left>>,
    cut_off: CutOff,
}

#[derive(Debug, Default)]
struct Left {
    body: Option<Incoming>,
    is_answered: bool,
}

impl Leftover {
    /// Nothing is left yet of a request of this connection.
    pub(super) fn new(cut_off: CutOff) -> Self {
        Self {
            left: Arc::default(),
            cut_off,
        }
    }

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
        let left = {
            let mut left = self.lock();
            left.is_answered = true;
            left.body.take()
        };
        let Some(mut body) = left else { return };
        let cut_off = self.cut_off.clone();
        spawn_stream(tracing::debug_span!("leftover"), async move {
            let ended = tokio::time::timeout(PATIENCE, read(&mut body)).await;
            if ended != Ok(true) {
                cut_off.note();
            }
        });
    }

    fn is_left(&self, body: Incoming) {
        let mut left = self.lock();
        if left.is_answered {
            // An engine that answered early was sent it until now; it is read no further.
            self.cut_off.note();
        } else {
            left.body = Some(body);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Left> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether it came to its end.
async fn read(body: &mut Incoming) -> bool {
    let mut left = MOST_BYTES;
    while let Some(Ok(frame)) = body.frame().await {
        let length = frame.data_ref().map_or(0, Bytes::len);
        match left.checked_sub(length) {
            Some(rest) => left = rest,
            None => return false,
        }
    }
    true
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
            self.left.is_left(body);
        }
    }
}
