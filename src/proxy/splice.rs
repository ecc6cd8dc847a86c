//! Connections that turn into byte streams: attach, exec, BuildKit. Bytes pass both ways, each direction
//! on its own, until both have ended; the end of one is passed on and leaves the other open.
//!
//! **Invariant**: nothing is parsed, collected, or timed out here.

use std::io;
use std::sync::Arc;

use api_compat::error::ApiError;
use http::header::UPGRADE;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional_with_sizes};

use super::exchange::Exchange;
use super::reply::{Outcome, from_engine, strip_hop_by_hop};
use crate::engine::{Host, empty};
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
    exchange: Exchange,
    guard: impl Send + 'static,
) -> Outcome {
    let Exchange {
        mut request,
        version,
        ..
    } = exchange;
    let client_side = hyper::upgrade::on(&mut request);
    let (parts, body) = request.into_parts();
    let mut upstream = Request::new(body);
    *upstream.method_mut() = parts.method;
    *upstream.headers_mut() = parts.headers;
    let mut response = host
        .send_upgradable(version, target, upstream)
        .await
        .map_err(from_engine)?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let mut response = response.map(|body| body.map_err(Into::into).boxed_unsync());
        strip_hop_by_hop(response.headers_mut());
        return Ok(response);
    }
    let engine_side = hyper::upgrade::on(&mut response);
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
    *reply.headers_mut() = std::mem::take(response.headers_mut());
    Ok(reply)
}

/// Makes one stream of two, until both directions have ended or the node is lost.
pub(crate) async fn join<A, B>(host: &Host, mut client: A, mut engine: B)
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let copied = tokio::select! {
        copied = copy_bidirectional_with_sizes(&mut client, &mut engine, BUFFER_BYTES, BUFFER_BYTES) => copied,
        lost = host.lost() => Err(io::Error::other(lost.to_string())),
    };
    if let Err(error) = copied {
        tracing::debug!(%error, "stream broke off");
    }
}

/// The error for an upgrade that needs a protocol and names none, in the engine's words.
pub(crate) fn no_upgrade() -> ApiError {
    ApiError::bad_parameter("no upgrade proto in request")
}
