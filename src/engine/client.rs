//! The verbatim client of one engine: bytes in, bytes out, nothing parsed and nothing collected.
//!
//! **Invariant**: a connection that was upgraded or whose reply was not read to its end is never used
//! again.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use api_compat::version::ApiVersion;
use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderValue, Request, Response, Uri};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper_util::client::legacy::connect::{Connected, Connection as PoolInfo};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::call::{EngineCall, EngineReply};
use super::dial::{Connection, Dial, Dialling};
use super::error::Error;
use crate::model::NodeName;

/// What a body fails with.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A request's body on its way to an engine, or a reply's on its way to a client.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;

/// A body of known bytes.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// No body.
pub fn empty() -> Body {
    full(Bytes::new())
}

/// Why a body could not be read whole.
#[derive(Debug)]
pub enum NotWhole {
    /// It is longer than allowed.
    TooLong,
    /// It broke off.
    Broken(BoxError),
}

/// Reads a body to its end, if it has no more than `max` bytes.
pub async fn read_whole(mut body: Body, max: usize) -> Result<Bytes, NotWhole> {
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(NotWhole::Broken)?.into_data() else {
            continue;
        };
        if whole.len() + data.len() > max {
            return Err(NotWhole::TooLong);
        }
        whole.extend_from_slice(&data);
    }
    Ok(whole.freeze())
}

/// A reply that has to be read whole may not be larger: 256 MiB, some 200,000 containers.
const REPLY_MAX_BYTES: usize = 256 << 20;

/// The oldest API that an engine must speak to be pooled: Docker Engine 20.10.
pub const OLDEST_ENGINE_API: ApiVersion = ApiVersion {
    major: 1,
    minor: 41,
};

/// The API versions that an engine accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ApiWindow {
    /// The oldest.
    pub min: ApiVersion,
    /// The newest.
    pub max: ApiVersion,
}

impl ApiWindow {
    /// The version to call this engine at for a client that speaks `version` (api-matrix 1.2).
    pub fn clamp(self, version: ApiVersion) -> ApiVersion {
        version.min(self.max.min(ApiVersion::MAX)).max(self.min)
    }
}

type Pool = hyper_util::client::legacy::Client<Connector, Body>;

/// So much is read at a time of a reply that passes through.
const STREAM_READ_BYTES: usize = 256 << 10;
/// So much of one that is read whole. A connection keeps the largest buffer it ever had, and these are
/// many: a fleet's lists and inspects come over them.
const CALL_READ_BYTES: usize = 16 << 10;
/// Connections that nothing passes through are kept so long for the next request.
const STREAM_IDLE: Duration = Duration::from_secs(60);
/// Calls come in flurries.
const CALL_IDLE: Duration = Duration::from_secs(15);

/// Both clients of one engine.
pub struct Client {
    node: NodeName,
    dial: Arc<dyn Dial>,
    /// For what passes through.
    streams: Pool,
    /// For what is read whole.
    calls: Pool,
    window: AtomicWindow,
    /// How often all connections were given up.
    losses: AtomicU32,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("node", &self.node)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// A client that has not connected yet.
    pub fn new(node: NodeName, dial: Arc<dyn Dial>) -> Self {
        let pool = |read_bytes, idle| {
            hyper_util::client::legacy::Client::builder(crate::tasks::Connections)
                .pool_idle_timeout(idle)
                .pool_max_idle_per_host(32)
                .pool_timer(TokioTimer::new())
                .http1_preserve_header_case(true)
                .http1_title_case_headers(true)
                .http1_max_buf_size(read_bytes)
                .build(Connector {
                    dial: Arc::clone(&dial),
                })
        };
        let streams = pool(STREAM_READ_BYTES, STREAM_IDLE);
        let calls = pool(CALL_READ_BYTES, CALL_IDLE);
        let window = AtomicWindow::new(ApiWindow {
            min: ApiVersion::MIN,
            max: OLDEST_ENGINE_API,
        });
        Self {
            node,
            dial,
            streams,
            calls,
            window,
            losses: AtomicU32::new(0),
        }
    }

    /// Uses none of the connections again that are idle now: a host that was lost may have forgotten them, and would
    /// answer the next request on one with a reset.
    pub fn give_up_connections(&self) {
        self.losses.fetch_add(1, Ordering::Relaxed);
    }

    /// What pools tell connections by.
    fn origin(&self) -> String {
        format!("http://engine{}", self.losses.load(Ordering::Relaxed))
    }

    /// The node that this client talks to.
    pub fn node(&self) -> &NodeName {
        &self.node
    }

    /// The API versions that the engine accepts, as it last said.
    pub fn window(&self) -> ApiWindow {
        self.window.load()
    }

    /// Records what the engine says it accepts.
    pub fn set_window(&self, window: ApiWindow) {
        self.window.store(window);
    }

    /// Sends a request as it stands, body streaming; the reply's body streams too. `target` is path and
    /// query without version; the engine is called at the version nearest to `version`.
    pub async fn send(
        &self,
        version: ApiVersion,
        target: &str,
        mut request: Request<Body>,
    ) -> Result<Response<Incoming>, Error> {
        *request.uri_mut() = self.uri(&self.origin(), &self.versioned(version, target))?;
        self.request(&self.streams, request).await
    }

    /// Sends a request without a version: for who an engine is and whether it lives, which it says to
    /// clients of any version.
    pub async fn send_bare(
        &self,
        target: &str,
        mut request: Request<Body>,
    ) -> Result<Response<Incoming>, Error> {
        *request.uri_mut() = self.uri(&self.origin(), target)?;
        self.request(&self.streams, request).await
    }

    /// [`Self::send`] for a body that is long: on a connection of its own, which this very task drives
    /// until the reply begins. To hand each piece to another task costs more than to send it.
    pub async fn send_long(
        &self,
        version: ApiVersion,
        target: &str,
        mut request: Request<Body>,
    ) -> Result<Response<Incoming>, Error> {
        *request.uri_mut() = self.uri("", &self.versioned(version, target))?;
        request
            .headers_mut()
            .insert(HOST, HeaderValue::from_static("docker"));
        let connection = self.dial().await?;
        let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
            .preserve_header_case(true)
            .title_case_headers(true)
            .max_buf_size(STREAM_READ_BYTES)
            .handshake(TokioIo::new(connection))
            .await
            .map_err(|error| self.unreachable(&error))?;
        let mut connection = Box::pin(connection);
        let reply = sender.send_request(request);
        tokio::pin!(reply);
        let reply = tokio::select! {
            biased;
            reply = &mut reply => {
                crate::tasks::spawn_stream(tracing::debug_span!("reply"), async move {
                    // Its error reaches whoever reads the reply.
                    let _ = connection.await;
                });
                reply
            }
            // It has ended, and so has the wait for the reply.
            _ = &mut connection => reply.await,
        };
        reply.map_err(|error| self.unreachable(&error))
    }

    async fn request(
        &self,
        pool: &Pool,
        mut request: Request<Body>,
    ) -> Result<Response<Incoming>, Error> {
        request
            .headers_mut()
            .insert(HOST, HeaderValue::from_static("docker"));
        pool.request(request)
            .await
            .map_err(|error| self.unreachable(&error))
    }

    /// Performs a call and reads the reply whole. An engine's refusal is a reply, not an error.
    pub async fn call(&self, call: EngineCall) -> Result<EngineReply, Error> {
        let has_body = call.body.is_some();
        let mut request = Request::new(call.body.map_or_else(empty, full));
        *request.method_mut() = call.method;
        if has_body {
            let json = HeaderValue::from_static("application/json");
            request
                .headers_mut()
                .insert(CONTENT_TYPE, call.content_type.unwrap_or(json));
        }
        *request.uri_mut() =
            self.uri(&self.origin(), &self.versioned(call.version, &call.target))?;
        let response = self.request(&self.calls, request).await?;
        let (parts, body) = response.into_parts();
        let body = Limited::new(body, REPLY_MAX_BYTES)
            .collect()
            .await
            .map_err(|error| self.broken(error))?;
        Ok(EngineReply {
            status: parts.status,
            headers: parts.headers,
            body: body.to_bytes(),
        })
    }

    /// [`Self::call`], where anything but a 2xx is an error in the engine's words.
    pub async fn ask(&self, call: EngineCall) -> Result<EngineReply, Error> {
        let reply = self.call(call).await?;
        if reply.status.is_success() {
            return Ok(reply);
        }
        Err(Error::Refused {
            node: self.node.clone(),
            status: reply.status,
            message: reply.message(),
        })
    }

    /// Sends a request on a connection of its own that may be upgraded: for attach, exec, BuildKit.
    pub async fn send_upgradable(
        &self,
        version: ApiVersion,
        target: &str,
        mut request: Request<Body>,
    ) -> Result<Response<Incoming>, Error> {
        *request.uri_mut() = self.uri("", &self.versioned(version, target))?;
        request
            .headers_mut()
            .insert(HOST, HeaderValue::from_static("docker"));
        let connection = self.dial().await?;
        let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
            .preserve_header_case(true)
            .title_case_headers(true)
            .handshake(TokioIo::new(connection))
            .await
            .map_err(|error| self.unreachable(&error))?;
        crate::tasks::spawn_stream(tracing::debug_span!("upgradable"), async move {
            // Its error reaches whoever waits for the reply.
            let _ = connection.with_upgrades().await;
        });
        sender
            .send_request(request)
            .await
            .map_err(|error| self.unreachable(&error))
    }

    /// One more raw connection to the engine.
    pub async fn dial(&self) -> Result<Connection, Error> {
        self.dial.dial().await.map_err(|source| Error::Unreachable {
            node: self.node.clone(),
            source,
        })
    }

    /// The request line's target for `target` at the version nearest to `version`.
    pub fn versioned(&self, version: ApiVersion, target: &str) -> String {
        format!("/v{}{target}", self.window().clamp(version))
    }

    /// An error for an answer that cannot be read.
    pub fn garbled(&self, why: impl std::fmt::Display) -> Error {
        Error::Garbled {
            node: self.node.clone(),
            why: why.to_string(),
        }
    }

    fn uri(&self, origin: &str, target: &str) -> Result<Uri, Error> {
        let uri = format!("{origin}{target}");
        uri.parse().map_err(|error| {
            self.garbled(format_args!(
                "no request can be made of `{target}`: {error}"
            ))
        })
    }

    fn unreachable(&self, error: &(dyn std::error::Error + 'static)) -> Error {
        Error::Unreachable {
            node: self.node.clone(),
            source: io_cause(error),
        }
    }

    fn broken(&self, error: BoxError) -> Error {
        Error::Unreachable {
            node: self.node.clone(),
            source: io_cause(error.as_ref()),
        }
    }
}

/// The transport's own error at the bottom of hyper's, so that "refused" can be told from "slow".
fn io_cause(error: &(dyn std::error::Error + 'static)) -> io::Error {
    let mut next = Some(error);
    let mut last = error;
    while let Some(cause) = next {
        if let Some(io) = cause.downcast_ref::<io::Error>() {
            return io::Error::new(io.kind(), io.to_string());
        }
        last = cause;
        next = cause.source();
    }
    io::Error::other(last.to_string())
}

/// A window that is read on every request and written on every reconnect.
struct AtomicWindow(AtomicU32);

impl AtomicWindow {
    fn new(window: ApiWindow) -> Self {
        Self(AtomicU32::new(Self::pack(window)))
    }

    /// Major is 1 in every version there is; two minors of 16 bits fit one word.
    fn pack(window: ApiWindow) -> u32 {
        let minor = |version: ApiVersion| version.minor.min(u32::from(u16::MAX));
        minor(window.min) << 16 | minor(window.max)
    }

    fn load(&self) -> ApiWindow {
        let packed = self.0.load(Ordering::Relaxed);
        let version = |minor| ApiVersion { major: 1, minor };
        ApiWindow {
            min: version(packed >> 16),
            max: version(packed & 0xffff),
        }
    }

    fn store(&self, window: ApiWindow) {
        self.0.store(Self::pack(window), Ordering::Relaxed);
    }
}

/// Lets hyper's pool dial by [`Dial`].
#[derive(Clone)]
struct Connector {
    dial: Arc<dyn Dial>,
}

impl tower_service::Service<Uri> for Connector {
    type Response = TokioIo<Pooled>;
    type Error = io::Error;
    type Future = std::pin::Pin<Box<dyn Future<Output = io::Result<TokioIo<Pooled>>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let dialling: Dialling = self.dial.dial();
        Box::pin(async move { Ok(TokioIo::new(Pooled(dialling.await?))) })
    }
}

/// A connection in the pool.
struct Pooled(Connection);

impl PoolInfo for Pooled {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl AsyncRead for Pooled {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        std::pin::Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Pooled {
    fn poll_write(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        std::pin::Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        std::pin::Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        std::pin::Pin::new(&mut self.0).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        std::pin::Pin::new(&mut self.0).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }
}
