//! Where an engine listens, as the user wrote it.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// The address of one engine.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Endpoint {
    /// `unix:///path/to/socket`: an engine on the manager's own machine.
    Unix(PathBuf),
    /// `tcp://host:port`, in the clear: loopback, or a network that is trusted.
    Tcp {
        /// A name or an address.
        host: String,
        /// The port.
        port: u16,
    },
}

/// An endpoint that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not an engine's address: {why}")]
pub struct BadEndpoint {
    text: String,
    why: &'static str,
}

impl Endpoint {
    /// The address under which the ports that this engine publishes can be reached, if the endpoint
    /// tells: a socket on this machine does not.
    pub fn published_address(&self) -> Option<&str> {
        match self {
            Self::Unix(_) => None,
            Self::Tcp { host, .. } => Some(host),
        }
    }
}

impl FromStr for Endpoint {
    type Err = BadEndpoint;

    fn from_str(text: &str) -> Result<Self, BadEndpoint> {
        let bad = |why| BadEndpoint {
            text: text.to_owned(),
            why,
        };
        if let Some(path) = text.strip_prefix("unix://") {
            if !path.starts_with('/') {
                return Err(bad(
                    "a unix socket needs an absolute path, as in unix:///var/run/docker.sock",
                ));
            }
            return Ok(Self::Unix(path.into()));
        }
        if let Some(rest) = text.strip_prefix("tcp://") {
            let rest = rest.strip_suffix('/').unwrap_or(rest);
            let (host, port) = rest
                .rsplit_once(':')
                .ok_or_else(|| bad("it needs a port, as in tcp://10.0.0.5:2375"))?;
            let port = port
                .parse()
                .map_err(|_| bad("the port must be a number from 1 to 65535"))?;
            let host = host
                .strip_prefix('[')
                .and_then(|h| h.strip_suffix(']'))
                .unwrap_or(host);
            if host.is_empty() || port == 0 || host.contains('/') {
                return Err(bad("it must be tcp://HOST:PORT"));
            }
            return Ok(Self::Tcp {
                host: host.to_owned(),
                port,
            });
        }
        Err(bad("it must begin with unix:// or tcp://"))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp { host, port } if host.contains(':') => write!(f, "tcp://[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "tcp://{host}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_reads_back_as_it_was_written() {
        for text in [
            "unix:///var/run/docker.sock",
            "tcp://10.0.0.5:2375",
            "tcp://[fd00::1]:2375",
            "tcp://host7:1",
        ] {
            assert_eq!(text.parse::<Endpoint>().expect(text).to_string(), text);
        }
    }

    #[test]
    fn a_bad_endpoint_says_what_is_wrong() {
        for (text, part) in [
            ("unix://docker.sock", "absolute path"),
            ("tcp://10.0.0.5", "needs a port"),
            ("tcp://10.0.0.5:x", "must be a number"),
            ("tcp://:2375", "tcp://HOST:PORT"),
            ("http://a:1", "unix:// or tcp://"),
        ] {
            let error = text.parse::<Endpoint>().expect_err(text).to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
