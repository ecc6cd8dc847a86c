//! Simulated engines over HTTP, on sockets and in real time; and their streams, of which a simulation has none.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use flotilla::sim::engine::{Asked, Engine, error, unversioned};
use http::header::{CONNECTION, CONTENT_TYPE, UPGRADE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, UnixListener};

use super::paced::{Meter, Pace, Paced, chunk};
use super::pull::{Pull, Pulls};

type Reply = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// What was asked of all engines, but for pings and event streams.
#[derive(Debug, Default)]
pub(super) struct Served {
    pub(super) inspects: AtomicU64,
    pub(super) others: AtomicU64,
    pub(super) pulls: Arc<Pulls>,
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
        let uri = request.uri().clone();
        let path = unversioned(uri.path());
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        self.count(&parts);
        let get = request.method() == Method::GET;
        let post = request.method() == Method::POST;
        match parts.as_slice() {
            ["containers", id, "logs" | "archive" | "export"] if get => {
                let stream = || streaming(Paced::new(self.manners.stream));
                self.of_container(id).unwrap_or_else(stream)
            }
            ["images", "create"] if post => {
                Response::new(Pull::new(&self.served.pulls).boxed_unsync())
            }
            ["containers", id, "attach"] if post => self
                .of_container(id)
                .unwrap_or_else(|| attach(request, self.manners.stream)),
            ["containers", id, "archive"] if request.method() == Method::PUT => {
                let refusal = self.of_container(id);
                discard(request).await;
                refusal.unwrap_or_else(|| empty(200))
            }
            _ => self.ask(path, request).await,
        }
    }

    async fn ask(&self, path: &str, request: Request<Incoming>) -> Reply {
        let asked = Asked {
            method: request.method().clone(),
            path: path.to_owned(),
            query: request.uri().query().unwrap_or_default().to_owned(),
            body: match request.into_body().collect().await {
                Ok(body) => body.to_bytes(),
                Err(failed) => return error(400, &failed.to_string()).map(BodyExt::boxed_unsync),
            },
        };
        if path == "/containers/create" {
            pause(self.manners.create).await;
        } else if path.ends_with("/start") {
            pause(self.manners.start).await;
        }
        self.engine.answer(&asked).map(BodyExt::boxed_unsync)
    }

    /// The refusal, if there is no such container.
    fn of_container(&self, id: &str) -> Option<Reply> {
        let (status, message) = self.engine.exists(id).err()?;
        Some(error(status, &message).map(BodyExt::boxed_unsync))
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

fn empty(status: u16) -> Reply {
    let mut reply = Response::new(Full::default().boxed_unsync());
    *reply.status_mut() = StatusCode::from_u16(status).unwrap_or_default();
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
