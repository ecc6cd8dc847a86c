//! Attach and exec for clients that take the connection over without asking: a POST without `Upgrade`
//! that the engine answers with a 200 and raw bytes.

use api_compat::error::{ApiError, JSON_CONTENT_TYPE};
use api_compat::headers::{Identity, RAW_STREAM};
use api_compat::route::{self, Lookup, Match, Operation};
use api_compat::version::ApiVersion;
use bytes::Bytes;
use http::HeaderMap;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::Proxy;
use super::exchange::Peer;
use super::forward::with_query;
use super::reply::from_engine;
use super::rewound::Rewound;
use super::splice;

/// The body of an exec start may not be longer: it holds three switches.
const BODY_MAX_BYTES: usize = 64 << 10;

/// A request that will take its connection over.
#[derive(Debug)]
pub(crate) struct Hijack {
    route: Match,
    version: ApiVersion,
    query: String,
    /// Header lines to pass on, as they came.
    headers: Vec<(String, Vec<u8>)>,
    head_bytes: usize,
    body_bytes: usize,
}

/// What became of the connection.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It is over.
    Done,
    /// An ordinary request after all; nothing was read from the connection.
    NotOurs,
}

/// Recognises such a request by its head. Anything unusual is left to the HTTP server.
pub(crate) fn recognise(first: &[u8]) -> Option<Hijack> {
    let mut lines = [httparse::EMPTY_HEADER; 128];
    let mut head = httparse::Request::new(&mut lines);
    let httparse::Status::Complete(head_bytes) = head.parse(first).ok()? else {
        return None;
    };
    if head.method? != "POST" {
        return None;
    }
    let (path, query) = head.path?.split_once('?').unwrap_or((head.path?, ""));
    let Lookup::Found(route) = route::lookup(&http::Method::POST, path, Some(query)) else {
        return None;
    };
    if !matches!(
        route.operation,
        Operation::ContainerAttach | Operation::ExecStart
    ) {
        return None;
    }
    let version = ApiVersion::negotiate(route.version.as_deref(), ApiVersion::MAX).ok()?;
    let mut body_bytes = 0;
    let mut headers = Vec::new();
    for line in head.headers.iter() {
        match line.name.to_ascii_lowercase().as_str() {
            "upgrade" | "transfer-encoding" | "expect" => return None,
            "connection" | "host" => {}
            "content-length" => {
                body_bytes = std::str::from_utf8(line.value).ok()?.trim().parse().ok()?;
                headers.push((line.name.to_owned(), line.value.to_vec()));
            }
            _ => headers.push((line.name.to_owned(), line.value.to_vec())),
        }
    }
    (body_bytes <= BODY_MAX_BYTES).then(|| Hijack {
        route,
        version,
        query: query.to_owned(),
        headers,
        head_bytes,
        body_bytes,
    })
}

/// Serves the request to its end on `connection`, whose first bytes are the request.
pub(crate) async fn take_over(
    proxy: &Proxy,
    peer: &Peer,
    hijack: Hijack,
    connection: &mut Rewound,
) -> Taken {
    let Ok(body) = read_body(&hijack, connection).await else {
        return Taken::Done;
    };
    if hijack.route.operation == Operation::ExecStart && is_detached(&body) {
        return Taken::NotOurs;
    }
    tracing::debug!(
        operation = hijack.route.operation.name(),
        peer = peer.identity,
        "raw hijack"
    );
    let found = match hijack.route.operation {
        Operation::ExecStart => proxy
            .exec_host(&hijack.route.name)
            .await
            .map(|host| (host, hijack.route.name.clone())),
        _ => proxy
            .container(&hijack.route.name)
            .map(|(host, container)| (host, container.id.to_string())),
    };
    let (host, id) = match found {
        Ok(found) => found,
        Err(error) => return refuse(proxy, connection, &hijack, &error).await,
    };
    let mut engine = match host.dial().await {
        Ok(engine) => engine,
        Err(error) => return refuse(proxy, connection, &hijack, &from_engine(error)).await,
    };
    let target = with_query(hijack.route.operation.target(&[&id]), &hijack.query);
    let mut request = format!(
        "POST {} HTTP/1.1\r\nHost: docker\r\n",
        host.client.versioned(hijack.version, &target)
    )
    .into_bytes();
    for (name, value) in &hijack.headers {
        request.extend_from_slice(name.as_bytes());
        request.extend_from_slice(b": ");
        request.extend_from_slice(value);
        request.extend_from_slice(b"\r\n");
    }
    // An answer that is not a stream ends the connection: its next request may concern another node.
    request.extend_from_slice(b"Connection: close\r\n\r\n");
    request.extend_from_slice(&body);
    connection.first = connection
        .first
        .slice(hijack.head_bytes + hijack.body_bytes..);
    if engine.write_all(&request).await.is_ok() {
        splice::join(&host, connection, &mut engine).await;
    }
    Taken::Done
}

/// Makes sure that the whole body is among the bytes put back, and returns it.
async fn read_body(hijack: &Hijack, connection: &mut Rewound) -> std::io::Result<Bytes> {
    let end = hijack.head_bytes + hijack.body_bytes;
    if connection.first.len() < end {
        let mut all = vec![0; end];
        connection.read_exact(&mut all).await?;
        connection.first = all.into();
    }
    Ok(connection.first.slice(hijack.head_bytes..end))
}

fn is_detached(body: &[u8]) -> bool {
    #[derive(serde::Deserialize)]
    struct Start {
        #[serde(rename = "Detach", default)]
        detach: bool,
    }
    // What cannot be read is refused by the engine, as an ordinary reply.
    serde_json::from_slice::<Start>(body).map_or(true, |start| start.detach)
}

async fn refuse(
    proxy: &Proxy,
    connection: &mut Rewound,
    hijack: &Hijack,
    error: &ApiError,
) -> Taken {
    let reply = match hijack.route.operation {
        // The engine has taken the connection over before it looks for the container.
        Operation::ContainerAttach => error.hijacked_reply(RAW_STREAM),
        _ => as_a_reply(error, &proxy.identity()),
    };
    // A client that has left needs no answer.
    let _ = connection.write_all(&reply).await;
    let _ = connection.shutdown().await;
    Taken::Done
}

fn as_a_reply(error: &ApiError, identity: &Identity) -> Vec<u8> {
    let body = error.json_body();
    let mut reply = format!(
        "HTTP/1.1 {} {}\r\nContent-Type: {JSON_CONTENT_TYPE}\r\nContent-Length: {}\r\nConnection: close\r\n",
        error.status.as_u16(),
        error.status.canonical_reason().unwrap_or_default(),
        body.len()
    )
    .into_bytes();
    let mut headers = HeaderMap::new();
    identity.put(&mut headers);
    for (name, value) in &headers {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            reply.extend_from_slice(part);
        }
    }
    reply.extend_from_slice(b"\r\n");
    reply.extend_from_slice(&body);
    reply
}
