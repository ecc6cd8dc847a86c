//! What was done to images is told only once the lists show it: the end of a stream waits for that.
//!
//! **Invariant**: nothing of a stream is held back but its end, or its last part where that is its result.

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
    Rereading::new(body, work, None, guard)
}

/// Passes `body` on, and does `work` before it tells the last part: some clients take that for the whole answer, and do not
/// wait for the end.
pub(super) fn result_after(
    body: Body,
    work: impl Future<Output = ()> + Send + 'static,
    guard: impl Send + 'static,
) -> impl HttpBody<Data = Bytes, Error = BoxError> + Send + 'static {
    Rereading::new(body, work, Some(Last::default()), guard)
}

/// The part that may turn out to be the last one.
#[derive(Default)]
struct Last(Option<Frame<Bytes>>);

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

struct Rereading<G> {
    state: State,
    work: Option<Work>,
    /// If the last part waits for the work.
    last: Option<Last>,
    _guard: G,
}

impl<G> Rereading<G> {
    fn new(
        body: Body,
        work: impl Future<Output = ()> + Send + 'static,
        last: Option<Last>,
        guard: G,
    ) -> Self {
        Self {
            state: State::Streaming(body),
            work: Some(Box::pin(work)),
            last,
            _guard: guard,
        }
    }
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
                    Some(Ok(frame)) => match &mut this.last {
                        None => return Poll::Ready(Some(Ok(frame))),
                        Some(Last(last)) => {
                            if let Some(earlier) = last.replace(frame) {
                                return Poll::Ready(Some(Ok(earlier)));
                            }
                        }
                    },
                    broken => return Poll::Ready(broken),
                },
                State::Reading(reading) => {
                    ready!(reading.as_mut().poll(cx));
                    this.state = State::Ended;
                }
                State::Ended => {
                    let last = this.last.take().and_then(|Last(last)| last);
                    return Poll::Ready(last.map(Ok));
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.state, State::Ended) && self.last.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.state {
            State::Streaming(body) => body.size_hint(),
            State::Ended if self.last.is_none() => SizeHint::with_exact(0),
            State::Reading(_) | State::Ended => SizeHint::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use futures_util::{FutureExt as _, stream};
    use http_body_util::{BodyExt as _, StreamBody};

    use super::*;

    #[test]
    fn a_result_is_told_only_after_the_work() {
        for (parts, at_once) in [(1, 0), (3, 2)] {
            let frames = (0..parts).map(|_| Ok(Frame::data(Bytes::from_static(b"x"))));
            let body = StreamBody::new(stream::iter(frames)).boxed_unsync();
            let is_done = Arc::new(AtomicBool::new(false));
            let done = Arc::clone(&is_done);
            let work = async move { done.store(true, Ordering::Relaxed) };
            let mut told = result_after(body, work, ());
            for part in 0..parts {
                assert!(!told.is_end_stream());
                let frame = told.frame().now_or_never().flatten().expect("a frame");
                assert!(frame.is_ok());
                assert_eq!(is_done.load(Ordering::Relaxed), part >= at_once);
            }
            assert!(told.frame().now_or_never().expect("ready").is_none());
            assert!(told.is_end_stream());
        }
    }
}
