//! Where a manager listens for clients: the socket of its user by default, and in the clear on this machine alone.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use super::settings::{Sources, Surroundings};
use super::{Error, directory};

/// Where a manager listens for clients.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Listen {
    /// A unix socket at this path.
    Unix(PathBuf),
    /// TCP, in the clear: a loopback address.
    Tcp(SocketAddr),
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(address) => write!(f, "tcp://{address}"),
        }
    }
}

pub(super) fn listeners(
    sources: &Sources,
    surroundings: &Surroundings,
) -> Result<Vec<Listen>, Error> {
    let (texts, origin) = sources.many("listen", |from| &from.listen);
    let mut listeners = Vec::new();
    for text in texts {
        let problem = match listener(text) {
            Ok(listener) if listeners.contains(&listener) => {
                format!("{listener} is given twice")
            }
            Ok(listener) => {
                listeners.push(listener);
                continue;
            }
            Err(problem) => problem,
        };
        return Err(Error::Setting { origin, problem });
    }
    if listeners.is_empty() {
        listeners.push(Listen::Unix(default_socket(surroundings)?));
    }
    Ok(listeners)
}

/// The socket that a manager listens on if it is not told where.
pub fn default_socket(surroundings: &Surroundings) -> Result<PathBuf, Error> {
    if surroundings.root {
        return Ok("/run/flotilla.sock".into());
    }
    directory(surroundings, "XDG_RUNTIME_DIR")
        .map(|dir| dir.join("flotilla.sock"))
        .ok_or(Error::Missing(
            "XDG_RUNTIME_DIR does not say where to make a socket: give one with \
             --listen unix:///PATH",
        ))
}

fn listener(text: &str) -> Result<Listen, String> {
    if let Some(path) = text.strip_prefix("unix://") {
        if path.starts_with('/') && !path.ends_with('/') {
            return Ok(Listen::Unix(path.into()));
        }
        return Err(format!(
            "{text} is no path of a socket: it must be absolute, as in unix:///run/flotilla.sock"
        ));
    }
    let Some(address) = text.strip_prefix("tcp://") else {
        return Err(format!("{text} must begin with unix:// or tcp://"));
    };
    let address = match address.strip_prefix("localhost:") {
        Some(port) => format!("{}:{port}", Ipv4Addr::LOCALHOST),
        None => address.to_owned(),
    };
    let address: SocketAddr = address.parse().map_err(|_| {
        format!("{text} must be an IP address and a port, as in tcp://127.0.0.1:2375")
    })?;
    if address.ip().is_loopback() {
        return Ok(Listen::Tcp(address));
    }
    let port = address.port();
    Err(format!(
        "{text} can be reached from other machines, and whoever reaches it is root on every node; \
         TLS, which could tell friend from foe, is not there yet: listen on tcp://127.0.0.1:{port} \
         and let clients come in by ssh, as in `ssh -L {port}:127.0.0.1:{port} HOST`"
    ))
}
