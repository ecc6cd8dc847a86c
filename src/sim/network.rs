//! Connections in memory that can be held up and reset.
//!
//! **Invariant**: what was written before an end was dropped can be read, unless the connection was reset; while it is
//! held nothing arrives, and nobody learns that the other side has gone.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::steps::Life;

/// So much is under way in one direction before a writer has to wait.
const IN_FLIGHT_BYTES: usize = 256 << 10;

/// One direction.
#[derive(Debug, Default)]
struct Flow {
    bytes: BytesMut,
    /// Its writer has gone.
    ended: bool,
    /// Its reader has gone.
    unread: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

#[derive(Debug, Default)]
struct Wire {
    /// From the one who dialled, and to them.
    flows: [Flow; 2],
    held: bool,
    reset: bool,
}

impl Wire {
    fn wake_all(&mut self) {
        for flow in &mut self.flows {
            flow.reader.take().into_iter().for_each(Waker::wake);
            flow.writer.take().into_iter().for_each(Waker::wake);
        }
    }
}

fn lock(wire: &Mutex<Wire>) -> MutexGuard<'_, Wire> {
    wire.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One end of a connection.
pub(super) struct End {
    wire: Arc<Mutex<Wire>>,
    side: usize,
    /// Whose end it is, if that can die.
    life: Option<Arc<Life>>,
}

impl fmt::Debug for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("End").field("side", &self.side).finish()
    }
}

/// What a world holds of a connection, to disturb it.
#[derive(Debug, Clone)]
pub(super) struct Handle(Weak<Mutex<Wire>>);

/// A new connection: the end of who dialled, that of who answers, and the world's handle.
pub(super) fn connect() -> (End, End, Handle) {
    let wire = Arc::<Mutex<Wire>>::default();
    let end = |side| End {
        wire: Arc::clone(&wire),
        side,
        life: None,
    };
    (end(0), end(1), Handle(Arc::downgrade(&wire)))
}

impl End {
    /// The same end, which does nothing more once `life` is over.
    pub(super) fn of(mut self, life: &Arc<Life>) -> Self {
        self.life = Some(Arc::clone(life));
        self
    }

    fn is_dead(&self) -> bool {
        self.life.as_ref().is_some_and(|life| life.is_over())
    }
}

impl Handle {
    /// Whether both ends have gone.
    pub(super) fn is_gone(&self) -> bool {
        self.0.strong_count() == 0
    }

    /// Breaks the connection off: both ends fail, and what was under way is lost.
    pub(super) fn reset(&self) {
        if let Some(wire) = self.0.upgrade() {
            let mut wire = lock(&wire);
            wire.reset = true;
            wire.wake_all();
        }
    }

    /// Lets nothing arrive, or lets it arrive again.
    pub(super) fn hold(&self, held: bool) {
        if let Some(wire) = self.0.upgrade() {
            let mut wire = lock(&wire);
            wire.held = held;
            wire.wake_all();
        }
    }
}

impl AsyncRead for End {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.is_dead() {
            return Poll::Pending;
        }
        let mut wire = lock(&self.wire);
        let Wire { flows, held, reset } = &mut *wire;
        if *reset {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let flow = &mut flows[1 - self.side];
        if *held || (flow.bytes.is_empty() && !flow.ended) {
            flow.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let taken = flow.bytes.len().min(into.remaining());
        into.put_slice(&flow.bytes[..taken]);
        flow.bytes.advance(taken);
        flow.writer.take().into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for End {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.is_dead() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let mut wire = lock(&self.wire);
        let Wire { flows, held, reset } = &mut *wire;
        if *reset {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let flow = &mut flows[self.side];
        if flow.unread && !*held {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let room = IN_FLIGHT_BYTES.saturating_sub(flow.bytes.len());
        if room == 0 {
            flow.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let taken = bytes.len().min(room);
        flow.bytes.extend_from_slice(&bytes[..taken]);
        flow.reader.take().into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut wire = lock(&self.wire);
        let flow = &mut wire.flows[self.side];
        flow.ended = true;
        flow.reader.take().into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(()))
    }
}

impl Drop for End {
    fn drop(&mut self) {
        let mut wire = lock(&self.wire);
        wire.flows[self.side].ended = true;
        wire.flows[1 - self.side].unread = true;
        wire.wake_all();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::time::timeout;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_held_arrives_later_and_what_is_reset_never() {
        let (mut here, mut there, handle) = connect();
        let mut read = [0; 5];
        handle.hold(true);
        here.write_all(b"hello").await.expect("is taken");
        drop(here);
        let early = timeout(Duration::from_secs(9), there.read_exact(&mut read)).await;
        assert!(early.is_err());
        handle.hold(false);
        there.read_exact(&mut read).await.expect("arrives");
        assert_eq!(&read, b"hello");
        assert_eq!(there.read(&mut read).await.expect("ends"), 0);
        assert!(there.write(b"x").await.is_err());
        let (mut here, mut there, handle) = connect();
        here.write_all(b"hello").await.expect("is taken");
        handle.reset();
        let error = there.read_exact(&mut read).await.expect_err("is lost");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }
}
