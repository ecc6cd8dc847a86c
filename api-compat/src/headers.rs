//! Headers: which ones end at a proxy, and which ones the engine puts on its answers.
//!
//! Source: RFC 9110 7.6.1; moby 28.5.2 version and experimental middleware and `pingHandler`. The 404 of an unknown path,
//! redirects and the 101 of a hijacked connection carry none of them.

use http::header::{HeaderMap, HeaderName, HeaderValue};

use crate::version::ApiVersion;

/// Names of headers that belong to one connection and are not passed on; those named in `Connection` join them.
pub const HOP_BY_HOP: [&str; 9] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Whether a header belongs to the connection it came on.
pub fn is_hop_by_hop(name: &HeaderName, connection: Option<&HeaderValue>) -> bool {
    let named = |value: &HeaderValue| {
        value.to_str().is_ok_and(|names| {
            names
                .split(',')
                .any(|one| one.trim().eq_ignore_ascii_case(name.as_str()))
        })
    };
    HOP_BY_HOP.contains(&name.as_str()) || connection.is_some_and(named)
}

/// Media type of a stream without frames: a terminal.
pub const RAW_STREAM: &str = "application/vnd.docker.raw-stream";
/// Media type of a stream in frames (see [`crate::stream`]), told from API 1.42 on.
pub const MULTIPLEXED_STREAM: &str = "application/vnd.docker.multiplexed-stream";

/// Who answers, as every routed answer tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The newest version we advertise.
    pub api_version: ApiVersion,
    /// The engine version we answer as, such as `28.5.2`.
    pub engine_version: String,
    /// Whether every engine has its experimental features on.
    pub experimental: bool,
}

impl Identity {
    /// Puts `Api-Version`, `Ostype`, `Server` and `Docker-Experimental` on an answer.
    pub fn put(&self, headers: &mut HeaderMap) {
        put(headers, "api-version", &self.api_version.to_string());
        put(
            headers,
            "docker-experimental",
            if self.experimental { "true" } else { "false" },
        );
        put(headers, "ostype", "linux");
        put(
            headers,
            "server",
            &format!("Docker/{} (linux)", self.engine_version),
        );
    }

    /// Puts what the refusal of a client's version has: the engine refuses it before it gets to experiments.
    pub fn put_on_refused_version(&self, headers: &mut HeaderMap) {
        self.put(headers);
        headers.remove("docker-experimental");
    }

    /// Puts what a ping has beside these. `swarm` is `inactive`, `active/manager`, `locked`, `error`, …
    pub fn put_ping(&self, headers: &mut HeaderMap, swarm: &str) {
        self.put(headers);
        put(headers, "builder-version", "2");
        put(
            headers,
            "cache-control",
            "no-cache, no-store, must-revalidate",
        );
        put(headers, "pragma", "no-cache");
        put(headers, "swarm", swarm);
        put(headers, "content-type", "text/plain; charset=utf-8");
    }
}

/// Values that are no header are left out: they come from our own configuration.
fn put(headers: &mut HeaderMap, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(HeaderName::from_static(name), value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ping_has_all_that_clients_look_for() {
        let identity = Identity {
            api_version: ApiVersion::new(1, 51),
            engine_version: "28.5.2".to_owned(),
            experimental: false,
        };
        let mut headers = HeaderMap::new();
        identity.put_ping(&mut headers, "active/manager");
        for (name, value) in [
            ("Api-Version", "1.51"),
            ("Builder-Version", "2"),
            ("Docker-Experimental", "false"),
            ("Ostype", "linux"),
            ("Server", "Docker/28.5.2 (linux)"),
            ("Swarm", "active/manager"),
        ] {
            assert_eq!(
                headers.get(name).and_then(|value| value.to_str().ok()),
                Some(value),
                "{name}"
            );
        }
    }

    #[test]
    fn what_belongs_to_a_connection_ends_there() {
        let connection = HeaderValue::from_static("Upgrade, X-Mine");
        for (name, expected) in [
            ("upgrade", true),
            ("x-mine", true),
            ("te", true),
            ("x-registry-auth", false),
        ] {
            assert_eq!(
                is_hop_by_hop(&HeaderName::from_static(name), Some(&connection)),
                expected,
                "{name}"
            );
        }
    }
}
