//! Replies as an engine writes them: the headers that each carries, the shapes of errors, JSON bodies.
//!
//! This is the one place that turns our errors into a status and a message.

use api_compat::error::{ApiError, JSON_CONTENT_TYPE, PLAIN_CONTENT_TYPE};
use api_compat::headers::{RAW_STREAM, is_hop_by_hop};
use api_compat::image_ref::Named;
use api_compat::version::Unsupported;
use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};

use crate::engine::{self, Body, NotWhole, empty, full, read_whole};
use crate::manager;
use crate::model::{ContainerId, NameKind};
use crate::state::Refusal;

/// An engine's error is a sentence; more than this is none.
const ERROR_MAX_BYTES: usize = 1 << 20;

/// A reply on its way to a client.
pub(crate) type Reply = Response<Body>;

/// What a handler returns.
pub(crate) type Outcome = Result<Reply, ApiError>;

/// Names the nodes whose part is missing from a merged reply.
pub(crate) const PARTIAL: HeaderName = HeaderName::from_static("x-cluster-partial");

/// A reply with a JSON body, as `httputils.WriteJSON` does: a newline at the end.
pub(crate) fn json(status: StatusCode, body: impl Into<Vec<u8>>) -> Reply {
    let mut body = body.into();
    if body.last() != Some(&b'\n') {
        body.push(b'\n');
    }
    with_type(status, JSON_CONTENT_TYPE, body)
}

/// A 200 with this value as JSON.
pub(crate) fn ok_json(value: &impl serde::Serialize) -> Outcome {
    let body = serde_json::to_vec(value).map_err(|error| ApiError::internal(error.to_string()))?;
    Ok(json(StatusCode::OK, body))
}

/// An engine's reply that was read whole, passed on as it is.
pub(crate) fn passed_on(answer: engine::EngineReply) -> Reply {
    let mut reply = Response::new(full(answer.body));
    *reply.status_mut() = answer.status;
    *reply.headers_mut() = answer.headers;
    strip_hop_by_hop(reply.headers_mut());
    reply
}

/// Reads the error out of an engine's refusal that is still under way.
pub(crate) async fn read_error(reply: Reply) -> Result<ApiError, ApiError> {
    let (parts, body) = reply.into_parts();
    let body = read_whole(body, ERROR_MAX_BYTES)
        .await
        .map_err(|error| match error {
            NotWhole::TooLong => {
                ApiError::internal("the engine's error is longer than any sentence")
            }
            NotWhole::Broken(error) => {
                ApiError::internal(format!("the engine's error broke off: {error}"))
            }
        })?;
    let answer = engine::EngineReply {
        status: parts.status,
        headers: parts.headers,
        body,
    };
    Ok(ApiError {
        status: answer.status,
        message: answer.message(),
    })
}

/// A manager's failure as a client sees it.
pub(crate) fn from_manager(error: manager::Error) -> ApiError {
    match error {
        manager::Error::NameInUse { name, holder } => {
            let holder = holder.map_or_else(
                || "that is being created".to_owned(),
                |id| format!("\"{id}\""),
            );
            ApiError::conflict(format!(
                "Conflict. The container name \"/{name}\" is already in use by container {holder}. You have to remove (or \
                 rename) that container to be able to reuse that name."
            ))
        }
        manager::Error::NetworkInUse { network, holders } => network_in_use(&network, &holders),
        manager::Error::NoImage { image } => no_such_image(&image),
        manager::Error::NoSuchPath { .. } | manager::Error::Ambiguous(_) => {
            ApiError::bad_parameter(error.to_string())
        }
        manager::Error::NetworkNotMade { status, .. } => ApiError {
            status,
            message: error.to_string(),
        },
        manager::Error::LostMakingNetwork { .. }
        | manager::Error::NetworkNotGone { .. }
        | manager::Error::NotBrought { .. } => ApiError::unavailable(error.to_string()),
        manager::Error::Refused(Refusal::NameTaken {
            kind: NameKind::Network,
            name,
            ..
        }) => ApiError::conflict(format!("network with name {name} already exists")),
        manager::Error::Refused(refusal @ Refusal::NetworkInUse { .. }) => ApiError {
            status: StatusCode::FORBIDDEN,
            message: format!("error while removing network: {refusal}"),
        },
        manager::Error::NoNode(refusal) => ApiError::conflict(refusal.to_string()),
        manager::Error::NoRoomToGrow { .. } => ApiError::conflict(error.to_string()),
        manager::Error::Refused(refusal) => ApiError::conflict(refusal.to_string()),
        manager::Error::Engine(error) => from_engine(error),
        manager::Error::Impossible(why) => ApiError::conflict(why),
        manager::Error::Commit(error) => {
            ApiError::unavailable(format!("the change was not committed: {error}"))
        }
        manager::Error::Outcome(error) => ApiError::internal(error.to_string()),
    }
}

fn network_in_use(network: &str, holders: &[(String, ContainerId)]) -> ApiError {
    let each: Vec<_> = holders
        .iter()
        .map(|(name, id)| format!("name:\"{name}\" id:\"{}\"", &id.to_string()[..12]))
        .collect();
    let each = each.join(", ");
    ApiError {
        status: StatusCode::FORBIDDEN,
        message: format!(
            "error while removing network: network {network} has active endpoints ({each})"
        ),
    }
}

/// Takes out what concerns one connection only (RFC 9110 7.6.1).
pub(crate) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let connection: Vec<_> = headers.get_all(CONNECTION).iter().cloned().collect();
    let ours: Vec<HeaderName> = headers
        .keys()
        .filter(|name| {
            is_hop_by_hop(name, None) || connection.iter().any(|c| is_hop_by_hop(name, Some(c)))
        })
        .cloned()
        .collect();
    for name in ours {
        headers.remove(name);
    }
}

/// The error where a stream was asked for: an engine writes it as plain text in the stream's type.
pub(crate) fn in_place_of_a_stream(error: &ApiError) -> Reply {
    with_type(
        error.status,
        RAW_STREAM,
        format!("{}\r\n", error.message).into_bytes(),
    )
}

/// What an engine says of an image that it has not got.
fn no_such_image(reference: &str) -> ApiError {
    match Named::parse(reference) {
        Ok(Named::Id(id)) => ApiError::not_found(format!("No such image: {id}")),
        Ok(Named::Reference(name)) => {
            ApiError::not_found(format!("No such image: {}", name.or_latest().familiar()))
        }
        Err(invalid) => ApiError::bad_parameter(invalid.to_string()),
    }
}

/// A reply without a body.
pub(crate) fn status(status: StatusCode) -> Reply {
    let mut reply = Response::new(empty());
    *reply.status_mut() = status;
    reply
}

/// The error in Docker's shape.
pub(crate) fn error(error: &ApiError) -> Reply {
    let mut reply = json(error.status, error.json_body());
    if error.status == StatusCode::SERVICE_UNAVAILABLE {
        reply
            .headers_mut()
            .insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    reply
}

/// What a client of a version outside the window is told.
pub(crate) fn unsupported(unsupported: &Unsupported) -> Reply {
    if unsupported.is_plain_text() {
        let error = unsupported.error();
        let mut reply = with_type(error.status, PLAIN_CONTENT_TYPE, error.plain_body());
        reply.headers_mut().insert(
            "x-content-type-options",
            HeaderValue::from_static("nosniff"),
        );
        return reply;
    }
    error(&unsupported.error())
}

fn with_type(status: StatusCode, content_type: &'static str, body: Vec<u8>) -> Reply {
    let length = body.len();
    let mut reply = Response::new(full(body));
    *reply.status_mut() = status;
    reply
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    reply
        .headers_mut()
        .insert(CONTENT_LENGTH, HeaderValue::from(length));
    reply
}

/// An engine's failure as a client sees it. What the engine itself said is passed on word for word.
pub(crate) fn from_engine(error: engine::Error) -> ApiError {
    match error {
        engine::Error::Refused {
            node,
            status,
            message,
        } if status.is_server_error() => ApiError {
            status,
            message: format!("[node {node}] {message}"),
        },
        engine::Error::Refused {
            status, message, ..
        } => ApiError { status, message },
        engine::Error::Unreachable { .. } | engine::Error::Down { .. } => {
            ApiError::unavailable(error.to_string())
        }
        engine::Error::Garbled { .. } | engine::Error::Unfit { .. } => {
            ApiError::internal(error.to_string())
        }
    }
}
