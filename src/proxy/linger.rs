//! The end of a connection whose client may still be writing.
//!
//! A socket that is closed while something in it is unread is reset, and what the client has not read by then is lost to
//! it, the answer too. So, where a body was cut off, only our side ends at first; the client has a moment to read the
//! answer and leave. Go's servers do the same.
//!
//! **Invariant**: no connection lives on for more than [`MOMENT`], and no more than [`MOST_BYTES`] are read meanwhile.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::leftover::CutOff;

/// As `net/http` has it.
const MOMENT: Duration = Duration::from_millis(500);
/// Enough to see that a client leaves which had not much more to say. Another one's further bytes stay unread.
const MOST_BYTES: usize = 256 << 10;
/// What is read at once.
const PIECE_BYTES: usize = 16 << 10;

/// A connection that, if a body was cut off, is shut down only when its client has left or had its moment.
pub(super) struct Lingering<C> {
    connection: C,
    cut_off: CutOff,
    end: Option<End>,
}

/// The moment between the end of what we write and the end of the connection.
struct End {
    by: Pin<Box<Sleep>>,
    left: usize,
}

impl<C> Lingering<C> {
    pub(super) fn new(connection: C, cut_off: CutOff) -> Self {
        Self {
            connection,
            cut_off,
            end: None,
        }
    }
}

impl End {
    fn new() -> Self {
        Self {
            by: Box::pin(tokio::time::sleep(MOMENT)),
            left: MOST_BYTES,
        }
    }

    /// Ready once the client has left or time is up.
    fn poll<C: AsyncRead + Unpin>(&mut self, connection: &mut C, cx: &mut Context<'_>) -> Poll<()> {
        let mut piece = [0; PIECE_BYTES];
        while self.left > 0 {
            let most = self.left.min(PIECE_BYTES);
            let mut piece = ReadBuf::new(&mut piece[..most]);
            match Pin::new(&mut *connection).poll_read(cx, &mut piece) {
                Poll::Ready(Ok(())) if !piece.filled().is_empty() => {
                    self.left -= piece.filled().len();
                }
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => break,
            }
        }
        self.by.as_mut().poll(cx)
    }
}

impl<C: AsyncRead + Unpin> AsyncRead for Lingering<C> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_read(cx, buf)
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Lingering<C> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.connection).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.end.is_none() {
            ready!(Pin::new(&mut this.connection).poll_shutdown(cx))?;
            if !this.cut_off.is_noted() {
                return Poll::Ready(Ok(()));
            }
        }
        let end = this.end.get_or_insert_with(End::new);
        end.poll(&mut this.connection, cx).map(Ok)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.connection).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.connection.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
    use tokio::time::Instant;

    use super::*;

    /// How long the end of a connection takes to whose client this happens meanwhile, and how much it had written of what
    /// it has to say. The client reads the end of the answer in any case.
    async fn end(is_cut_off: bool, says: usize, leaves: bool) -> (Duration, usize) {
        let (ours, client) = tokio::io::duplex(PIECE_BYTES);
        let cut_off = CutOff::default();
        if is_cut_off {
            cut_off.note();
        }
        let mut ours = Lingering::new(ours, cut_off);
        let (mut reads, mut writes) = tokio::io::split::<DuplexStream>(client);
        let began = Instant::now();
        let server = async move {
            ours.shutdown().await.expect("it ends");
            began.elapsed()
        };
        let answer = async move {
            assert_eq!(reads.read(&mut [0]).await.expect("no reset"), 0);
            reads
        };
        let words = async {
            let mut written = 0;
            while written < says && writes.write_all(&[0; 1024]).await.is_ok() {
                written += 1024;
            }
            if leaves {
                writes.shutdown().await.expect("it leaves");
            }
            written
        };
        let (took, _reads, written) = tokio::join!(server, answer, words);
        (took, written)
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_whose_body_was_cut_off_has_a_moment() {
        let no_time = Duration::ZERO;
        assert_eq!(end(false, 0, false).await, (no_time, 0));
        assert_eq!(end(true, 100 << 10, true).await, (no_time, 100 << 10));
        let (took, _) = end(true, 100 << 10, false).await;
        assert!(took >= MOMENT && took < MOMENT * 2, "{took:?}");
        // Who goes on for ever is read no further, and is given no longer.
        let (took, written) = end(true, usize::MAX, false).await;
        assert!(took >= MOMENT && took < MOMENT * 2, "{took:?}");
        assert_eq!(written, MOST_BYTES + PIECE_BYTES);
    }
}
