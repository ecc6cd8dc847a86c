//! One request under way: what was asked, by whom, in which version.

use api_compat::create::check_content_type;
use api_compat::error::ApiError;
use api_compat::query::Query;
use api_compat::route::Match;
use api_compat::version::ApiVersion;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Request};

use super::looked_up::LookedUp;
use crate::engine::{Body, NotWhole, empty, full, read_whole};
use crate::model::Caller;

/// Who is at the other end of a connection.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    /// Who they are to us.
    pub(crate) caller: Caller,
    /// What tells one client from another when builds are kept on one node.
    pub(crate) identity: String,
    /// What it has looked for.
    pub(crate) looked_up: LookedUp,
}

/// One request under way.
#[derive(Debug)]
pub(crate) struct Exchange {
    /// The request; its body has not been read.
    pub(crate) request: Request<Body>,
    /// What is asked.
    pub(crate) route: Match,
    /// In which version to answer.
    pub(crate) version: ApiVersion,
    /// Who asks.
    pub(crate) peer: Peer,
    /// A body larger than this is not read whole.
    pub(crate) max_body: usize,
}

impl Exchange {
    /// The object named in the path.
    pub(crate) fn name(&self) -> &str {
        &self.route.name
    }

    /// The query, parsed as the engine parses it; malformed pairs are a 400.
    pub(crate) fn query(&self) -> Result<Query, ApiError> {
        Query::parse(self.raw_query())
    }

    /// The query as it stands in the request.
    pub(crate) fn raw_query(&self) -> &str {
        self.request.uri().query().unwrap_or_default()
    }

    /// The request's headers.
    pub(crate) fn headers(&self) -> &HeaderMap {
        self.request.headers()
    }

    /// Takes the body and reads it whole.
    pub(crate) async fn read_body(&mut self) -> Result<Bytes, ApiError> {
        read_body(self.request.body_mut(), self.max_body).await
    }

    /// The body of a call that takes JSON, as [`Self::read_body`]; refuses another content type.
    pub(crate) async fn read_json(&mut self) -> Result<Bytes, ApiError> {
        let body = self.read_body().await?;
        let content_type = self.headers().get(CONTENT_TYPE);
        let content_type = content_type.and_then(|value| value.to_str().ok());
        check_content_type(content_type, !body.is_empty())?;
        Ok(body)
    }

    /// The same request, to be sent once more.
    pub(crate) fn again(&self, body: Bytes) -> Self {
        let mut request = Request::new(full(body));
        *request.method_mut() = self.request.method().clone();
        *request.headers_mut() = self.request.headers().clone();
        Self {
            request,
            route: self.route.clone(),
            version: self.version,
            peer: self.peer.clone(),
            max_body: self.max_body,
        }
    }
}

/// Takes a body and reads it whole, if it has no more than `max` bytes.
pub(crate) async fn read_body(body: &mut Body, max: usize) -> Result<Bytes, ApiError> {
    let body = std::mem::replace(body, empty());
    read_whole(body, max).await.map_err(|error| match error {
        NotWhole::TooLong => ApiError::too_large(format!(
            "the request body is larger than {max} bytes, the most this manager reads whole (--max-body)"
        )),
        NotWhole::Broken(error) => ApiError::bad_parameter(format!("the request body broke off: {error}")),
    })
}
