//! TLS to an engine that runs with `--tlsverify`: its CA, and a certificate of ours, from a folder as the docker CLI has
//! it (`DOCKER_CERT_PATH`).
//!
//! The files are looked at on each dial, so that renewed ones count from the next connection on.
//!
//! **Invariant**: nobody is trusted but who the CA in `ca.pem` vouches for, and only under the name that was dialled.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::SystemTime;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::plain::connect;
use super::{Connection, Dial, Dialling, advice, within};

const CA: &str = "ca.pem";
const CERTIFICATE: &str = "cert.pem";
const KEY: &str = "key.pem";

/// A file for TLS that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {why}", path.display())]
pub struct BadFile {
    path: PathBuf,
    why: String,
}

/// Whether a folder has all that is needed for TLS to an engine.
pub fn check_files(dir: &Path) -> Result<(), BadFile> {
    read_config(dir).map(drop)
}

/// Dials by TLS.
#[derive(Debug)]
pub(super) struct TlsDial {
    host: String,
    port: u16,
    files: Arc<Files>,
}

impl TlsDial {
    pub(super) fn new(host: String, port: u16, dir: PathBuf) -> Self {
        let files = Arc::new(Files {
            dir,
            last: Mutex::default(),
        });
        Self { host, port, files }
    }
}

impl Dial for TlsDial {
    fn dial(&self) -> Dialling {
        let (host, port, files) = (self.host.clone(), self.port, Arc::clone(&self.files));
        Box::pin(async move {
            let connecting = async {
                let config = files.config().map_err(io::Error::other)?;
                let name = ServerName::try_from(host.clone()).map_err(|_| {
                    io::Error::other(format!(
                        "no certificate can be for `{host}`: give a host name or an IP address"
                    ))
                })?;
                let stream = connect(&host, port).await?;
                let words = Words {
                    host: host.clone(),
                    dir: files.dir.clone(),
                };
                let stream = TlsConnector::from(config)
                    .connect(name, stream)
                    .await
                    .map_err(|error| words.of_handshake(error))?;
                Ok(Box::new(TlsConnection { stream, words }) as Connection)
            };
            within(&advice::place(&host, port), connecting).await
        })
    }
}

/// The files of one engine, and what was last made of them.
struct Files {
    dir: PathBuf,
    last: Mutex<Option<(Stamp, Arc<ClientConfig>)>>,
}

impl fmt::Debug for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Files").field(&self.dir).finish()
    }
}

/// Which files they were. One that is written anew has another time, length or number.
type Stamp = [Option<(SystemTime, u64, u64)>; 3];

impl Files {
    /// The configuration that the files give now. Sessions are resumed as long as the files stay.
    fn config(&self) -> Result<Arc<ClientConfig>, BadFile> {
        // Before they are read: what changes meanwhile is read again.
        let stamp = stamp(&self.dir);
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, config)) = &*last
            && *of == stamp
        {
            return Ok(Arc::clone(config));
        }
        let config = Arc::new(read_config(&self.dir)?);
        *last = Some((stamp, Arc::clone(&config)));
        Ok(config)
    }
}

fn stamp(dir: &Path) -> Stamp {
    use std::os::unix::fs::MetadataExt as _;
    [CA, CERTIFICATE, KEY].map(|name| {
        let metadata = std::fs::metadata(dir.join(name)).ok()?;
        Some((metadata.modified().ok()?, metadata.len(), metadata.ino()))
    })
}

fn read_config(dir: &Path) -> Result<ClientConfig, BadFile> {
    let roots = roots(dir)?;
    let certificates = certificates(dir, CERTIFICATE)?;
    let key = read(dir, KEY, |pem| {
        PrivateKeyDer::from_pem_slice(pem).map_err(|_| {
            "it has no private key in PEM form (one with a pass phrase cannot be used)".to_owned()
        })
    })?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| bad(dir, CA, error))?
        .with_root_certificates(roots)
        .with_client_auth_cert(certificates, key)
        .map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => {
                bad(dir, KEY, format_args!("it is not the key of {CERTIFICATE}"))
            }
            error => bad(dir, KEY, format_args!("it cannot be used: {error}")),
        })
}

fn roots(dir: &Path) -> Result<RootCertStore, BadFile> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(dir, CA)? {
        roots.add(certificate).map_err(|error| {
            bad(
                dir,
                CA,
                format_args!("it has a certificate that cannot be read: {error}"),
            )
        })?;
    }
    Ok(roots)
}

fn certificates(dir: &Path, name: &str) -> Result<Vec<CertificateDer<'static>>, BadFile> {
    read(dir, name, |pem| {
        match CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>() {
            Ok(certificates) if certificates.is_empty() => {
                Err("it has no certificate in PEM form".to_owned())
            }
            Ok(certificates) => Ok(certificates),
            Err(error) => Err(format!("it is not in PEM form: {error}")),
        }
    })
}

fn read<T>(
    dir: &Path,
    name: &str,
    parse: impl FnOnce(&[u8]) -> Result<T, String>,
) -> Result<T, BadFile> {
    let pem = std::fs::read(dir.join(name)).map_err(|error| bad(dir, name, error))?;
    parse(&pem).map_err(|why| bad(dir, name, why))
}

fn bad(dir: &Path, name: &str, why: impl fmt::Display) -> BadFile {
    BadFile {
        path: dir.join(name),
        why: why.to_string(),
    }
}

/// What errors of one connection are told with.
struct Words {
    host: String,
    dir: PathBuf,
}

impl Words {
    fn of_handshake(&self, error: io::Error) -> io::Error {
        let told = self.of(error);
        match told.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => {
                io::Error::new(told.kind(), advice::of_broken_handshake(&told))
            }
            _ => told,
        }
    }

    /// An error of TLS in words for people; others as they are.
    fn of(&self, error: io::Error) -> io::Error {
        let tls = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match tls {
            Some(tls) => io::Error::new(error.kind(), advice::of_tls(tls, &self.host, &self.dir)),
            None => error,
        }
    }
}

/// A connection by TLS. In TLS 1.3 an engine says only after the handshake that it does not accept our certificate, so
/// errors get their words here as well.
struct TlsConnection {
    stream: TlsStream<TcpStream>,
    words: Words,
}

impl AsyncRead for TlsConnection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = std::task::ready!(Pin::new(&mut self.stream).poll_read(cx, buf));
        Poll::Ready(match read {
            // An engine that is killed says no goodbye; over plain TCP that would be an end as well.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(()),
            Err(error) => Err(self.words.of(error)),
            Ok(()) => Ok(()),
        })
    }
}

impl AsyncWrite for TlsConnection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = std::task::ready!(Pin::new(&mut self.stream).poll_write(cx, bytes));
        Poll::Ready(written.map_err(|error| self.words.of(error)))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = std::task::ready!(Pin::new(&mut self.stream).poll_flush(cx));
        Poll::Ready(flushed.map_err(|error| self.words.of(error)))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = std::task::ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, slices));
        Poll::Ready(written.map_err(|error| self.words.of(error)))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with a CA and a certificate of its own.
    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        let made = rcgen::generate_simple_self_signed(vec!["x".to_owned()]).expect("a certificate");
        let pem = made.cert.pem();
        for (name, content) in [
            (CA, &pem),
            (CERTIFICATE, &pem),
            (KEY, &made.signing_key.serialize_pem()),
        ] {
            std::fs::write(folder.path().join(name), content).expect("written");
        }
        folder
    }

    #[test]
    fn a_file_that_cannot_be_used_is_named() {
        let whole = folder();
        check_files(whole.path()).expect("usable");
        let other = folder();
        let key = std::fs::read_to_string(other.path().join(KEY)).expect("read");
        let locked = key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
        let broken = "-----BEGIN CERTIFICATE-----\n%\n-----END CERTIFICATE-----\n";
        let hollow = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for (name, content, why) in [
            (CA, Some(""), "it has no certificate"),
            (CA, Some(broken), "it is not in PEM form"),
            (CA, Some(hollow), "it has a certificate that cannot be read"),
            (CA, None, "No such file"),
            (CERTIFICATE, Some("text"), "it has no certificate"),
            (CERTIFICATE, None, "No such file"),
            (KEY, Some(""), "it has no private key"),
            (KEY, Some(&locked), "one with a pass phrase cannot be used"),
            (KEY, Some(&key), "it is not the key of cert.pem"),
            (KEY, None, "No such file"),
        ] {
            let folder = folder();
            let path = folder.path().join(name);
            match content {
                Some(content) => std::fs::write(&path, content).expect("written"),
                None => std::fs::remove_file(&path).expect("removed"),
            }
            let error = check_files(folder.path()).expect_err(why).to_string();
            assert!(error.starts_with(&*path.to_string_lossy()), "{error}");
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn renewed_files_count_from_the_next_connection_on() {
        let (before, after) = (folder(), folder());
        let files = Files {
            dir: before.path().to_owned(),
            last: Mutex::default(),
        };
        let first = files.config().expect("usable");
        assert!(Arc::ptr_eq(&first, &files.config().expect("usable")));
        for name in [CA, CERTIFICATE, KEY] {
            std::fs::rename(after.path().join(name), before.path().join(name)).expect("renewed");
        }
        assert!(!Arc::ptr_eq(&first, &files.config().expect("usable")));
        std::fs::remove_file(before.path().join(KEY)).expect("removed");
        files.config().expect_err("a file is gone");
    }
}
