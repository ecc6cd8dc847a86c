//! Errors as the engine writes them: a status, a sentence, and the three shapes in which they reach a client.
//!
//! Source: moby 28.5.2 `httputils.WriteJSON` (no HTML escaping, a newline at the end), `http.Error` for clients below
//! API 1.24, the raw reply of a failed attach, and `streamformatter.FormatError` for a stream that has begun.
//!
//! **Invariant**: every error body is made here, so none can have another shape.

use http::StatusCode;

/// What a client is told when a request fails.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// The HTTP status.
    pub status: StatusCode,
    /// The sentence; the CLI prints it behind `Error response from daemon: `.
    pub message: String,
}

/// `Content-Type` of a JSON error.
pub const JSON_CONTENT_TYPE: &str = "application/json";
/// `Content-Type` of a plain-text error; Go adds `X-Content-Type-Options: nosniff` to it.
pub const PLAIN_CONTENT_TYPE: &str = "text/plain; charset=utf-8";

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident => $status:ident;)*) => {$(
        $(#[$doc])*
        pub fn $name(message: impl Into<String>) -> Self {
            Self { status: StatusCode::$status, message: message.into() }
        }
    )*};
}

impl ApiError {
    kinds! {
        /// 400: the request makes no sense.
        bad_parameter => BAD_REQUEST;
        /// 401: a registry or we ourselves do not know the caller.
        unauthorized => UNAUTHORIZED;
        /// 403: never allowed, whoever asks (a predefined network, a read-only root).
        forbidden => FORBIDDEN;
        /// 404: no such object.
        not_found => NOT_FOUND;
        /// 409: not in this state.
        conflict => CONFLICT;
        /// 413: a body too large to be read whole; the engine never sends it, its bodies have no limit.
        too_large => PAYLOAD_TOO_LARGE;
        /// 500: it broke.
        internal => INTERNAL_SERVER_ERROR;
        /// 501: not offered by a cluster.
        not_implemented => NOT_IMPLEMENTED;
        /// 503: try again later.
        unavailable => SERVICE_UNAVAILABLE;
    }

    /// The answer to a path or method without a route: always 404, never 405.
    pub fn page_not_found() -> Self {
        Self::not_found("page not found")
    }

    /// The body `{"message":"…"}` and a newline.
    pub fn json_body(&self) -> Vec<u8> {
        format!("{{\"message\":{}}}\n", quote(&self.message, Html::Verbatim)).into_bytes()
    }

    /// The body for clients below API 1.24: the sentence and a newline.
    pub fn plain_body(&self) -> Vec<u8> {
        format!("{}\n", self.message).into_bytes()
    }

    /// The whole reply of a failed attach or exec start, written to the connection after it was taken over: no length,
    /// the connection ends it. `content_type` is that of the stream it would have been.
    pub fn hijacked_reply(&self, content_type: &str) -> Vec<u8> {
        let reason = self.status.canonical_reason().unwrap_or_default();
        let status = self.status.as_u16();
        format!(
            "HTTP/1.1 {status} {reason}\r\nContent-Type: {content_type}\r\n\r\n{}\r\n",
            self.message
        )
        .into_bytes()
    }

    /// The line that ends a stream of JSON progress messages after its 200 has gone out.
    pub fn stream_error_line(&self) -> Vec<u8> {
        let message = quote(&self.message, Html::Escaped);
        format!("{{\"errorDetail\":{{\"message\":{message}}},\"error\":{message}}}\r\n")
            .into_bytes()
    }
}

/// Whether `<`, `>` and `&` are written as escapes: `json.Marshal` does, `WriteJSON` does not.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Html {
    Escaped,
    Verbatim,
}

/// A JSON string as Go's encoder writes it: serde's escapes, and the two line separators JavaScript could not bear.
fn quote(text: &str, html: Html) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    let mut out = String::with_capacity(quoted.len());
    for c in quoted.chars() {
        match c {
            '\u{2028}' => out.push_str("\\u2028"),
            '\u{2029}' => out.push_str("\\u2029"),
            '<' if html == Html::Escaped => out.push_str("\\u003c"),
            '>' if html == Html::Escaped => out.push_str("\\u003e"),
            '&' if html == Html::Escaped => out.push_str("\\u0026"),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(written: Vec<u8>, expected: &str) {
        assert_eq!(
            String::from_utf8(written).expect("errors are text"),
            expected
        );
    }

    #[test]
    fn an_error_has_one_sentence_and_four_shapes() {
        let error = ApiError::not_found("No such container: \"zzz\" <&>\n\u{1}\u{2028}");
        check(
            error.json_body(),
            "{\"message\":\"No such container: \\\"zzz\\\" <&>\\n\\u0001\\u2028\"}\n",
        );
        let error = ApiError::not_found("No such container: <zzz>");
        check(error.plain_body(), "No such container: <zzz>\n");
        check(
            error.hijacked_reply("application/vnd.docker.raw-stream"),
            "HTTP/1.1 404 Not Found\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\n\
             No such container: <zzz>\r\n",
        );
        check(
            error.stream_error_line(),
            "{\"errorDetail\":{\"message\":\"No such container: \\u003czzz\\u003e\"},\
             \"error\":\"No such container: \\u003czzz\\u003e\"}\r\n",
        );
        check(
            ApiError::page_not_found().json_body(),
            "{\"message\":\"page not found\"}\n",
        );
    }
}
