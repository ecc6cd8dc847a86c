//! TCP: accepts connections on a port and joins each with one to a container behind it.
//!
//! **Invariant**: a connection that is silent has no buffer, so what it costs is two sockets and a task.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use raft_store::watch;
use tokio::io::AsyncWriteExt as _;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::backends::{Backends, Target};
use super::book::PoolPort;
use super::bulk::Pipe;
use crate::tasks::spawn_stream;

/// How long one container may take to accept while others could be asked.
const ATTEMPT: Duration = Duration::from_millis(250);
/// How long the last one may take.
const LAST_ATTEMPT: Duration = Duration::from_secs(3);
/// So much is read at a time.
const BUFFER_BYTES: usize = 64 << 10;
/// A stream that has brought so much is long.
const LONG_BYTES: usize = 1 << 20;
/// After an error that is about the machine (no descriptors left), nothing is accepted for so long.
const BREATHER: Duration = Duration::from_millis(50);

/// Accepts until it is told to close.
pub(super) async fn serve(
    port: PoolPort,
    listener: TcpListener,
    backends: Arc<Backends>,
    room: Arc<Semaphore>,
    mut closing: watch::Receiver<bool>,
) {
    loop {
        let accepted = async {
            let permit = Arc::clone(&room).acquire_owned().await.ok()?;
            Some((listener.accept().await, permit))
        };
        let accepted = tokio::select! {
            biased;
            _ = closing.wait_for(|closing| *closing) => return,
            accepted = accepted => accepted,
        };
        match accepted {
            None => return,
            Some((Ok((client, peer)), permit)) => {
                let backends = Arc::clone(&backends);
                let span = tracing::debug_span!("connection", port = port.number, %peer);
                spawn_stream(span, async move {
                    let _permit = permit;
                    join(client, &backends, port.number).await;
                });
            }
            Some((Err(error), _)) => {
                tracing::warn!(port = port.number, %error, "a connection was not accepted");
                tokio::time::sleep(BREATHER).await;
            }
        }
    }
}

async fn join(client: TcpStream, backends: &Backends, number: u16) {
    let Some(container) = connect(backends, number).await else {
        // Closed without a word, as a port that nobody listens on: a reset.
        let _ = client.set_zero_linger();
        return;
    };
    // Bytes are passed on as they come; whoever sends decides how they are packed.
    let _ = (client.set_nodelay(true), container.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_container, to_container) = container.into_split();
    let up = copy(&from_client, to_container);
    let down = copy(&from_container, to_client);
    if let Err(error) = tokio::try_join!(up, down) {
        tracing::debug!(%error, "the connection broke off");
    }
}

/// A connection to the first of those behind the port that takes one.
async fn connect(backends: &Backends, number: u16) -> Option<TcpStream> {
    let targets = backends.turn();
    let last = targets.len().saturating_sub(1);
    for (turn, target) in targets.into_iter().enumerate() {
        let patience = if turn == last { LAST_ATTEMPT } else { ATTEMPT };
        match attempt(&target, number, patience).await {
            Ok(stream) => {
                backends.answers(target.backend);
                return Some(stream);
            }
            Err(error) => {
                tracing::debug!(container = %target.backend.container, node = %target.host.tag.name, %error, "skipped");
                backends.eject(target.backend);
            }
        }
    }
    None
}

async fn attempt(target: &Target, number: u16, patience: Duration) -> io::Result<TcpStream> {
    let connecting = TcpStream::connect((&*target.address, number));
    let connected = tokio::time::timeout(patience, connecting).await;
    connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// Copies until the reading side ends, then ends the writing side.
async fn copy(from: &OwnedReadHalf, mut to: OwnedWriteHalf) -> io::Result<()> {
    let mut brought: usize = 0;
    loop {
        from.readable().await?;
        if brought >= LONG_BYTES {
            brought = 0;
            if let Ok(pipe) = Pipe::new() {
                return pipe.carry(from, to).await;
            }
        }
        let mut buffer = Vec::with_capacity(BUFFER_BYTES);
        while brought < LONG_BYTES {
            buffer.clear();
            match from.try_read_buf(&mut buffer) {
                Ok(0) => return to.shutdown().await,
                Ok(length) => {
                    to.write_all(&buffer).await?;
                    brought = brought.saturating_add(length);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
    }
}
