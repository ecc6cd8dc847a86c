//! The one way a connection to an engine comes about. Both clients, the typed and the verbatim one,
//! and every splice dial through [`Dial`], so that a new kind of transport is one more implementation.

use std::fmt;
use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use super::endpoint::Endpoint;

/// A byte stream to an engine.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A connection, whatever carries it.
pub type Connection = Box<dyn Stream>;

/// What [`Dial::dial`] returns.
pub type Dialling = Pin<Box<dyn Future<Output = io::Result<Connection>> + Send>>;

/// Opens connections to one engine.
pub trait Dial: fmt::Debug + Send + Sync + 'static {
    /// Opens one more connection. It fails after the transport's own deadline; it never waits for ever.
    fn dial(&self) -> Dialling;
}

/// Says how the engine at an endpoint is reached.
pub trait Dials: fmt::Debug + Send + Sync + 'static {
    /// What opens connections to it.
    fn dialler(&self, endpoint: &Endpoint) -> Arc<dyn Dial>;
}

/// Reaches engines by the transport that their endpoints ask for.
#[derive(Debug, Clone, Copy, Default)]
pub struct Transports;

impl Dials for Transports {
    fn dialler(&self, endpoint: &Endpoint) -> Arc<dyn Dial> {
        dialler(endpoint)
    }
}

/// A connection that has not come about by then never will, for our purposes.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// The transport that `endpoint` asks for.
fn dialler(endpoint: &Endpoint) -> Arc<dyn Dial> {
    match endpoint {
        Endpoint::Unix(path) => Arc::new(UnixDial { path: path.clone() }),
        Endpoint::Tcp { host, port } => Arc::new(TcpDial {
            host: host.clone(),
            port: *port,
        }),
    }
}

#[derive(Debug)]
struct UnixDial {
    path: PathBuf,
}

impl Dial for UnixDial {
    fn dial(&self) -> Dialling {
        let path = self.path.clone();
        Box::pin(within(async move {
            Ok(Box::new(UnixStream::connect(path).await?) as Connection)
        }))
    }
}

#[derive(Debug)]
struct TcpDial {
    host: String,
    port: u16,
}

impl Dial for TcpDial {
    fn dial(&self) -> Dialling {
        let (host, port) = (self.host.clone(), self.port);
        Box::pin(within(async move {
            let stream = TcpStream::connect((host, port)).await?;
            stream.set_nodelay(true)?;
            keep_alive(&stream)?;
            Ok(Box::new(stream) as Connection)
        }))
    }
}

/// Notices a peer that vanished, on connections where nothing is said for long (api-matrix 1.8).
pub fn keep_alive(stream: &TcpStream) -> io::Result<()> {
    let keep_alive = socket2::TcpKeepalive::new()
        .with_time(Duration::from_secs(30))
        .with_interval(Duration::from_secs(10));
    socket2::SockRef::from(stream).set_tcp_keepalive(&keep_alive)
}

async fn within(dialling: impl Future<Output = io::Result<Connection>>) -> io::Result<Connection> {
    tokio::time::timeout(CONNECT_TIMEOUT, dialling)
        .await
        .unwrap_or_else(|_| {
            Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "no answer to the connection attempt",
            ))
        })
}
