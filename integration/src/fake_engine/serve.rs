//! The slice of the Engine API that a manager uses, over HTTP.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, UPGRADE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use percent_encoding::percent_decode_str;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, UnixListener};

use super::engine::{Engine, Filter, Refused};
use super::paced::{Following, Meter, Pace, Paced, chunk};
use super::shapes;

type Reply = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// What was asked of all engines, but for pings and event streams.
#[derive(Debug, Default)]
pub(super) struct Served {
    pub(super) inspects: AtomicU64,
    pub(super) others: AtomicU64,
}

/// How engines behave.
#[derive(Debug, Clone, Copy)]
pub(super) struct Manners {
    pub(super) create: Duration,
    pub(super) start: Duration,
    pub(super) stream: Pace,
}

/// Where an engine listens.
pub(super) enum Listener {
    Unix(UnixListener),
    Tcp(TcpListener),
}

/// One engine as its connections see it.
#[derive(Debug)]
pub(super) struct Behind {
    pub(super) engine: Arc<Engine>,
    pub(super) served: Arc<Served>,
    pub(super) manners: Manners,
}

/// Accepts for ever.
pub(super) async fn listen(listener: Listener, engine: Arc<Behind>) {
    loop {
        let engine = Arc::clone(&engine);
        match &listener {
            Listener::Unix(listener) => {
                if let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(connection(stream, engine));
                }
            }
            Listener::Tcp(listener) => {
                if let Ok((stream, _)) = listener.accept().await
                    && stream.set_nodelay(true).is_ok()
                {
                    tokio::spawn(connection(stream, engine));
                }
            }
        }
    }
}

async fn connection(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    engine: Arc<Behind>,
) {
    let service = service_fn(move |request| {
        let engine = Arc::clone(&engine);
        async move { Ok::<_, Infallible>(engine.answer(request).await) }
    });
    // What breaks off here is noticed at the other end.
    drop(
        hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades()
            .await,
    );
}

impl Behind {
    async fn answer(&self, request: Request<Incoming>) -> Reply {
        let mut reply = match self.route(request).await {
            Ok(reply) => reply,
            Err((status, message)) => json(status, shapes::message(&message)),
        };
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

    async fn route(&self, request: Request<Incoming>) -> Result<Reply, Refused> {
        let uri = request.uri().clone();
        let path = unversioned(uri.path());
        let query = uri.query().unwrap_or_default();
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let engine = &self.engine;
        let get = request.method() == Method::GET;
        let post = request.method() == Method::POST;
        self.count(&parts);
        Ok(match parts.as_slice() {
            ["_ping"] => ping(),
            ["version"] if get => json(200, shapes::VERSION),
            ["info"] if get => json(200, engine.info()),
            ["images", "json"] if get => json(200, shapes::IMAGES),
            ["networks"] if get => json(200, engine.networks()),
            ["volumes"] if get => json(200, shapes::VOLUMES),
            // What has an end is history here: nobody asks a fake engine for the future.
            ["events"] if get && value(query, "until").is_some() => {
                text(200, "application/json", engine.remembered(since(query)))
            }
            ["events"] if get => streaming(Following(engine.follow(since(query)))),
            ["containers", "json"] if get => json(200, engine.list(&filter(query))),
            ["containers", "create"] if post => {
                let name = value(query, "name");
                let body = whole(request).await?;
                pause(self.manners.create).await;
                let id = engine.create(name.as_deref(), &body)?;
                json(201, format!("{{\"Id\":\"{id}\",\"Warnings\":[]}}\n"))
            }
            ["containers", id] if request.method() == Method::DELETE => {
                let force = matches!(value(query, "force").as_deref(), Some("1" | "true"));
                engine.remove(id, force)?;
                empty(204)
            }
            ["containers", id, "json"] if get => json(200, engine.inspect(id)?),
            ["containers", id, "start"] if post => {
                pause(self.manners.start).await;
                empty(if engine.start(id)? { 204 } else { 304 })
            }
            ["containers", id, "stop"] if post => empty(if engine.stop(id)? { 204 } else { 304 }),
            ["containers", id, "logs" | "archive" | "export"] if get => {
                engine.exists(id)?;
                streaming(Paced::new(self.manners.stream))
            }
            ["containers", id, "attach"] if post => {
                engine.exists(id)?;
                attach(request, self.manners.stream)
            }
            ["containers", id, "archive"] if request.method() == Method::PUT => {
                engine.exists(id)?;
                discard(request).await;
                empty(200)
            }
            _ => return Err((404, "page not found".to_owned())),
        })
    }

    fn count(&self, parts: &[&str]) {
        let counter = match parts {
            ["_ping" | "events"] => return,
            ["containers", _, "json"] => &self.served.inspects,
            _ => &self.served.others,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

fn unversioned(path: &str) -> &str {
    let rest = path
        .strip_prefix("/v1.")
        .and_then(|rest| rest.find('/').map(|at| &rest[at..]));
    rest.unwrap_or(path)
}

/// The value of a parameter of a query.
fn value(query: &str, name: &str) -> Option<String> {
    query.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (key == name).then(|| percent_decode_str(value).decode_utf8_lossy().into_owned())
    })
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
        all: matches!(value(query, "all").as_deref(), Some("1" | "true")),
        limit: value(query, "limit")
            .and_then(|limit| limit.parse().ok())
            .filter(|limit| *limit > 0),
        ids: values("id"),
        labels: values("label"),
    }
}

async fn whole(request: Request<Incoming>) -> Result<Value, Refused> {
    let bad = |message: String| (400, message);
    let body = request
        .into_body()
        .collect()
        .await
        .map_err(|error| bad(error.to_string()))?;
    serde_json::from_slice(&body.to_bytes()).map_err(|error| bad(error.to_string()))
}

async fn discard(request: Request<Incoming>) {
    let mut body = request.into_body();
    while let Some(Ok(_)) = body.frame().await {}
}

async fn pause(duration: Duration) {
    if !duration.is_zero() {
        tokio::time::sleep(duration).await;
    }
}

fn attach(mut request: Request<Incoming>, pace: Pace) -> Reply {
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let Ok(upgraded) = upgraded.await else { return };
        let mut stream = TokioIo::new(upgraded);
        let (mut meter, chunk) = (Meter::new(pace), chunk());
        while let Some(due) = meter.next() {
            tokio::time::sleep_until(due).await;
            if stream.write_all(&chunk).await.is_err() {
                return;
            }
        }
        // A client that has left already is as good.
        drop(stream.shutdown().await);
    });
    let mut reply = empty(101);
    let headers = reply.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("tcp"));
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/vnd.docker.raw-stream"),
    );
    reply
}

fn ping() -> Reply {
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

fn json(status: u16, body: impl Into<Bytes>) -> Reply {
    text(status, "application/json", body)
}

fn text(status: u16, kind: &'static str, body: impl Into<Bytes>) -> Reply {
    let mut reply = Response::new(Full::new(body.into()).boxed_unsync());
    *reply.status_mut() = StatusCode::from_u16(status).unwrap_or_default();
    reply
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    reply
}

fn empty(status: u16) -> Reply {
    let mut reply = text(status, "", "");
    reply.headers_mut().remove(CONTENT_TYPE);
    reply
}

fn streaming(
    body: impl hyper::body::Body<Data = Bytes, Error = Infallible> + Send + 'static,
) -> Reply {
    let mut reply = Response::new(body.boxed_unsync());
    reply.headers_mut().insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/vnd.docker.multiplexed-stream"),
    );
    reply
}
