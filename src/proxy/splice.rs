//! Connections that turn into byte streams: attach, exec, BuildKit. Bytes pass both ways, each direction
//! on its own, until both have ended; the end of one is passed on and leaves the other open.
//!
//! **Invariant**: nothing is parsed, collected, or timed out here.

use std::io;
use std::sync::Arc;

use api_compat::error::ApiError;
use bytes::BytesMut;
use http::header::UPGRADE;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::ext::ReasonPhrase;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::exchange::Exchange;
use super::reply::{Outcome, Reply, from_engine, strip_hop_by_hop};
use crate::engine::{self, Host, empty};
use crate::tasks::spawn_stream;

/// So many bytes may be under way in each direction.
const BUFFER_BYTES: usize = 64 << 10;

/// Whether the client asks to take the connection over.
pub(crate) fn wants_upgrade(headers: &HeaderMap) -> bool {
    headers.contains_key(UPGRADE)
}

/// Sends the request to `host` on a connection of its own. If the engine switches protocols, so do we,
/// and the two connections become one; else the engine's answer is passed on.
pub(crate) async fn upgrade(
    host: &Arc<Host>,
    target: &str,
    mut exchange: Exchange,
    guard: impl Send + 'static,
) -> Outcome {
    let client_side = hyper::upgrade::on(&mut exchange.request);
    let answer = ask(host, target, exchange).await.map_err(from_engine)?;
    Ok(take_over(host, answer, client_side, guard))
}

/// The engine's answer to a request that may be upgraded.
pub(crate) async fn ask(
    host: &Host,
    target: &str,
    exchange: Exchange,
) -> Result<Response<Incoming>, engine::Error> {
    let (parts, body) = exchange.request.into_parts();
    let mut upstream = Request::new(body);
    *upstream.method_mut() = parts.method;
    *upstream.headers_mut() = parts.headers;
    host.send_upgradable(exchange.version, target, upstream)
        .await
}

/// Makes one connection of the client's and the engine's if the engine's answer is that it switches protocols. Returns what
/// the client is answered.
pub(crate) fn take_over(
    host: &Arc<Host>,
    mut answer: Response<Incoming>,
    client_side: OnUpgrade,
    guard: impl Send + 'static,
) -> Reply {
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        let mut reply = answer.map(|body| body.map_err(Into::into).boxed_unsync());
        strip_hop_by_hop(reply.headers_mut());
        return reply;
    }
    let engine_side = hyper::upgrade::on(&mut answer);
    let host = Arc::clone(host);
    spawn_stream(
        tracing::debug_span!("splice", node = %host.tag.name),
        async move {
            let _guard = guard;
            let (client, engine) = match tokio::try_join!(client_side, engine_side) {
                Ok(both) => both,
                Err(error) => {
                    return tracing::debug!(%error, "a connection did not switch protocols");
                }
            };
            join(&host, TokioIo::new(client), TokioIo::new(engine)).await;
        },
    );
    let mut reply = Response::new(empty());
    *reply.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *reply.headers_mut() = std::mem::take(answer.headers_mut());
    // The engine says `101 UPGRADED`.
    if let Some(reason) = answer.extensions_mut().remove::<ReasonPhrase>() {
        reply.extensions_mut().insert(reason);
    }
    reply
}

/// Makes one stream of two, until both directions have ended or the node is lost. What the engine no longer
/// takes ends only that direction: what it still says reaches the client.
pub(crate) async fn join<A, B>(host: &Host, client: A, engine: B)
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let (mut from_client, mut to_client) = tokio::io::split(client);
    let (mut from_engine, mut to_engine) = tokio::io::split(engine);
    let up = async {
        let copied = copy(&mut from_client, &mut to_engine).await;
        match copied {
            Ok(()) | Err(Broken::Write(_)) => Ok(()),
            Err(Broken::Read(error)) => Err(error),
        }
    };
    let down = async {
        match copy(&mut from_engine, &mut to_client).await {
            Ok(()) => Ok(()),
            Err(Broken::Read(error) | Broken::Write(error)) => Err(error),
        }
    };
    let copied = tokio::select! {
        biased;
        copied = async { tokio::try_join!(up, down) } => copied.map(drop),
        lost = host.lost() => Err(io::Error::other(lost.to_string())),
    };
    if let Err(error) = copied {
        tracing::debug!(%error, "stream broke off");
    }
}

/// Which side of a copy failed.
enum Broken {
    Read(io::Error),
    Write(io::Error),
}

/// Copies until the reading side ends, then ends the writing side.
async fn copy<R, W>(from: &mut R, to: &mut W) -> Result<(), Broken>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut buffer = BytesMut::with_capacity(BUFFER_BYTES);
    loop {
        buffer.clear();
        buffer.reserve(BUFFER_BYTES);
        if from.read_buf(&mut buffer).await.map_err(Broken::Read)? == 0 {
            return to.shutdown().await.map_err(Broken::Write);
        }
        to.write_all(&buffer).await.map_err(Broken::Write)?;
        to.flush().await.map_err(Broken::Write)?;
    }
}

/// The error for an upgrade that needs a protocol and names none, in the engine's words.
pub(crate) fn no_upgrade() -> ApiError {
    ApiError::bad_parameter("no upgrade proto in request")
}
