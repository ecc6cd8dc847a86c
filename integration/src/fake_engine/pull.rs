//! A pull by a fake engine: a few lines of progress over some time, and how many engines are at it.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame};
use tokio::time::{Sleep, sleep};

/// Each line takes so long: a pull that begins at the same time as others is seen beside them.
const A_LINE: Duration = Duration::from_millis(100);

/// The pulls of all engines.
#[derive(Debug, Default)]
pub(super) struct Pulls {
    under_way: AtomicU64,
    most: AtomicU64,
    all: AtomicU64,
}

impl Pulls {
    /// How many there were, and the most at a time.
    pub(super) fn counts(&self) -> (u64, u64) {
        let (all, most) = (&self.all, &self.most);
        (all.load(Ordering::Relaxed), most.load(Ordering::Relaxed))
    }
}

/// One of them, until it ends or nobody reads it any more.
#[derive(Debug)]
struct Mark(Arc<Pulls>);

impl Mark {
    fn new(pulls: &Arc<Pulls>) -> Self {
        let now = pulls.under_way.fetch_add(1, Ordering::Relaxed) + 1;
        pulls.most.fetch_max(now, Ordering::Relaxed);
        pulls.all.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(pulls))
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The answer to a pull: an image of one layer, with nothing in it.
#[derive(Debug)]
pub(super) struct Pull {
    lines: VecDeque<&'static str>,
    due: Pin<Box<Sleep>>,
    mark: Option<Mark>,
}

impl Pull {
    pub(super) fn new(pulls: &Arc<Pulls>) -> Self {
        let lines = [
            "{\"status\":\"Pulling from some/it\",\"id\":\"1\"}\r\n",
            "{\"status\":\"Pulling fs layer\",\"progressDetail\":{},\"id\":\"1ayer\"}\r\n",
            "{\"status\":\"Pull complete\",\"progressDetail\":{},\"id\":\"1ayer\"}\r\n",
            "{\"status\":\"Status: Downloaded newer image for some/it:1\"}\r\n",
        ];
        Self {
            lines: lines.into(),
            due: Box::pin(sleep(A_LINE)),
            mark: Some(Mark::new(pulls)),
        }
    }
}

impl Body for Pull {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        ready!(self.due.as_mut().poll(cx));
        let line = self.lines.pop_front();
        if line.is_some() {
            self.due = Box::pin(sleep(A_LINE));
        } else {
            // Before anybody can know that it has ended.
            self.mark = None;
        }
        Poll::Ready(line.map(|line| Ok(Frame::data(Bytes::from_static(line.as_bytes())))))
    }
}
