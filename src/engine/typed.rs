//! The typed client: bollard over our own transport, for what only we read. It keeps our pool and puts
//! the version prefix on, which bollard 0.21 leaves out.
//!
//! **Invariant**: nothing that goes back to a client passes through here; unknown fields would be lost.

use std::sync::Arc;

use api_compat::version::ApiVersion;
use bollard::{BollardRequest, Docker};
use http_body_util::BodyExt as _;

use super::client::Client;
use super::error::Error;

/// A reply's head must be here by then, in seconds.
const REPLY_TIMEOUT_SECONDS: u64 = 30;

/// A typed client that shares `client`'s connections.
pub(super) fn typed(client: &Arc<Client>) -> Result<Docker, Error> {
    let verbatim = Arc::clone(client);
    let transport = move |request: BollardRequest| {
        let client = Arc::clone(&verbatim);
        async move {
            let target = request
                .uri()
                .path_and_query()
                .map_or_else(|| "/".to_owned(), |target| target.as_str().to_owned());
            let request = request.map(|body| body.map_err(Into::into).boxed_unsync());
            let sent = match target.as_str() {
                // Which versions it accepts is what an engine must be asked in no version.
                "/version" => client.send_bare(&target, request).await,
                _ => client.send(ApiVersion::MAX, &target, request).await,
            };
            sent.map_err(|error| bollard::errors::Error::IOError {
                err: match error {
                    Error::Unreachable { source, .. } => source,
                    other => std::io::Error::other(other.to_string()),
                },
            })
        }
    };
    Docker::connect_with_custom_transport(
        transport,
        Some("http://engine"),
        REPLY_TIMEOUT_SECONDS,
        bollard::API_DEFAULT_VERSION,
    )
    .map_err(|error| client.garbled(error))
}

/// bollard's error as ours.
pub(super) fn from_bollard(client: &Client, error: bollard::errors::Error) -> Error {
    match error {
        bollard::errors::Error::DockerResponseServerError {
            status_code,
            message,
        } => Error::Refused {
            node: client.node().clone(),
            status: http::StatusCode::from_u16(status_code)
                .unwrap_or(http::StatusCode::BAD_GATEWAY),
            message,
        },
        bollard::errors::Error::IOError { err } => Error::Unreachable {
            node: client.node().clone(),
            source: err,
        },
        other => client.garbled(other),
    }
}
