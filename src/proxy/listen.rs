//! Listens for clients: accepts, looks at the first request of each connection, and serves HTTP/1.1.
//!
//! Old clients take an attach or exec connection over without asking for an upgrade, which no HTTP
//! library can do; so the head of each connection's first request is read here, and such a request is
//! spliced as raw bytes. Everything else goes to hyper with those bytes put back.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use hyper_util::rt::{TokioIo, TokioTimer};
use raft_store::watch;
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, UnixListener};

use super::Proxy;
use super::eager::Eager;
use super::exchange::Peer;
use super::leftover::CutOff;
use super::linger::Lingering;
use super::looked_up::LookedUp;
use super::raw_hijack;
use super::rewound::Rewound;
use crate::engine::{Connection, keep_alive};
use crate::model::Caller;
use crate::tasks::{Stopping, spawn_stream};

/// Go's servers read no more than this of a request's head.
const HEAD_MAX_BYTES: usize = (1 << 20) + 4096;
/// More header lines than this are no honest client's.
const HEADERS_MAX: usize = 1024;
/// A client that has begun a request must finish its head by then.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);
/// After a failed accept (too many open files, mostly).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A socket that clients connect to.
#[derive(Debug)]
pub enum Listener {
    /// A unix socket, and its path: removed when the listener is dropped.
    Unix(UnixListener, SocketFile),
    /// TCP.
    Tcp(TcpListener),
}

/// The file of a unix socket, removed when dropped.
#[derive(Debug)]
pub struct SocketFile(pub PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Somebody else may have removed it: that is as good.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Counts the connections that are open, so that a shutdown can wait for them.
#[derive(Debug, Clone)]
pub struct Open(Arc<watch::Sender<usize>>);

impl Default for Open {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(0)))
    }
}

/// One open connection or stream.
#[derive(Debug)]
pub(crate) struct OpenGuard(Open);

impl Open {
    /// One more, until the guard is dropped.
    pub(crate) fn enter(&self) -> OpenGuard {
        self.0.send_modify(|open| *open += 1);
        OpenGuard(self.clone())
    }

    /// Resolves once none is open.
    pub async fn none(&self) {
        let _ = self.0.subscribe().wait_for(|open| *open == 0).await;
    }

    /// How many are open.
    pub fn count(&self) -> usize {
        *self.0.borrow()
    }
}

impl Drop for OpenGuard {
    fn drop(&mut self) {
        self.0.0.send_modify(|open| *open -= 1);
    }
}

/// Serves clients of one listener until the manager stops.
pub async fn serve(listener: Listener, proxy: Arc<Proxy>, stopping: Stopping) {
    let mut stop = stopping.clone();
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.wait() => return,
            accepted = accept(&listener) => accepted,
        };
        match accepted {
            Ok((connection, peer)) => {
                let (proxy, stopping, guard) =
                    (Arc::clone(&proxy), stopping.clone(), proxy.open.enter());
                spawn_stream(
                    tracing::debug_span!("client", peer = peer.identity),
                    async move {
                        let _guard = guard;
                        serve_connection(connection, peer, proxy, stopping).await;
                    },
                );
            }
            Err(error) => {
                tracing::warn!(%error, "a client's connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Serves one client whose connection came about without a [`Listener`], until it leaves or the manager stops.
pub async fn serve_one(
    connection: Connection,
    identity: String,
    proxy: Arc<Proxy>,
    stopping: Stopping,
) {
    let _guard = proxy.open.enter();
    let peer = Peer {
        caller: Caller::local(),
        identity,
        looked_up: LookedUp::default(),
    };
    serve_connection(connection, peer, proxy, stopping).await;
}

async fn accept(listener: &Listener) -> io::Result<(Connection, Peer)> {
    match listener {
        Listener::Unix(listener, _) => {
            let (stream, _) = listener.accept().await?;
            let user = stream
                .peer_cred()
                .map(|peer| peer.uid())
                .unwrap_or(u32::MAX);
            let peer = Peer {
                caller: Caller::local(),
                identity: format!("local user {user}"),
                looked_up: LookedUp::default(),
            };
            Ok((Box::new(stream), peer))
        }
        Listener::Tcp(listener) => {
            let (stream, address) = listener.accept().await?;
            stream.set_nodelay(true)?;
            keep_alive(&stream)?;
            let peer = Peer {
                caller: Caller::local(),
                identity: address.ip().to_string(),
                looked_up: LookedUp::default(),
            };
            Ok((Box::new(stream), peer))
        }
    }
}

async fn serve_connection(
    mut connection: Connection,
    peer: Peer,
    proxy: Arc<Proxy>,
    mut stopping: Stopping,
) {
    let first = tokio::select! {
        biased;
        () = stopping.wait() => return,
        first = read_first_head(&mut connection) => first,
    };
    let first = match first {
        Ok(first) if first.is_empty() => return,
        Ok(first) => first,
        Err(error) => return tracing::debug!(%error, "a client left before its first request"),
    };
    let mut connection = Rewound {
        first: first.freeze(),
        connection,
    };
    if let Some(hijack) = raw_hijack::recognise(&connection.first) {
        match raw_hijack::take_over(&proxy, &peer, hijack, &mut connection).await {
            raw_hijack::Taken::Done => return,
            raw_hijack::Taken::NotOurs => {}
        }
    }
    let cut_off = CutOff::default();
    let connection = Lingering::new(connection, cut_off.clone());
    let service_proxy = Arc::clone(&proxy);
    let service = hyper::service::service_fn(move |request| {
        let (proxy, peer) = (Arc::clone(&service_proxy), peer.clone());
        let cut_off = cut_off.clone();
        async move { Ok::<_, std::convert::Infallible>(proxy.answer(request, peer, cut_off).await) }
    });
    let serving = hyper::server::conn::http1::Builder::new()
        .preserve_header_case(true)
        .title_case_headers(true)
        .max_buf_size(HEAD_MAX_BYTES)
        .max_headers(HEADERS_MAX)
        .timer(TokioTimer::new())
        .header_read_timeout(None)
        .serve_connection(TokioIo::new(connection), service)
        .with_upgrades();
    tokio::pin!(serving);
    let result = tokio::select! {
        biased;
        result = Eager::new(serving.as_mut()) => result,
        () = stopping.wait() => {
            // What is under way is finished; the next request on this connection is not taken.
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "a client's connection broke off");
    }
}

/// Reads until it is clear whether the first request may be a raw hijack: the whole head if it is a
/// POST, else whatever came first.
async fn read_first_head(connection: &mut Connection) -> io::Result<BytesMut> {
    let mut head = BytesMut::with_capacity(8 << 10);
    if connection.read_buf(&mut head).await? == 0 {
        return Ok(head);
    }
    let rest = async {
        while may_become_hijack(&head) && head.len() < HEAD_MAX_BYTES {
            if connection.read_buf(&mut head).await? == 0 {
                break;
            }
        }
        Ok(())
    };
    match tokio::time::timeout(HEAD_TIMEOUT, rest).await {
        Ok(result) => result.map(|()| head),
        Err(_) => Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "the request's head did not end",
        )),
    }
}

/// A POST whose head is not all here.
fn may_become_hijack(head: &[u8]) -> bool {
    let post = b"POST ";
    let known = head.len().min(post.len());
    head[..known] == post[..known] && memchr::memmem::find(head, b"\r\n\r\n").is_none()
}
