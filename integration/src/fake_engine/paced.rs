//! A body of a fake engine: bytes at a steady rate.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use hyper::body::{Body, Frame};
use tokio::time::{Instant, Sleep, sleep_until};

/// How much flows and how fast.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// In all, framing included; a stream ends after so many.
    pub bytes: u64,
    /// At most so many a second.
    pub bytes_per_second: u64,
}

/// What an engine copies at a time between a container and a client.
const CHUNK: usize = 32 << 10;
/// The header of a frame of a multiplexed stream.
const HEADER: usize = 8;

/// One chunk of a stream: a whole frame of standard output.
pub(super) fn chunk() -> Bytes {
    let mut chunk = BytesMut::with_capacity(CHUNK);
    chunk.put_slice(&[1, 0, 0, 0]);
    chunk.put_u32((CHUNK - HEADER) as u32);
    chunk.resize(CHUNK - 1, b'x');
    chunk.put_u8(b'\n');
    chunk.freeze()
}

/// Says when the next chunk may go.
#[derive(Debug)]
pub(super) struct Meter {
    pace: Pace,
    began: Instant,
    sent: u64,
}

impl Meter {
    pub(super) fn new(pace: Pace) -> Self {
        Self {
            pace,
            began: Instant::now(),
            sent: 0,
        }
    }

    /// The time for the next chunk; none after the last.
    pub(super) fn next(&mut self) -> Option<Instant> {
        if self.sent >= self.pace.bytes {
            return None;
        }
        let nanos =
            u128::from(self.sent) * 1_000_000_000 / u128::from(self.pace.bytes_per_second.max(1));
        self.sent += CHUNK as u64;
        Some(self.began + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))
    }
}

/// A body at a steady rate.
pub(super) struct Paced {
    meter: Meter,
    chunk: Bytes,
    due: Option<Pin<Box<Sleep>>>,
}

impl Paced {
    pub(super) fn new(pace: Pace) -> Self {
        Self {
            meter: Meter::new(pace),
            chunk: chunk(),
            due: None,
        }
    }
}

impl Body for Paced {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.due.is_none() {
            let Some(due) = self.meter.next() else {
                return Poll::Ready(None);
            };
            // A timer is worth its cost only where there is time to wait.
            if due > Instant::now() {
                self.due = Some(Box::pin(sleep_until(due)));
            }
        }
        if let Some(due) = &mut self.due {
            ready!(due.as_mut().poll(cx));
            self.due = None;
        }
        Poll::Ready(Some(Ok(Frame::data(self.chunk.clone()))))
    }
}
