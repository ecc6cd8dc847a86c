//! The one way a connection to an engine comes about. Both clients, the typed and the verbatim one,
//! and every splice dial through [`Dial`], so that a new kind of transport is one more implementation.
//!
//! | file | what |
//! | --- | --- |
//! | `plain.rs` | unix sockets, and TCP in the clear |
//! | `tls.rs` | TLS over such TCP, with the files of dockerd's `--tlsverify` |
//! | `ssh.rs` | `docker system dial-stdio` at the other end of an `ssh` process |
//! | `ssh_link.rs` | a login to a host, which several such processes go through |
//! | `ssh_process.rs` | how `ssh` is called, and what it says when it ends |
//! | `advice.rs` | what a failure means, and what to do about it |
//!
//! **Invariant**: a dial ends in time, and its error says what to do; what it started ends with the connection.

mod advice;
mod plain;
mod ssh;
mod ssh_link;
mod ssh_process;
mod tls;

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};

use super::endpoint::Endpoint;
pub use plain::keep_alive;
pub use tls::{BadFile, check_files as check_tls_files};

pub(super) use advice::of_refusal as advice_for_refusal;

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
        Endpoint::Unix(path) => Arc::new(plain::UnixDial::new(path.clone())),
        Endpoint::Tcp {
            host,
            port,
            tls: None,
        } => Arc::new(plain::TcpDial::new(host.clone(), *port)),
        Endpoint::Tcp {
            host,
            port,
            tls: Some(dir),
        } => Arc::new(tls::TlsDial::new(host.clone(), *port, dir.clone())),
        Endpoint::Ssh(target) => Arc::new(ssh::SshDial::new(target.clone())),
    }
}

/// Gives up on an attempt to reach `place` that takes too long.
async fn within(
    place: &str,
    dialling: impl Future<Output = io::Result<Connection>>,
) -> io::Result<Connection> {
    tokio::time::timeout(CONNECT_TIMEOUT, dialling)
        .await
        .unwrap_or_else(|_| {
            let silence = advice::of_silence(place, CONNECT_TIMEOUT);
            Err(io::Error::new(io::ErrorKind::TimedOut, silence))
        })
}
