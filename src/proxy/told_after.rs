//! What was done to images is told only once the lists show it: the end of a stream waits for that.
//!
//! **Invariant**: nothing of a stream is held back but its end.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};

use crate::engine::{Body, BoxError, Host, ListKind};

/// Reads the images of all these nodes again, all at once.
pub(super) async fn reread_all(hosts: &[Arc<Host>]) {
    let up = hosts.iter().filter(|host| host.is_up());
    futures_util::future::join_all(up.map(|host| host.reread(ListKind::Images))).await;
}

/// Passes `body` on, and reads the images of `host` again before it tells the end. `guard` is dropped with the stream,
/// also when the client leaves early.
pub(super) fn reread_at_end(
    body: Body,
    host: Arc<Host>,
    guard: impl Send + 'static,
) -> impl HttpBody<Data = Bytes, Error = BoxError> + Send + 'static {
    let reread = async move { host.reread(ListKind::Images).await };
    told_after(body, reread, guard)
}

/// Passes `body` on, and does `work` before it tells the end.
pub(super) fn told_after(
    body: Body,
    work: impl Future<Output = ()> + Send + 'static,
    guard: impl Send + 'static,
) -> impl HttpBody<Data = Bytes, Error = BoxError> + Send + 'static {
    Rereading {
        state: State::Streaming(body),
        work: Some(Box::pin(work)),
        _guard: guard,
    }
}

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

struct Rereading<G> {
    state: State,
    work: Option<Work>,
    _guard: G,
}

enum State {
    Streaming(Body),
    Reading(Work),
    Ended,
}

// Nothing is pinned in place: the parts that need it are boxed.
impl<G> Unpin for Rereading<G> {}

impl<G> HttpBody for Rereading<G> {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        loop {
            match &mut this.state {
                State::Streaming(body) => match ready!(Pin::new(body).poll_frame(cx)) {
                    None => this.state = this.work.take().map_or(State::Ended, State::Reading),
                    frame => return Poll::Ready(frame),
                },
                State::Reading(reading) => {
                    ready!(reading.as_mut().poll(cx));
                    this.state = State::Ended;
                }
                State::Ended => return Poll::Ready(None),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.state, State::Ended)
    }

    fn size_hint(&self) -> SizeHint {
        match &self.state {
            State::Streaming(body) => body.size_hint(),
            State::Reading(_) => SizeHint::new(),
            State::Ended => SizeHint::with_exact(0),
        }
    }
}
