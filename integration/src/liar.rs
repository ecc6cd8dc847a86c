//! An engine that lies: a listener in front of a real one that changes what it says, until told to be honest.
//!
//! What is changed stays JSON for the most part: numbers out of any range, texts that are none, members that are missing or
//! of another kind, lists that repeat, an answer that is cut short. Streams that carry a program's bytes pass as they are.
//!
//! **Invariant**: what is asked of the engine is never changed: only answers are.

mod lies;

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result};
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING};
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::{Mutex, watch};

type Body = UnsyncBoxBody<Bytes, hyper::Error>;

/// A listener in front of one engine; it ends with its owner.
#[derive(Debug)]
pub struct Liar {
    endpoint: String,
    /// False once it has become honest; the connections of before end then.
    lying: watch::Sender<bool>,
    _runtime: Runtime,
}

/// What all connections share.
#[derive(Debug)]
struct Mouth {
    engine: String,
    lying: watch::Receiver<bool>,
    seed: u64,
    answers: AtomicU64,
}

impl Liar {
    /// Listens in front of `tcp://address:port`. The n-th answer is changed in the same way whenever the seed is the same.
    pub fn before(engine: &str, seed: u64) -> Result<Self> {
        let engine = engine
            .strip_prefix("tcp://")
            .with_context(|| format!("`{engine}` is not tcp://"))?
            .to_owned();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("liar")
            .enable_all()
            .build()
            .context("no runtime")?;
        let listener = runtime
            .block_on(TcpListener::bind("127.0.0.1:0"))
            .context("no port to lie at")?;
        let endpoint = format!("tcp://{}", listener.local_addr()?);
        let (lying, seen) = watch::channel(true);
        let mouth = Arc::new(Mouth {
            engine,
            lying: seen,
            seed,
            answers: AtomicU64::new(0),
        });
        runtime.spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(serve(client, Arc::clone(&mouth)));
            }
        });
        Ok(Self {
            endpoint,
            lying,
            _runtime: runtime,
        })
    }

    /// Where it listens: `tcp://127.0.0.1:port`.
    #[must_use]
    pub fn endpoint(&self) -> String {
        self.endpoint.clone()
    }

    /// From now on each answer is the engine's own; streams that carried lies end.
    pub fn be_honest(&self) {
        self.lying.send_replace(false);
    }
}

/// One connection to the engine for each of a client.
async fn serve(client: TcpStream, mouth: Arc<Mouth>) {
    let Ok(engine) = TcpStream::connect(&mouth.engine).await else {
        return;
    };
    // Without this each answer waits for an acknowledgement; one that cannot be set is slower, no more.
    drop(client.set_nodelay(true).and(engine.set_nodelay(true)));
    let Ok((ask, connection)) = handshake::<_, Incoming>(TokioIo::new(engine)).await else {
        return;
    };
    tokio::spawn(connection.with_upgrades());
    let (ask, lying) = (Arc::new(Mutex::new(ask)), mouth.lying.clone());
    let service = service_fn(move |request| {
        let (ask, mouth) = (Arc::clone(&ask), Arc::clone(&mouth));
        async move { Ok::<_, Infallible>(mouth.answer(&ask, request).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(client), service)
        .with_upgrades();
    tokio::select! {
        // What breaks off here is noticed at both ends.
        _ = connection => {}
        () = honesty(lying) => {}
    }
}

/// Until the liar becomes honest; for ever on connections that never were anything else.
async fn honesty(mut lying: watch::Receiver<bool>) {
    let was_lying = *lying.borrow_and_update();
    if !was_lying || lying.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

impl Mouth {
    async fn answer(
        self: Arc<Self>,
        ask: &Mutex<SendRequest<Incoming>>,
        mut request: Request<Incoming>,
    ) -> Response<Body> {
        let method = request.method().clone();
        let path = request.uri().path().to_owned();
        let upgraded = hyper::upgrade::on(&mut request);
        let answer = match ask.lock().await.send_request(request).await {
            Ok(answer) => answer,
            Err(failed) => return bad_gateway(&failed),
        };
        if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            return passed_on(answer, upgraded);
        }
        let is_json = answer
            .headers()
            .get(CONTENT_TYPE)
            .is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
        if method == Method::HEAD || !is_json || !*self.lying.borrow() {
            return answer.map(|body| body.boxed_unsync());
        }
        if path.ends_with("/events") || path.ends_with("/wait") {
            return answer.map(|body| {
                let changed = move |frame: hyper::body::Frame<Bytes>| {
                    frame.map_data(|data| self.changed(&data))
                };
                body.map_frame(changed).boxed_unsync()
            });
        }
        if path.ends_with("/stats") || path.ends_with("/images/create") || path.ends_with("/build")
        {
            return answer.map(|body| body.boxed_unsync());
        }
        let (mut head, body) = answer.into_parts();
        head.headers.remove(CONTENT_LENGTH);
        head.headers.remove(TRANSFER_ENCODING);
        match body.collect().await {
            Ok(body) => Response::from_parts(head, whole(self.changed(&body.to_bytes()))),
            Err(failed) => bad_gateway(&failed),
        }
    }

    /// The same answer or another.
    fn changed(&self, answer: &Bytes) -> Bytes {
        let number = self.answers.fetch_add(1, Ordering::Relaxed);
        let mut random =
            StdRng::seed_from_u64(self.seed.wrapping_mul(1_000_003).wrapping_add(number));
        lies::changed(&mut random, answer).map_or_else(|| answer.clone(), Into::into)
    }
}

/// A connection that speaks HTTP no more passes both ways as it is.
fn passed_on(mut answer: Response<Incoming>, client: hyper::upgrade::OnUpgrade) -> Response<Body> {
    let engine = hyper::upgrade::on(&mut answer);
    tokio::spawn(async move {
        if let (Ok(client), Ok(engine)) = (client.await, engine.await) {
            let (mut client, mut engine) = (TokioIo::new(client), TokioIo::new(engine));
            // Its end is for the two to judge.
            drop(tokio::io::copy_bidirectional(&mut client, &mut engine).await);
        }
    });
    answer.map(|_| whole(Bytes::new()))
}

fn whole(body: Bytes) -> Body {
    Full::new(body)
        .map_err(|never: Infallible| match never {})
        .boxed_unsync()
}

fn bad_gateway(failed: &hyper::Error) -> Response<Body> {
    let mut answer = Response::new(whole(failed.to_string().into()));
    *answer.status_mut() = StatusCode::BAD_GATEWAY;
    answer
}
