//! Unix sockets, and TCP in the clear.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tokio::net::{TcpStream, UnixStream};

use super::advice;
use super::{Connection, Dial, Dialling, within};

/// Dials a unix socket.
#[derive(Debug)]
pub(super) struct UnixDial {
    path: PathBuf,
}

impl UnixDial {
    pub(super) const fn new(path: PathBuf) -> Self {
        Self { path }
    }
}

impl Dial for UnixDial {
    fn dial(&self) -> Dialling {
        let path = self.path.clone();
        Box::pin(async move {
            let place = path.display().to_string();
            let connecting = async {
                let stream = UnixStream::connect(&path).await;
                let stream =
                    stream.map_err(|error| told(&error, advice::of_socket(&error, &place)))?;
                Ok(Box::new(stream) as Connection)
            };
            within(&place, connecting).await
        })
    }
}

/// Dials TCP in the clear.
#[derive(Debug)]
pub(super) struct TcpDial {
    host: String,
    port: u16,
}

impl TcpDial {
    pub(super) const fn new(host: String, port: u16) -> Self {
        Self { host, port }
    }
}

impl Dial for TcpDial {
    fn dial(&self) -> Dialling {
        let (host, port) = (self.host.clone(), self.port);
        Box::pin(async move {
            let connecting = async { Ok(Box::new(connect(&host, port).await?) as Connection) };
            within(&advice::place(&host, port), connecting).await
        })
    }
}

/// A TCP connection as all of ours are.
pub(super) async fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    let place = advice::place(host, port);
    let addresses: Vec<SocketAddr> = tokio::net::lookup_host((host, port))
        .await
        .map_err(|error| io::Error::other(advice::of_lookup(&error, host)))?
        .collect();
    let stream = TcpStream::connect(&addresses[..])
        .await
        .map_err(|error| told(&error, advice::of_tcp(&error, &place)))?;
    stream.set_nodelay(true)?;
    keep_alive(&stream)?;
    Ok(stream)
}

/// The same error in better words.
fn told(error: &io::Error, words: String) -> io::Error {
    io::Error::new(error.kind(), words)
}

/// Notices a peer that vanished, on connections where nothing is said for long (api-matrix 1.8).
pub fn keep_alive(stream: &TcpStream) -> io::Result<()> {
    let keep_alive = socket2::TcpKeepalive::new()
        .with_time(Duration::from_secs(30))
        .with_interval(Duration::from_secs(10));
    socket2::SockRef::from(stream).set_tcp_keepalive(&keep_alive)
}
