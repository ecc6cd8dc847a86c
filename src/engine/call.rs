//! A call to an engine as a value: what is asked and what came back, with no connection in it. Whoever
//! decides makes calls; only the shell performs them, so a simulated engine can stand in its place.

use api_compat::version::ApiVersion;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode};

/// One request whose body and reply fit in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineCall {
    /// The HTTP method.
    pub method: Method,
    /// Path and query without the version prefix: `/containers/create?name=web`.
    pub target: String,
    /// A JSON body, or none.
    pub body: Option<Bytes>,
    /// The type of the body, where it is not JSON or the client's own word is passed on.
    pub content_type: Option<HeaderValue>,
    /// The engine is called at the version nearest to this.
    pub version: ApiVersion,
}

impl EngineCall {
    /// `GET target`.
    pub fn get(target: impl Into<String>) -> Self {
        Self {
            method: Method::GET,
            target: target.into(),
            body: None,
            version: ApiVersion::MAX,
            content_type: None,
        }
    }

    /// `POST target`, with a JSON body if there is one.
    pub fn post(target: impl Into<String>, body: Option<Bytes>) -> Self {
        Self {
            method: Method::POST,
            target: target.into(),
            body,
            version: ApiVersion::MAX,
            content_type: None,
        }
    }

    /// The same call at another version.
    #[must_use]
    pub fn at(self, version: ApiVersion) -> Self {
        Self { version, ..self }
    }

    /// The same call with the client's own `Content-Type`.
    #[must_use]
    pub fn of_type(self, content_type: Option<HeaderValue>) -> Self {
        Self {
            content_type,
            ..self
        }
    }

    /// `DELETE target`.
    pub fn delete(target: impl Into<String>) -> Self {
        Self {
            method: Method::DELETE,
            target: target.into(),
            body: None,
            version: ApiVersion::MAX,
            content_type: None,
        }
    }
}

/// What the engine said, whole.
#[derive(Debug, Clone)]
pub struct EngineReply {
    /// Any status: an engine's refusal is a reply too.
    pub status: StatusCode,
    /// The engine's headers.
    pub headers: HeaderMap,
    /// The engine's bytes.
    pub body: Bytes,
}

impl EngineReply {
    /// The `message` of an error reply, or its text when it is not in Docker's shape.
    pub fn message(&self) -> String {
        #[derive(serde::Deserialize)]
        struct Message {
            message: String,
        }
        serde_json::from_slice::<Message>(&self.body)
            .map(|m| m.message)
            .unwrap_or_else(|_| String::from_utf8_lossy(&self.body).trim().to_owned())
    }
}
