//! Long streams: their bytes go from socket to socket by way of a pipe, within the kernel (`splice(2)`).
//!
//! It costs two descriptors a direction, so only streams that have shown to be long get one.
//!
//! **Invariant**: what is in the pipe is passed on before more is taken; so the end of the stream finds it empty.

use std::io;
use std::os::fd::OwnedFd;

use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use tokio::io::{AsyncWriteExt as _, Interest};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

/// What a pipe holds at most. Any user may have pipes of that size, sixty of them.
const PIPE_BYTES: usize = 1 << 20;

/// A pipe that never blocks.
#[derive(Debug)]
pub(super) struct Pipe {
    out: OwnedFd,
    into: OwnedFd,
}

impl Pipe {
    /// A new one; an error if there are no descriptors left.
    pub(super) fn new() -> io::Result<Self> {
        let (out, into) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        // One of the usual size does as well, only slower.
        let _ = fcntl_setpipe_size(&into, PIPE_BYTES);
        Ok(Self { out, into })
    }

    /// Passes on what comes until the reading side ends, then ends the writing side.
    pub(super) async fn carry(
        self,
        from: &OwnedReadHalf,
        mut to: OwnedWriteHalf,
    ) -> io::Result<()> {
        loop {
            let mut held = self.fill(from.as_ref()).await?;
            if held == 0 {
                return to.shutdown().await;
            }
            while held > 0 {
                held -= self.drain(to.as_ref(), held).await?;
            }
        }
    }

    async fn fill(&self, from: &TcpStream) -> io::Result<usize> {
        let some = || moved(splice(from, None, &self.into, None, PIPE_BYTES, FLAGS));
        from.async_io(Interest::READABLE, some).await
    }

    async fn drain(&self, to: &TcpStream, held: usize) -> io::Result<usize> {
        let some = || moved(splice(&self.out, None, to, None, held, FLAGS));
        to.async_io(Interest::WRITABLE, some).await
    }
}

const FLAGS: SpliceFlags = SpliceFlags::MOVE.union(SpliceFlags::NONBLOCK);

fn moved(result: rustix::io::Result<usize>) -> io::Result<usize> {
    result.map_err(io::Error::from)
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;
    use tokio::net::TcpListener;

    use super::*;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let address = listener.local_addr().expect("an address");
        let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
        (near.expect("connects"), far.expect("accepts").0)
    }

    #[tokio::test]
    async fn what_comes_goes_on_whole_and_so_does_its_end() {
        for bytes in [0, 1, PIPE_BYTES - 1, 3 * PIPE_BYTES + 7] {
            let sent: Vec<u8> = (0..bytes).map(|at| (at % 251) as u8).collect();
            let ((mut client, from), (to, mut server)) = (pair().await, pair().await);
            let ((from, _from), (_to, to)) = (from.into_split(), to.into_split());
            let pipe = Pipe::new().expect("a pipe");
            let mut came = Vec::new();
            let send = async {
                client.write_all(&sent).await?;
                client.shutdown().await
            };
            let (up, carried, down) =
                tokio::join!(send, pipe.carry(&from, to), server.read_to_end(&mut came));
            assert!(up.is_ok() && carried.is_ok() && down.is_ok());
            assert!(came == sent, "{} of {bytes}", came.len());
        }
    }
}
