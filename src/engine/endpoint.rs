//! Where an engine listens, as the user wrote it.
//!
//! **Invariant**: what is written out reads back as the same endpoint, and nothing in one can be taken for an option by
//! a program that is given it.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// The address of one engine.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Endpoint {
    /// `unix:///path/to/socket`: an engine on the manager's own machine.
    Unix(PathBuf),
    /// `tcp://host:port`, in the clear: loopback, or a network that is trusted. `tcp://host:port?tls=/dir`: by TLS.
    Tcp {
        /// A name or an address.
        host: String,
        /// The port.
        port: u16,
        /// The folder with `ca.pem`, `cert.pem` and `key.pem`; none for a connection in the clear.
        tls: Option<PathBuf>,
    },
    /// `ssh://user@host:port`: what `docker system dial-stdio` reaches there.
    Ssh(SshTarget),
}

/// Where the `ssh` program goes. What is left out is up to the settings of ssh.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SshTarget {
    /// The user there.
    pub user: Option<String>,
    /// A name, an address, or a `Host` of the settings of ssh.
    pub host: String,
    /// The port.
    pub port: Option<u16>,
}

/// An endpoint that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not an engine's address: {why}")]
pub struct BadEndpoint {
    text: String,
    why: &'static str,
}

const BAD_PORT: &str = "the port must be a number from 1 to 65535";
const TLS_MARK: &str = "?tls=";

impl Endpoint {
    /// The address under which the ports that this engine publishes can be reached, if the endpoint
    /// tells: a socket on this machine does not.
    pub fn published_address(&self) -> Option<&str> {
        match self {
            Self::Unix(_) => None,
            Self::Tcp { host, .. } => Some(host),
            Self::Ssh(target) => Some(&target.host),
        }
    }

    /// The endpoint as people are shown it: which files it is reached with is the manager's own affair. Two endpoints
    /// that are shown alike are one.
    pub fn shown(&self) -> String {
        match self {
            Self::Tcp { host, port, .. } => Self::Tcp {
                host: host.clone(),
                port: *port,
                tls: None,
            }
            .to_string(),
            Self::Unix(_) | Self::Ssh(_) => self.to_string(),
        }
    }

    /// [`Self::shown`] of an endpoint's text; what cannot be read is shown as it is.
    pub fn text_as_shown(text: &str) -> String {
        text.parse::<Self>()
            .map_or_else(|_| text.to_owned(), |endpoint| endpoint.shown())
    }
}

impl FromStr for Endpoint {
    type Err = BadEndpoint;

    fn from_str(text: &str) -> Result<Self, BadEndpoint> {
        let read = if let Some(path) = text.strip_prefix("unix://") {
            unix(path)
        } else if let Some(rest) = text.strip_prefix("tcp://") {
            tcp(rest)
        } else if let Some(rest) = text.strip_prefix("ssh://") {
            ssh(rest)
        } else {
            Err("it must begin with unix://, tcp:// or ssh://")
        };
        read.map_err(|why| BadEndpoint {
            text: text.to_owned(),
            why,
        })
    }
}

fn unix(path: &str) -> Result<Endpoint, &'static str> {
    if !path.starts_with('/') {
        return Err("a unix socket needs an absolute path, as in unix:///var/run/docker.sock");
    }
    Ok(Endpoint::Unix(path.into()))
}

fn tcp(rest: &str) -> Result<Endpoint, &'static str> {
    let (rest, tls) = match rest.split_once(TLS_MARK) {
        Some((rest, dir)) if dir.starts_with('/') => (rest, Some(PathBuf::from(dir))),
        Some(_) => {
            return Err("the folder after ?tls= must be absolute, as in ?tls=/etc/flotilla/tls");
        }
        None => (rest, None),
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (host, port) = rest
        .rsplit_once(':')
        .ok_or("it needs a port, as in tcp://10.0.0.5:2375")?;
    let port = port.parse().map_err(|_| BAD_PORT)?;
    let host = without_brackets(host);
    if host.is_empty() || port == 0 || host.contains(['/', '?']) {
        return Err("it must be tcp://HOST:PORT or tcp://HOST:PORT?tls=DIR");
    }
    Ok(Endpoint::Tcp {
        host: host.to_owned(),
        port,
        tls,
    })
}

fn ssh(rest: &str) -> Result<Endpoint, &'static str> {
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (user, place) = match rest.rsplit_once('@') {
        Some((user, place)) => (Some(user), place),
        None => (None, rest),
    };
    if user.is_some_and(|user| user.contains(':')) {
        return Err("a password cannot be given: let ssh log in with a key");
    }
    if place.contains(['/', '?']) {
        return Err("it must be ssh://[USER@]HOST[:PORT], and nothing after that");
    }
    let (host, port) = host_and_port(place)?;
    if user.is_some_and(|user| !is_plain(user, "._-+")) {
        return Err(
            "the user must begin with a letter or digit and go on with these and ._-+; others can be given in \
             ~/.ssh/config",
        );
    }
    // What was in brackets: colons, and a zone after a percent sign.
    let is_address = host.contains(':') && is_plain(host.trim_start_matches(':'), ".:%-_");
    if !is_address && !is_plain(host, "._-") {
        return Err("the host must begin with a letter or digit and go on with these and ._-");
    }
    Ok(Endpoint::Ssh(SshTarget {
        user: user.map(str::to_owned),
        host: host.to_owned(),
        port,
    }))
}

/// Splits `host:port`, `host`, `[address]:port` and `[address]`.
fn host_and_port(place: &str) -> Result<(&str, Option<u16>), &'static str> {
    let (host, port) = match place.strip_prefix('[').and_then(|p| p.split_once(']')) {
        Some((host, "")) => (host, None),
        Some((host, rest)) => (host, Some(rest.strip_prefix(':').ok_or(BAD_PORT)?)),
        None => match place.split_once(':') {
            Some((_, port)) if port.contains(':') => {
                return Err("an address with colons needs brackets, as in ssh://[fd00::1]:22");
            }
            Some((host, port)) => (host, Some(port)),
            None => (place, None),
        },
    };
    let port = port.map(|port| match port.parse() {
        Ok(0) | Err(_) => Err(BAD_PORT),
        Ok(port) => Ok(port),
    });
    Ok((host, port.transpose()?))
}

fn without_brackets(host: &str) -> &str {
    host.strip_prefix('[')
        .and_then(|h| h.strip_suffix(']'))
        .unwrap_or(host)
}

/// Whether a text cannot be taken for anything but a name: by ssh for an option, or by a shell for more than a word.
fn is_plain(text: &str, also: &str) -> bool {
    let letter = |c: char| c.is_ascii_alphanumeric();
    text.starts_with(letter) && text.chars().all(|c| letter(c) || also.contains(c))
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp { host, port, tls } => {
                write!(f, "tcp://{}:{port}", Bracketed(host))?;
                match tls {
                    Some(dir) => write!(f, "{TLS_MARK}{}", dir.display()),
                    None => Ok(()),
                }
            }
            Self::Ssh(target) => write!(f, "ssh://{target}"),
        }
    }
}

impl fmt::Display for SshTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(user) = &self.user {
            write!(f, "{user}@")?;
        }
        write!(f, "{}", Bracketed(&self.host))?;
        match self.port {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

/// A host before a port: an address with colons needs brackets.
struct Bracketed<'a>(&'a str);

impl fmt::Display for Bracketed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.contains(':') {
            write!(f, "[{}]", self.0)
        } else {
            f.write_str(self.0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_endpoint_reads_back_as_it_was_written() {
        for text in [
            "unix:///var/run/docker.sock",
            "tcp://10.0.0.5:2375",
            "tcp://[fd00::1]:2375",
            "tcp://host7:1",
            "tcp://host7:2376?tls=/etc/flotilla/tls",
            "tcp://[fd00::1]:2376?tls=/odd dir/?tls=/x",
            "ssh://host7",
            "ssh://build_1.example",
            "ssh://ci@host7:2222",
            "ssh://ci.x+y@[fe80::1%eth0]:22",
            "ssh://[::1]",
        ] {
            assert_eq!(text.parse::<Endpoint>().expect(text).to_string(), text);
        }
    }

    #[test]
    fn people_are_shown_no_files() {
        let shown = |text: &str| text.parse::<Endpoint>().expect(text).shown();
        assert_eq!(shown("tcp://h:2376?tls=/x"), "tcp://h:2376");
        assert_eq!(shown("tcp://[fd00::1]:2376?tls=/x"), "tcp://[fd00::1]:2376");
        assert_eq!(shown("ssh://ci@h:22"), "ssh://ci@h:22");
        assert_eq!(shown("unix:///x?tls=/y"), "unix:///x?tls=/y");
    }

    #[test]
    fn a_bad_endpoint_says_what_is_wrong() {
        for (text, part) in [
            ("unix://docker.sock", "absolute path"),
            ("tcp://10.0.0.5", "needs a port"),
            ("tcp://10.0.0.5:x", "must be a number"),
            ("tcp://:2375", "tcp://HOST:PORT"),
            ("tcp://h:2376?tls=tls", "must be absolute"),
            ("tcp://h:2376?tls=", "must be absolute"),
            ("tcp://h?x=y:2376", "tcp://HOST:PORT"),
            ("http://a:1", "must begin with unix://, tcp:// or ssh://"),
            ("ssh://", "the host must begin"),
            ("ssh://-oProxyCommand=x", "the host must begin"),
            ("ssh://-h", "the host must begin with a letter"),
            ("ssh://h;reboot", "the host must begin"),
            ("ssh://h$(x)", "the host must begin"),
            ("ssh://a b", "the host must begin"),
            ("ssh://-l@h", "the user must begin"),
            ("ssh://@h", "the user must begin"),
            ("ssh://me`x`@h", "the user must begin"),
            ("ssh://me:secret@h", "a password cannot be given"),
            ("ssh://h:0", "must be a number from 1 to 65535"),
            ("ssh://h:ssh", "must be a number from 1 to 65535"),
            ("ssh://[::1]x", "must be a number from 1 to 65535"),
            ("ssh://fd00::1", "needs brackets"),
            ("ssh://h/var/run/docker.sock", "nothing after that"),
            ("ssh://h?x", "nothing after that"),
        ] {
            let error = text.parse::<Endpoint>().expect_err(text).to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    proptest! {
        #[test]
        fn whatever_reads_reads_back(text in "(unix|tcp|ssh)://[a-z0-9@:/?=.\\[\\]%_+-]{0,24}(\\?tls=/.{0,8})?") {
            if let Ok(endpoint) = text.parse::<Endpoint>() {
                prop_assert_eq!(endpoint.to_string().parse::<Endpoint>(), Ok(endpoint));
            }
        }

        #[test]
        fn nothing_for_ssh_begins_with_a_dash(text in "ssh://\\PC{0,24}") {
            if let Ok(Endpoint::Ssh(target)) = text.parse::<Endpoint>() {
                prop_assert!(!target.host.starts_with('-'));
                prop_assert!(!target.user.unwrap_or_default().starts_with('-'));
            }
        }
    }
}
