//! The slice of the Engine API that a manager uses, as a function from a request to what is said.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use percent_encoding::percent_decode_str;
use serde_json::Value;
use tokio::sync::mpsc;

use super::{Engine, Filter, Refused, shapes};

/// What an engine is asked.
#[derive(Debug, Clone)]
pub struct Asked {
    /// The method.
    pub method: Method,
    /// The path, with or without a version.
    pub path: String,
    /// The query; empty if there is none.
    pub query: String,
    /// The body, whole.
    pub body: Bytes,
}

/// The body of what an engine says.
#[derive(Debug)]
pub enum Said {
    /// All of it.
    Whole(Bytes),
    /// As it comes, until the engine ends it.
    Following(mpsc::Receiver<Bytes>),
}

impl Body for Said {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut *self {
            Self::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Whole(bytes) => {
                let bytes = std::mem::take(bytes);
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Self::Following(lines) => lines
                .poll_recv(cx)
                .map(|line| line.map(|line| Ok(Frame::data(line)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(bytes) if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Following(_) => SizeHint::default(),
        }
    }
}

impl Engine {
    /// Does what is asked and says what came of it.
    #[must_use]
    pub fn answer(&self, asked: &Asked) -> Response<Said> {
        let mut reply = self
            .route(asked)
            .unwrap_or_else(|(status, message)| error(status, &message));
        for (name, value) in [
            ("Api-Version", "1.51"),
            ("Docker-Experimental", "false"),
            ("Ostype", "linux"),
            ("Server", "Docker/28.5.2+dfsg4 (linux)"),
        ] {
            reply
                .headers_mut()
                .insert(name, HeaderValue::from_static(value));
        }
        reply
    }

    fn route(&self, asked: &Asked) -> Result<Response<Said>, Refused> {
        let query = asked.query.as_str();
        let path = unversioned(&asked.path);
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let get = asked.method == Method::GET;
        let post = asked.method == Method::POST;
        Ok(match parts.as_slice() {
            ["_ping"] => ping(),
            ["version"] if get => json(200, shapes::VERSION),
            ["info"] if get => json(200, self.info()),
            ["images", "json"] if get => json(200, shapes::IMAGES),
            ["networks"] if get => json(200, self.networks()),
            ["volumes"] if get => json(200, shapes::VOLUMES),
            // What has an end is history here: nobody asks a simulated engine for the future.
            ["events"] if get && value(query, "until").is_some() => {
                text(200, "application/json", self.remembered(since(query)))
            }
            ["events"] if get => following(self.follow(since(query))),
            ["containers", "json"] if get => json(200, self.list(&filter(query))),
            ["containers", "create"] if post => {
                let id = self.create(value(query, "name").as_deref(), &parsed(&asked.body)?)?;
                json(201, format!("{{\"Id\":\"{id}\",\"Warnings\":[]}}\n"))
            }
            ["containers", id] if asked.method == Method::DELETE => {
                self.remove(id, flag(query, "force"))?;
                empty(204)
            }
            ["containers", id, "json"] if get => json(200, self.inspect(id)?),
            ["containers", id, "start"] if post => empty(if self.start(id)? { 204 } else { 304 }),
            ["containers", id, "stop"] if post => empty(if self.stop(id)? { 204 } else { 304 }),
            ["containers", id, "rename"] if post => {
                self.rename(id, &value(query, "name").unwrap_or_default())?;
                empty(204)
            }
            ["containers", id, "update"] if post => {
                self.update(id, &parsed(&asked.body)?)?;
                json(200, "{\"Warnings\":null}\n")
            }
            ["containers", id, "wait"] if post => {
                let condition = value(query, "condition").unwrap_or_default();
                following(self.wait(id, &condition)?)
            }
            _ => return Err((404, "page not found".to_owned())),
        })
    }
}

/// A path without its version.
#[must_use]
pub fn unversioned(path: &str) -> &str {
    let rest = path
        .strip_prefix("/v1.")
        .and_then(|rest| rest.find('/').map(|at| &rest[at..]));
    rest.unwrap_or(path)
}

/// An error as an engine words it.
#[must_use]
pub fn error(status: u16, message: &str) -> Response<Said> {
    json(status, shapes::message(message))
}

/// The value of a parameter of a query.
fn value(query: &str, name: &str) -> Option<String> {
    query.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (key == name).then(|| percent_decode_str(value).decode_utf8_lossy().into_owned())
    })
}

fn flag(query: &str, name: &str) -> bool {
    matches!(value(query, name).as_deref(), Some("1" | "true"))
}

/// `since=seconds.nanoseconds`.
fn since(query: &str) -> Option<i64> {
    let text = value(query, "since")?;
    let (seconds, nanos) = text.split_once('.').unwrap_or((&text, "0"));
    let seconds: i64 = seconds.parse().ok()?;
    Some(seconds.saturating_mul(1_000_000_000) + nanos.parse::<i64>().unwrap_or(0))
}

fn filter(query: &str) -> Filter {
    let filters: Value = value(query, "filters")
        .and_then(|text| serde_json::from_str(&text).ok())
        .unwrap_or_default();
    // Both forms: a list, and the old map of values to true.
    let values = |name: &str| match &filters[name] {
        Value::Array(values) => values
            .iter()
            .filter_map(|value| value.as_str().map(str::to_owned))
            .collect(),
        Value::Object(values) => values.keys().cloned().collect(),
        _ => Vec::new(),
    };
    Filter {
        all: flag(query, "all"),
        limit: value(query, "limit")
            .and_then(|limit| limit.parse().ok())
            .filter(|limit| *limit > 0),
        ids: values("id"),
        labels: values("label"),
    }
}

fn parsed(body: &[u8]) -> Result<Value, Refused> {
    serde_json::from_slice(body).map_err(|error| (400, error.to_string()))
}

fn ping() -> Response<Said> {
    let mut reply = text(200, "text/plain; charset=utf-8", "OK");
    for (name, value) in [
        ("Builder-Version", "2"),
        ("Cache-Control", "no-cache, no-store, must-revalidate"),
        ("Pragma", "no-cache"),
        ("Swarm", "inactive"),
    ] {
        reply
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    reply
}

fn json(status: u16, body: impl Into<Bytes>) -> Response<Said> {
    text(status, "application/json", body)
}

fn text(status: u16, kind: &'static str, body: impl Into<Bytes>) -> Response<Said> {
    let mut reply = empty(status);
    *reply.body_mut() = Said::Whole(body.into());
    reply
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    reply
}

fn empty(status: u16) -> Response<Said> {
    let mut reply = Response::new(Said::Whole(Bytes::new()));
    *reply.status_mut() = StatusCode::from_u16(status).unwrap_or_default();
    reply
}

fn following(lines: mpsc::Receiver<Bytes>) -> Response<Said> {
    let mut reply = Response::new(Said::Following(lines));
    reply
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    reply
}
