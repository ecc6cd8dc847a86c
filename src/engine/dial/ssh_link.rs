//! A login to a host, through which several `ssh` connections to it go: only the first of them costs a handshake.
//!
//! The login is an `ssh` process of ours. It ends some seconds after its last connection. If nothing comes through it any
//! more, the next dial logs in anew. A dial that is given up leaves the login to the next one: a probe has less time than
//! a slow host needs to let somebody in.
//!
//! **Invariant**: a login's process is a child of ours as long as it runs, and it does not outlive this process. No login is
//! ended that has a connection.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use raft_store::watch;
use tempfile::TempDir;

use super::super::endpoint::SshTarget;
use super::advice;
use super::ssh_process::{Ended, Process, Purpose};
use crate::clock;
use crate::tasks::spawn_stream;

/// A login that takes longer has failed.
const LOGIN_TIMEOUT: Duration = Duration::from_secs(20);
/// A dial that has waited so long for the login says so.
const DIAL_TIMEOUT: Duration = Duration::from_secs(4);
/// How often to look for the socket by which `ssh` tells that it has logged in.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// A login that nobody used for so long ends.
const IDLE: Duration = Duration::from_secs(10);
/// How often to look whether that is so.
const LOOK_FOR_IDLE: Duration = Duration::from_secs(2);
/// So many connections go through one login: by default a host takes ten of them (`MaxSessions`), the login's own included.
const CONNECTIONS: usize = 8;
/// If a connection was given up by which nothing had come, and nothing came by any other for so long, the login is of
/// no use any more.
const SILENCE: Duration = Duration::from_secs(6);
/// A socket's path may have 107 bytes, of which `ssh` adds some and we others.
const FOLDER_MAX_BYTES: usize = 60;

/// All logins that somebody uses.
static LINKS: Mutex<BTreeMap<SshTarget, Vec<Weak<Link>>>> = Mutex::new(BTreeMap::new());

/// One login to one host.
pub(super) struct Link {
    target: SshTarget,
    login: watch::Sender<Login>,
    traffic: Mutex<Traffic>,
}

/// How far a login is.
#[derive(Debug, Clone)]
enum Login {
    /// It is under way.
    Begun,
    /// Others can go through it, by this socket.
    There(Arc<Path>),
    /// The host runs nothing for us but what reaches the engine: each connection logs in by itself.
    Useless,
    /// It came to nothing.
    Failed(io::ErrorKind, String),
    /// It was there.
    Ended,
}

impl Link {
    /// A link to `target`: one that there is if it can take one more connection, else a new one.
    pub(super) fn to(target: &SshTarget) -> Arc<Self> {
        let now = clock::instant();
        let mut all = LINKS.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, links| links.iter().any(|link| link.strong_count() > 0));
        let links = all.entry(target.clone()).or_default();
        links.retain(|link| link.strong_count() > 0);
        let there = links.iter().filter_map(Weak::upgrade);
        if let Some(link) = there.into_iter().find(|link| link.takes_one_more(now)) {
            link.traffic().dialled(now);
            return link;
        }
        let link = Arc::new(Self {
            target: target.clone(),
            login: watch::Sender::new(Login::Begun),
            traffic: Mutex::new(Traffic::new(now)),
        });
        links.push(Arc::downgrade(&link));
        let span = tracing::debug_span!("ssh", host = target.host);
        spawn_stream(span, log_in(Arc::clone(&link)));
        link
    }

    fn takes_one_more(self: &Arc<Self>, now: Instant) -> bool {
        let is_over = matches!(*self.login.borrow(), Login::Failed(..) | Login::Ended);
        // Who asks has it, and so has who holds the login.
        let is_full = Arc::strong_count(self) >= CONNECTIONS + 2;
        !is_over && !is_full && !self.traffic().is_stuck(now)
    }

    /// Where it leads.
    pub(super) const fn target(&self) -> &SshTarget {
        &self.target
    }

    /// Waits for the login. Returns the socket to go through, if there is one.
    pub(super) async fn socket(&self) -> io::Result<Option<Arc<Path>>> {
        let mut login = self.login.subscribe();
        let known = login.wait_for(|login| !matches!(login, Login::Begun));
        // The sender cannot be gone: we have it.
        match tokio::time::timeout(DIAL_TIMEOUT, known).await {
            Ok(Ok(login)) => login.socket(),
            Ok(Err(_)) | Err(_) => {
                let words = advice::of_slow_login(&self.target, DIAL_TIMEOUT);
                Err(io::Error::new(io::ErrorKind::TimedOut, words))
            }
        }
    }

    /// Something came by a connection.
    pub(super) fn heard(&self) {
        self.traffic().heard();
    }

    /// A connection ended by which nothing had come.
    pub(super) fn unheard(&self) {
        self.traffic().unheard(clock::instant());
    }

    fn traffic(&self) -> MutexGuard<'_, Traffic> {
        self.traffic.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Login {
    fn socket(&self) -> io::Result<Option<Arc<Path>>> {
        match self {
            Self::There(socket) => Ok(Some(Arc::clone(socket))),
            Self::Failed(kind, words) => Err(io::Error::new(*kind, words.clone())),
            Self::Begun | Self::Useless | Self::Ended => Ok(None),
        }
    }
}

/// Logs in, and stays until nobody needs it any more.
async fn log_in(link: Arc<Link>) {
    let started = folder().and_then(|folder| {
        let socket = folder.path().join("s");
        let started = Process::start(&link.target, &Purpose::LogIn(&socket))?;
        Ok((folder, socket, started))
    });
    // When its input ends, because we do, the other end does too.
    let (_folder, socket, (mut process, _stdin, _stdout)) = match started {
        Ok(started) => started,
        Err(error) => {
            let failed = Login::Failed(error.kind(), error.to_string());
            link.login.send_replace(failed);
            return;
        }
    };
    let login = tokio::select! {
        ended = process.end() => of_early_end(&ended, &link.target),
        () = until_made(&socket) => Login::There(socket.as_path().into()),
        () = tokio::time::sleep(LOGIN_TIMEOUT) => Login::Failed(
            io::ErrorKind::TimedOut,
            advice::of_slow_login(&link.target, LOGIN_TIMEOUT),
        ),
    };
    let is_there = matches!(login, Login::There(_));
    link.login.send_replace(login);
    if is_there {
        tokio::select! {
            ended = process.end() => {
                let error = ended.error(&link.target);
                tracing::debug!(%error, "a login by ssh ended");
            }
            () = until_idle(&link) => {}
        }
        link.login.send_replace(Login::Ended);
    }
}

/// What a login means that has ended before it was seen to be there.
fn of_early_end(ended: &Ended, target: &SshTarget) -> Login {
    if ended.had_logged_in() {
        return Login::Useless;
    }
    let error = ended.error(target);
    Login::Failed(error.kind(), error.to_string())
}

async fn until_made(socket: &Path) {
    while !socket.exists() {
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn until_idle(link: &Arc<Link>) {
    loop {
        tokio::time::sleep(LOOK_FOR_IDLE).await;
        // Each connection has the link, and so has who holds the login.
        if Arc::strong_count(link) == 1 && link.traffic().is_idle(clock::instant()) {
            return;
        }
    }
}

/// A folder of our own for the socket, in a place with a short and plain name.
fn folder() -> io::Result<TempDir> {
    let usual = std::env::temp_dir();
    let place = match usual.to_str() {
        Some(text) if is_fit_for_a_socket(text) => usual,
        _ => PathBuf::from("/tmp"),
    };
    use std::os::unix::fs::PermissionsExt as _;
    tempfile::Builder::new()
        .prefix("flotilla-")
        .permissions(std::fs::Permissions::from_mode(0o700))
        .tempdir_in(&place)
        .map_err(|error| {
            io::Error::other(format!(
                "no folder for the sockets of ssh can be made in {}: {error}",
                place.display()
            ))
        })
}

/// `ssh` reads percent signs, blanks and more as something else.
fn is_fit_for_a_socket(folder: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    folder.starts_with('/') && folder.len() <= FOLDER_MAX_BYTES && folder.chars().all(is_plain)
}

/// Whether a login is used, and of use. Pure.
#[derive(Debug, Clone, Copy)]
struct Traffic {
    dialled: Instant,
    silent_since: Option<Instant>,
}

impl Traffic {
    const fn new(now: Instant) -> Self {
        Self {
            dialled: now,
            silent_since: None,
        }
    }

    const fn dialled(&mut self, now: Instant) {
        self.dialled = now;
    }

    const fn heard(&mut self) {
        self.silent_since = None;
    }

    fn unheard(&mut self, now: Instant) {
        self.silent_since.get_or_insert(now);
    }

    fn is_stuck(&self, now: Instant) -> bool {
        self.silent_since
            .is_some_and(|since| now.duration_since(since) >= SILENCE)
    }

    fn is_idle(&self, now: Instant) -> bool {
        now.duration_since(self.dialled) >= IDLE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `script` is `what@seconds`; whether the login is stuck then, and idle then.
    fn check(script: &str, at: u64, is_stuck: bool, is_idle: bool) {
        let start = clock::instant();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut traffic = Traffic::new(start);
        for step in script.split_whitespace() {
            let (what, at) = step.split_once('@').expect("what@seconds");
            let now = after(at.parse().expect("seconds"));
            match what {
                "dial" => traffic.dialled(now),
                "heard" => traffic.heard(),
                "unheard" => traffic.unheard(now),
                other => panic!("no such step: {other}"),
            }
        }
        let now = after(at);
        assert_eq!(traffic.is_stuck(now), is_stuck, "{script}, stuck at {at}");
        assert_eq!(traffic.is_idle(now), is_idle, "{script}, idle at {at}");
    }

    #[test]
    fn a_login_is_stuck_when_nothing_comes_by_any_connection() {
        check("dial@0 unheard@1", 6, false, false);
        check("dial@0 unheard@1 unheard@5", 7, true, false);
        check("dial@0 unheard@1 heard@5", 9, false, false);
        check("dial@0 unheard@1 heard@5 unheard@6", 11, false, true);
        check("dial@0 unheard@1 heard@5 unheard@6", 12, true, true);
    }

    #[test]
    fn a_login_is_idle_when_nobody_dials() {
        check("dial@3", 12, false, false);
        check("dial@3", 13, false, true);
        check("", 10, false, true);
    }

    #[test]
    fn sockets_are_made_in_short_and_plain_places() {
        for (folder, is_fit) in [
            ("/tmp", true),
            ("/var/tmp/x-1_y.z", true),
            ("tmp", false),
            ("/my tmp", false),
            ("/100%", false),
            (&format!("/{}", "x".repeat(60)), false),
        ] {
            assert_eq!(is_fit_for_a_socket(folder), is_fit, "{folder}");
        }
    }
}
