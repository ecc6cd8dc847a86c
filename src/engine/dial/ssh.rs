//! `ssh` to a host with an engine: one `ssh` process for each connection, which runs `docker system dial-stdio` there, as
//! the docker CLI does it. Several of them share a login, see [`super::ssh_link`].
//!
//! **Invariant**: an `ssh` process ends with its connection; what it says when it fails is the connection's error.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::process::{ChildStdin, ChildStdout};

use super::super::endpoint::SshTarget;
use super::ssh_link::Link;
use super::ssh_process::{Ended, Process, Purpose};
use super::{Connection, Dial, Dialling};

/// So long a process may take to end once its output has ended.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Dials by ssh.
#[derive(Debug)]
pub(super) struct SshDial {
    target: SshTarget,
}

impl SshDial {
    pub(super) const fn new(target: SshTarget) -> Self {
        Self { target }
    }
}

impl Dial for SshDial {
    fn dial(&self) -> Dialling {
        // Now, not when it is awaited: the login goes on if the wait for it does not.
        let link = Link::to(&self.target);
        Box::pin(async move {
            let socket = link.socket().await?;
            let purpose = Purpose::Reach(socket.as_deref());
            let (process, stdin, stdout) = Process::start(link.target(), &purpose)?;
            Ok(Box::new(SshConnection {
                stdin: Some(stdin),
                stdout,
                life: Life::Running(Box::new(process)),
                heard: false,
                link,
            }) as Connection)
        })
    }
}

/// A connection through an `ssh` process.
struct SshConnection {
    stdin: Option<ChildStdin>,
    stdout: ChildStdout,
    life: Life,
    /// Whether anything came.
    heard: bool,
    link: Arc<Link>,
}

/// How far the process is.
enum Life {
    Running(Box<Process>),
    /// Its output has ended. Nothing if it does not end itself.
    Ending(Pin<Box<dyn Future<Output = Option<Ended>> + Send>>),
    /// It has ended, and the reader knows.
    Over,
}

impl SshConnection {
    /// Tells the reader what an end of the output means.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Life::Running(_) = self.life
            && let Life::Running(mut process) = std::mem::replace(&mut self.life, Life::Over)
        {
            self.life = Life::Ending(Box::pin(async move {
                tokio::time::timeout(LAST_WORDS, process.end()).await.ok()
            }));
        }
        let Life::Ending(ending) = &mut self.life else {
            return Poll::Ready(Ok(()));
        };
        let ended = ready!(ending.as_mut().poll(cx));
        self.life = Life::Over;
        // That there is no engine was told by the host: the way to it is not silent.
        self.heard |= ended.as_ref().is_some_and(Ended::had_logged_in);
        Poll::Ready(match ended {
            Some(ended) if !ended.is_success() => Err(ended.error(self.link.target())),
            Some(_) | None => Ok(()),
        })
    }
}

impl AsyncRead for SshConnection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let Life::Running(process) = &mut this.life else {
            return this.poll_end(cx);
        };
        // Whether it has said all is of no interest before its output ends.
        let _ = process.poll_words(cx);
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.stdout).poll_read(cx, buf))?;
        if buf.filled().len() == before && buf.remaining() > 0 {
            return this.poll_end(cx);
        }
        this.heard = true;
        this.link.heard();
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for SshConnection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let Some(stdin) = &mut self.stdin else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        let written = ready!(Pin::new(stdin).poll_write(cx, bytes));
        Poll::Ready(match (written, &self.life) {
            // Nobody takes it any more. Why, the reader is about to be told; a writer that failed first would hide it.
            (Err(error), Life::Running(_) | Life::Ending(_))
                if error.kind() == io::ErrorKind::BrokenPipe =>
            {
                Ok(bytes.len())
            }
            (written, _) => written,
        })
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stdin {
            Some(stdin) => Pin::new(stdin).poll_flush(cx),
            None => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Closing the pipe ends the input at the other end, and nothing else.
        self.stdin = None;
        Poll::Ready(Ok(()))
    }
}

impl Drop for SshConnection {
    fn drop(&mut self) {
        if !self.heard {
            self.link.unheard();
        }
    }
}
