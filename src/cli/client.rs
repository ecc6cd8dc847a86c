//! Talks to a running manager: where it is, one request, one answer.
//!
//! **Invariant**: every wait has a deadline; whatever fails says at which address, and how another one is given.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{Either, select};
use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use crate::config::{Surroundings, default_socket};

/// A manager that is there accepts at once.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);
/// An engine that is added may take its time to answer the manager.
const ANSWER_PATIENCE: Duration = Duration::from_secs(30);
/// Thousands of nodes need a few megabytes.
const ANSWER_MAX_BYTES: usize = 64 << 20;

/// Why a manager did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Where the manager is cannot be told from what was given.
    #[error("{origin}: {text} {problem}")]
    BadAddress {
        /// What gave it.
        origin: &'static str,
        /// What was given.
        text: String,
        /// What is wrong, and what would be right.
        problem: &'static str,
    },
    /// Nothing was given, and there is no default.
    #[error(
        "it is not known where the manager listens: give --host unix:///PATH or set FLOTILLA_HOST"
    )]
    NoAddress,
    /// Nobody answers there.
    #[error(
        "no manager answers at {address}: {source} (is `flotilla serve` running? --host or FLOTILLA_HOST say where it \
         listens)"
    )]
    Unreachable {
        /// Where it was looked for.
        address: Address,
        /// What the system said.
        source: io::Error,
    },
    /// Somebody answers, but not a manager that knows the question.
    #[error(
        "what answers at {address} is no Flotilla manager, or an older one: give --host or set FLOTILLA_HOST to the \
         manager's address"
    )]
    NotAManager {
        /// Where it was asked.
        address: Address,
    },
    /// The manager refused, in its words.
    #[error("{0}")]
    Refused(String),
}

/// Where a manager listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A unix socket.
    Unix(PathBuf),
    /// TCP in the clear: host and port.
    Tcp(String),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(address) => write!(f, "tcp://{address}"),
        }
    }
}

impl Address {
    /// The one given with `--host`, else that of `FLOTILLA_HOST`, else that of `DOCKER_HOST`, else where a manager
    /// listens that was not told where.
    pub fn find(given: Option<&str>, surroundings: &Surroundings) -> Result<Self, Error> {
        let variable = |name| variable(&surroundings.variables, name);
        let told = given
            .map(|text| ("--host", text))
            .or_else(|| Some(("FLOTILLA_HOST", variable("FLOTILLA_HOST")?)))
            .or_else(|| Some(("DOCKER_HOST", variable("DOCKER_HOST")?)));
        match told {
            Some((origin, text)) => Self::read(text).map_err(|problem| Error::BadAddress {
                origin,
                text: text.to_owned(),
                problem,
            }),
            None => default_socket(surroundings)
                .map(Self::Unix)
                .map_err(|_| Error::NoAddress),
        }
    }

    fn read(text: &str) -> Result<Self, &'static str> {
        if let Some(path) = text.strip_prefix("unix://") {
            return if path.starts_with('/') {
                Ok(Self::Unix(path.into()))
            } else {
                Err("must be an absolute path, as in unix:///run/flotilla.sock")
            };
        }
        let Some(address) = text.strip_prefix("tcp://") else {
            return Err("must begin with unix:// or tcp://");
        };
        let address = address.strip_suffix('/').unwrap_or(address);
        let wrong = "must be a host and a port, as in tcp://127.0.0.1:2375";
        let (host, port) = address.rsplit_once(':').ok_or(wrong)?;
        if host.is_empty() || port.parse::<u16>().is_err() {
            return Err(wrong);
        }
        Ok(Self::Tcp(address.to_owned()))
    }
}

fn variable<'a>(variables: &'a BTreeMap<String, String>, name: &str) -> Option<&'a str> {
    let text = variables.get(name)?;
    (!text.is_empty()).then_some(text)
}

/// A manager at an address. Each question takes a connection of its own.
#[derive(Debug)]
pub(super) struct Client {
    address: Address,
}

impl Client {
    /// The manager that listens there.
    pub(super) fn new(address: Address) -> Self {
        Self { address }
    }

    /// The value at a path.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        self.ask(Method::GET, path, Bytes::new()).await
    }

    /// Sends a value, and returns the one that is answered.
    pub(super) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl serde::Serialize,
    ) -> Result<T, Error> {
        let body = serde_json::to_vec(body)
            .map_err(|error| Error::Refused(format!("the request cannot be written: {error}")))?;
        self.ask(Method::POST, path, body.into()).await
    }

    /// Removes what is at a path.
    pub(super) async fn delete(&self, path: &str) -> Result<(), Error> {
        self.send(Method::DELETE, path, Bytes::new())
            .await
            .map(drop)
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<T, Error> {
        let answer = self.send(method, path, body).await?;
        serde_json::from_slice(&answer).map_err(|_| self.not_a_manager())
    }

    /// The body of a good answer.
    async fn send(&self, method: Method, path: &str, body: Bytes) -> Result<Bytes, Error> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().map_err(|_| self.not_a_manager())?;
        let headers = request.headers_mut();
        headers.insert(HOST, HeaderValue::from_static("flotilla"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let answer = match &self.address {
            Address::Unix(path) => {
                let stream = in_time(CONNECT_PATIENCE, UnixStream::connect(path)).await;
                exchange(stream, request).await
            }
            Address::Tcp(address) => {
                let stream = in_time(CONNECT_PATIENCE, TcpStream::connect(address)).await;
                exchange(stream, request).await
            }
        };
        let (status, body) = answer.map_err(|source| Error::Unreachable {
            address: self.address.clone(),
            source,
        })?;
        if status.is_success() {
            return Ok(body);
        }
        match message(&body) {
            // What an engine says to a path that it does not know.
            Some(message) if message != "page not found" => Err(Error::Refused(message)),
            _ => Err(self.not_a_manager()),
        }
    }

    fn not_a_manager(&self) -> Error {
        Error::NotAManager {
            address: self.address.clone(),
        }
    }
}

/// The sentence of an error in Docker's shape.
fn message(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Refusal {
        message: String,
    }
    let refusal: Refusal = serde_json::from_slice(body).ok()?;
    Some(refusal.message)
}

async fn exchange<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: io::Result<S>,
    request: Request<Full<Bytes>>,
) -> io::Result<(StatusCode, Bytes)> {
    let stream = TokioIo::new(stream?);
    let talking = async {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(stream)
            .await
            .map_err(io::Error::other)?;
        let asking = pin!(async move {
            let reply = sender
                .send_request(request)
                .await
                .map_err(io::Error::other)?;
            let status = reply.status();
            let body = Limited::new(reply.into_body(), ANSWER_MAX_BYTES);
            let body = body.collect().await.map_err(io::Error::other)?;
            Ok((status, body.to_bytes()))
        });
        // The connection moves only while it is polled.
        match select(asking, pin!(connection)).await {
            Either::Left((answer, _)) => answer,
            Either::Right((_, asking)) => asking.await,
        }
    };
    in_time(ANSWER_PATIENCE, talking).await
}

async fn in_time<T>(
    patience: Duration,
    work: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    let late = |_| {
        let seconds = patience.as_secs();
        Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("no answer within {seconds}s"),
        ))
    };
    tokio::time::timeout(patience, work)
        .await
        .unwrap_or_else(late)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(given: Option<&str>, variables: &[(&str, &str)]) -> String {
        let pair = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        let surroundings = Surroundings {
            root: false,
            variables: variables.iter().map(pair).collect(),
        };
        match Address::find(given, &surroundings) {
            Ok(address) => address.to_string(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn the_nearest_word_says_where_the_manager_is() {
        let variables = [
            ("DOCKER_HOST", "tcp://127.0.0.1:1"),
            ("FLOTILLA_HOST", "tcp://127.0.0.1:2/"),
            ("XDG_RUNTIME_DIR", "/run/user/7"),
        ];
        assert_eq!(find(Some("unix:///x.sock"), &variables), "unix:///x.sock");
        assert_eq!(find(None, &variables), "tcp://127.0.0.1:2");
        assert_eq!(find(None, &variables[..1]), "tcp://127.0.0.1:1");
        assert_eq!(
            find(None, &[("DOCKER_HOST", ""), variables[2]]),
            "unix:///run/user/7/flotilla.sock"
        );
        assert!(find(None, &[]).ends_with("set FLOTILLA_HOST"));
    }

    #[test]
    fn a_bad_address_says_who_gave_it() {
        assert_eq!(
            find(Some("/x.sock"), &[]),
            "--host: /x.sock must begin with unix:// or tcp://"
        );
        assert_eq!(
            find(None, &[("DOCKER_HOST", "ssh://host")]),
            "DOCKER_HOST: ssh://host must begin with unix:// or tcp://"
        );
        assert!(find(Some("unix://x.sock"), &[]).contains("absolute path"));
        for text in ["tcp://host", "tcp://:1", "tcp://host:x", "tcp://host:99999"] {
            assert!(
                find(Some(text), &[]).contains("a host and a port"),
                "{text}"
            );
        }
    }
}
