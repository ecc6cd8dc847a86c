//! What a failure to reach an engine means, and what to do about it. Pure: errors and texts in, words out.
//!
//! **Invariant**: the words name the place, and end with something that the reader can do.

use std::io::{self, ErrorKind};
use std::path::Path;
use std::time::Duration;

use rustls::{AlertDescription, CertificateError};

use super::super::endpoint::SshTarget;

/// `host:port`, for people.
pub(super) fn place(host: &str, port: u16) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

/// A connection that did not come about in time.
pub(super) fn of_silence(place: &str, patience: Duration) -> String {
    format!(
        "no answer from {place} within {}s: is the host up, and does no firewall drop what goes there?",
        patience.as_secs()
    )
}

/// A name without an address.
pub(super) fn of_lookup(error: &io::Error, host: &str) -> String {
    format!(
        "no address is known for `{host}`: is it spelt right, and in DNS or /etc/hosts? ({error})"
    )
}

/// A TCP connection that failed.
pub(super) fn of_tcp(error: &io::Error, place: &str) -> String {
    match error.kind() {
        ErrorKind::ConnectionRefused => format!(
            "connection refused by {place}: is the engine running, and told to listen there (dockerd --host tcp://…)?"
        ),
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => {
            format!("no route to {place}: is the host up, and the address right?")
        }
        ErrorKind::TimedOut => format!("no answer from {place}: is the host up?"),
        _ => format!("cannot connect to {place}: {error}"),
    }
}

/// A unix socket that cannot be opened.
pub(super) fn of_socket(error: &io::Error, path: &str) -> String {
    match error.kind() {
        ErrorKind::NotFound => format!("there is no {path}: is the engine running?"),
        ErrorKind::ConnectionRefused => {
            format!("connection refused by {path}: is the engine running?")
        }
        ErrorKind::PermissionDenied => format!(
            "this user may not open {path}: put it into the group that owns the socket (usually `docker`)"
        ),
        _ => format!("cannot connect to {path}: {error}"),
    }
}

/// A TLS connection to `host` that failed, at the handshake or right after. `dir` has our files.
pub(super) fn of_tls(error: &rustls::Error, host: &str, dir: &Path) -> String {
    let dir = dir.display();
    match error {
        rustls::Error::InvalidCertificate(why) => of_certificate(why, host, &dir.to_string()),
        rustls::Error::AlertReceived(alert) => match alert {
            AlertDescription::ProtocolVersion | AlertDescription::HandshakeFailure => format!(
                "the engine and we have no version or cipher of TLS in common ({alert:?}): upgrade the engine"
            ),
            AlertDescription::UnrecognisedName => {
                format!("the engine does not know itself as `{host}`: use the name in its certificate")
            }
            _ => format!(
                "the engine refuses our certificate {dir}/cert.pem ({alert:?}): it must be in date, for clients, and signed \
                 by the CA that dockerd was given as --tlscacert"
            ),
        },
        rustls::Error::InvalidMessage(_) => {
            "what listens there does not speak TLS: is it the engine's port for TLS (usually 2376), and does dockerd run \
             with --tlsverify?"
                .to_owned()
        }
        other => format!("TLS failed: {other}"),
    }
}

fn of_certificate(why: &CertificateError, host: &str, dir: &str) -> String {
    match why {
        // With the name of our CA and another key, the signature is what is wrong.
        CertificateError::UnknownIssuer
        | CertificateError::BadSignature
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => format!(
            "the engine's certificate is not signed by the CA in {dir}/ca.pem: put the CA of that engine there"
        ),
        CertificateError::NotValidForName => wrong_name(host, &[]),
        CertificateError::NotValidForNameContext { presented, .. } => wrong_name(host, presented),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "the engine's certificate has expired: renew it, or set this machine's clock".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "the engine's certificate is not valid yet: compare the clocks of both machines"
                .to_owned()
        }
        other => format!(
            "the engine's certificate is not accepted ({other}): make it anew, for a server"
        ),
    }
}

fn wrong_name(host: &str, presented: &[String]) -> String {
    let names = match presented {
        [] => "no name at all".to_owned(),
        names => names.join(", "),
    };
    format!(
        "the engine's certificate is not for `{host}` but for {names}: reach the engine by a name in its certificate, or \
         make one with `{host}` as subjectAltName"
    )
}

/// A handshake that the other side broke off.
pub(super) fn of_broken_handshake(error: &io::Error) -> String {
    format!(
        "the connection ended within the TLS handshake ({error}): is it a Docker engine that listens there?"
    )
}

/// The program that cannot be started.
pub(super) fn of_program(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => {
            "the program `ssh` is not on this machine: install an OpenSSH client, or put it into the PATH".to_owned()
        }
        _ => format!("the program `ssh` cannot be started: {error}"),
    }
}

/// A login by ssh that takes too long.
pub(super) fn of_slow_login(target: &SshTarget, patience: Duration) -> String {
    format!(
        "no ssh login to {target} within {}s: is the host up, and does `{}` work?",
        patience.as_secs(),
        by_hand(target)
    )
}

/// An `ssh` process that failed. `said` is what it wrote to its standard error, `code` its exit code.
pub(super) fn of_ssh(said: &str, code: Option<i32>, target: &SshTarget) -> (ErrorKind, String) {
    let lower = said.to_lowercase();
    let rule = SSH
        .iter()
        .find(|rule| rule.says.iter().any(|part| lower.contains(part)));
    let last = said.lines().map(str::trim).rfind(|line| !line.is_empty());
    let Some(rule) = rule else {
        let words = match (last, code) {
            (Some(last), _) => format!("ssh to {target} failed: {last}"),
            (None, Some(code)) => format!(
                "ssh to {target} ended with code {code} and without a word: does `{}` work?",
                by_hand(target)
            ),
            (None, None) => format!("ssh to {target} was ended from outside"),
        };
        return (ErrorKind::Other, words);
    };
    let words = rule
        .means
        .replace("{target}", &target.to_string())
        .replace("{host}", &target.host)
        .replace("{ssh}", &by_hand(target));
    (rule.kind, words)
}

/// What a person types to reach the same.
fn by_hand(target: &SshTarget) -> String {
    let port = target
        .port
        .map_or_else(String::new, |port| format!("-p {port} "));
    let user = target
        .user
        .as_ref()
        .map_or_else(String::new, |user| format!("{user}@"));
    format!("ssh {port}{user}{}", target.host)
}

/// What one thing that `ssh`, or the docker CLI at its other end, may say means.
struct Rule {
    /// In lower case; one of them is enough.
    says: &'static [&'static str],
    kind: ErrorKind,
    means: &'static str,
}

/// The first that fits counts: what is said of the engine comes before what is said of ssh in the same words.
const SSH: &[Rule] = &[
    Rule {
        says: &[
            "permission denied while trying to connect",
            "docker.sock: connect: permission denied",
        ],
        kind: ErrorKind::PermissionDenied,
        means: "this user may not use the engine's socket on {host}: put it into the group `docker` there",
    },
    Rule {
        says: &[
            "cannot connect to the docker daemon",
            "is the docker daemon running",
            "docker.sock: connect: no such file",
            "docker.sock: connect: connection refused",
        ],
        kind: ErrorKind::ConnectionRefused,
        means: "the engine on {host} does not run, or listens elsewhere than the docker CLI there looks for it: start it, or \
                set that user's docker context",
    },
    Rule {
        says: &[
            "docker: command not found",
            "docker: not found",
            "docker: no such file",
            "unknown command: docker",
            "command not found: docker",
        ],
        kind: ErrorKind::Other,
        means: "there is no `docker` on {host}, or not in the PATH of commands by ssh: install Docker's CLI there; \
                `{ssh} docker version` must work",
    },
    Rule {
        says: &[
            "is not a docker command",
            "unknown command: dial-stdio",
            "unknown command: docker system",
        ],
        kind: ErrorKind::Other,
        means: "the docker CLI on {host} has no `docker system dial-stdio`: upgrade it to 18.09 or newer",
    },
    Rule {
        says: &["remote host identification has changed"],
        kind: ErrorKind::Other,
        means: "the host key of {host} is not the one that is known: if the host was set up anew remove the old key with \
                `ssh-keygen -R {host}`, and accept the new one with `{ssh}`; if not, somebody may be listening in",
    },
    Rule {
        says: &["host key verification failed", "host key is known for"],
        kind: ErrorKind::Other,
        means: "the host key of {host} is not known: run `{ssh}` once, as the user who runs the manager, and accept it",
    },
    Rule {
        says: &["unprotected private key file"],
        kind: ErrorKind::Other,
        means: "ssh uses no private key that others may read: run `chmod 600` on it, for {target}",
    },
    Rule {
        says: &[
            "permission denied (",
            "too many authentication failures",
            "no supported authentication methods",
        ],
        kind: ErrorKind::Other,
        means: "{host} lets us in with no key that ssh has: `{ssh}` must work without a password, as the user who runs the \
                manager",
    },
    Rule {
        says: &["could not resolve hostname"],
        kind: ErrorKind::Other,
        means: "no address is known for `{host}`: is it spelt right, and in DNS, /etc/hosts or ~/.ssh/config?",
    },
    Rule {
        says: &["connection refused"],
        kind: ErrorKind::ConnectionRefused,
        means: "connection refused by the ssh port of {target}: does sshd run there, and on that port?",
    },
    Rule {
        says: &["no route to host", "network is unreachable"],
        kind: ErrorKind::HostUnreachable,
        means: "no route to {target}: is the host up, and the address right?",
    },
    Rule {
        says: &["timed out", "not responding"],
        kind: ErrorKind::TimedOut,
        means: "no answer from the ssh port of {target}: is the host up, and does no firewall drop what goes there?",
    },
    Rule {
        says: &["bad configuration option", "bad owner or permissions"],
        kind: ErrorKind::Other,
        means: "ssh does not accept its own settings: see what `{ssh}` says",
    },
    Rule {
        says: &[
            "kex_exchange_identification",
            "connection closed by",
            "connection reset by",
        ],
        kind: ErrorKind::ConnectionReset,
        means: "{target} ended the connection: is it sshd that listens there, and does it take more logins (MaxStartups)?",
    },
];

/// What an engine's refusal of our very first request means, if it means more than it says.
pub(in super::super) fn of_refusal(message: &str) -> Option<&'static str> {
    let spoken_to_in_the_clear = message
        .to_ascii_lowercase()
        .contains("client sent an http request to an https server");
    spoken_to_in_the_clear.then_some(
        "it speaks TLS there and was spoken to in the clear: give --engine-tls DIR, or ?tls=DIR behind its address, with its \
         ca.pem and our cert.pem and key.pem",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tcp_failure_says_where_to_look() {
        let place = place("fd00::1", 2375);
        for (kind, words) in [
            (
                ErrorKind::ConnectionRefused,
                "connection refused by [fd00::1]:2375: is the engine running",
            ),
            (ErrorKind::HostUnreachable, "no route to [fd00::1]:2375"),
            (ErrorKind::NetworkUnreachable, "no route to [fd00::1]:2375"),
            (ErrorKind::TimedOut, "no answer from [fd00::1]:2375"),
            (
                ErrorKind::AddrNotAvailable,
                "cannot connect to [fd00::1]:2375: ",
            ),
        ] {
            let said = of_tcp(&kind.into(), &place);
            assert!(said.starts_with(words), "{said}");
        }
    }

    #[test]
    fn a_tls_failure_says_which_side_to_change() {
        let alert = rustls::Error::AlertReceived;
        let certificate = rustls::Error::InvalidCertificate;
        let message = rustls::InvalidMessage::InvalidContentType;
        for (error, words) in [
            (
                certificate(CertificateError::UnknownIssuer),
                "is not signed by the CA in /d/ca.pem",
            ),
            (
                certificate(CertificateError::BadSignature),
                "is not signed by the CA in /d/ca.pem",
            ),
            (
                certificate(
                    CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext {
                        signature_algorithm_id: Vec::new(),
                        public_key_algorithm_id: Vec::new(),
                    },
                ),
                "is not signed by the CA in /d/ca.pem",
            ),
            (
                certificate(CertificateError::NotValidForNameContext {
                    expected: "h".try_into().expect("a name"),
                    presented: vec!["a".to_owned(), "b".to_owned()],
                }),
                "is not for `h` but for a, b: reach",
            ),
            (
                certificate(CertificateError::NotValidForName),
                "is not for `h` but for no name at all",
            ),
            (certificate(CertificateError::Expired), "has expired"),
            (
                certificate(CertificateError::NotValidYet),
                "compare the clocks",
            ),
            (certificate(CertificateError::BadEncoding), "make it anew"),
            (
                alert(AlertDescription::CertificateRequired),
                "refuses our certificate /d/cert.pem (CertificateRequired)",
            ),
            (
                alert(AlertDescription::UnknownCA),
                "signed by the CA that dockerd was given as --tlscacert",
            ),
            (
                alert(AlertDescription::BadCertificate),
                "refuses our certificate /d/cert.pem",
            ),
            (
                alert(AlertDescription::ProtocolVersion),
                "upgrade the engine",
            ),
            (rustls::Error::InvalidMessage(message), "does not speak TLS"),
            (rustls::Error::DecryptError, "TLS failed: "),
        ] {
            let said = of_tls(&error, "h", Path::new("/d"));
            assert!(said.contains(words), "{said}");
        }
    }

    /// What the parts of OpenSSH and of the docker CLI really say, and the beginning of what we make of it.
    #[test]
    fn an_ssh_failure_says_what_to_do_at_which_end() {
        let target = SshTarget {
            user: Some("ci".to_owned()),
            host: "h".to_owned(),
            port: Some(2222),
        };
        for (said, kind, words) in [
            (
                "ci@h: Permission denied (publickey).",
                ErrorKind::Other,
                "h lets us in with no key that ssh has: `ssh -p 2222 ci@h` must work",
            ),
            (
                "Received disconnect from h port 22:2: Too many authentication failures",
                ErrorKind::Other,
                "h lets us in with no key",
            ),
            (
                "@ WARNING: UNPROTECTED PRIVATE KEY FILE! @\nci@h: Permission denied (publickey).",
                ErrorKind::Other,
                "ssh uses no private key that others may read",
            ),
            (
                "Host key verification failed.",
                ErrorKind::Other,
                "the host key of h is not known",
            ),
            (
                "@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nHost key verification failed.",
                ErrorKind::Other,
                "the host key of h is not the one that is known",
            ),
            (
                "ssh: Could not resolve hostname h: Name or service not known",
                ErrorKind::Other,
                "no address is known for `h`",
            ),
            (
                "ssh: connect to host h port 2222: Connection refused",
                ErrorKind::ConnectionRefused,
                "connection refused by the ssh port of ci@h:2222",
            ),
            (
                "ssh: connect to host h port 2222: No route to host",
                ErrorKind::HostUnreachable,
                "no route to ci@h:2222",
            ),
            (
                "ssh: connect to host h port 2222: Connection timed out",
                ErrorKind::TimedOut,
                "no answer from the ssh port",
            ),
            (
                "Timeout, server h not responding.",
                ErrorKind::TimedOut,
                "no answer from the ssh port",
            ),
            (
                "kex_exchange_identification: Connection closed by remote host",
                ErrorKind::ConnectionReset,
                "ci@h:2222 ended the connection",
            ),
            (
                "/root/.ssh/config: line 1: Bad configuration option: x",
                ErrorKind::Other,
                "ssh does not accept its own settings",
            ),
            (
                "bash: line 1: docker: command not found",
                ErrorKind::Other,
                "there is no `docker` on h",
            ),
            (
                "sh: 1: docker: not found",
                ErrorKind::Other,
                "there is no `docker` on h",
            ),
            (
                "docker: 'system dial-stdio' is not a docker command.\nSee 'docker --help'",
                ErrorKind::Other,
                "the docker CLI on h has no `docker system dial-stdio`",
            ),
            (
                "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?",
                ErrorKind::ConnectionRefused,
                "the engine on h does not run",
            ),
            (
                "permission denied while trying to connect to the Docker daemon socket at unix:///var/run/docker.sock",
                ErrorKind::PermissionDenied,
                "this user may not use the engine's socket on h",
            ),
            (
                "Banner\nsomething new\n\n",
                ErrorKind::Other,
                "ssh to ci@h:2222 failed: something new",
            ),
            ("", ErrorKind::Other, "ssh to ci@h:2222 ended with code 255"),
        ] {
            let (of, means) = of_ssh(said, Some(255), &target);
            assert_eq!(of, kind, "{said}");
            assert!(means.starts_with(words), "{means}");
            assert!(!means.contains('{'), "{means}");
        }
        let (_, killed) = of_ssh("", None, &target);
        assert!(killed.ends_with("was ended from outside"), "{killed}");
    }

    #[test]
    fn only_a_port_for_tls_is_told_to_be_one() {
        let engine = "Client sent an HTTP request to an HTTPS server.\n";
        assert!(of_refusal(engine).is_some_and(|why| why.contains("--engine-tls")));
        assert_eq!(of_refusal("client version 1.24 is too old"), None);
    }
}
