//! The `ssh` program: how it is called, and what it says when it ends.
//!
//! **Invariant**: a process that is dropped is killed, and its number is taken back; what it says is kept to a bound.

use std::io;
use std::path::Path;
use std::pin::Pin;
use std::process::{ExitStatus, Stdio};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead as _, ReadBuf};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};

use super::super::endpoint::SshTarget;
use super::advice;

/// Of what a process says the end is kept, which tells why it ended.
const WORDS_MAX_BYTES: usize = 4 << 10;
/// `ssh` ends with this code if `ssh` itself failed, and not what ran at the other end.
const SSH_FAILED: i32 = 255;

/// What an `ssh` process is there for.
pub(super) enum Purpose<'a> {
    /// To log in, and to let others go through this login by a socket at this path.
    LogIn(&'a Path),
    /// To reach the engine: through the login at this path as long as there is one, else by a login of its own.
    Reach(Option<&'a Path>),
}

impl Purpose<'_> {
    fn options(&self) -> Vec<String> {
        let (master, path) = match self {
            Self::LogIn(path) => ("yes", Some(path)),
            Self::Reach(path) => ("no", path.as_ref()),
        };
        let path = path.map_or_else(|| "none".to_owned(), |path| path.display().to_string());
        vec![
            format!("-oControlMaster={master}"),
            format!("-oControlPath={path}"),
        ]
    }

    /// What runs at the other end.
    const fn remote(&self) -> &'static [&'static str] {
        match self {
            // It does nothing, and ends when this process does, however that ends.
            Self::LogIn(_) => &["cat"],
            Self::Reach(_) => &["docker", "system", "dial-stdio"],
        }
    }
}

/// `ssh` for `target`. The user's settings, keys and known hosts count. What would ask somebody, wait for ever, or do more
/// than to log in does not.
fn command(target: &SshTarget, purpose: &Purpose<'_>) -> Command {
    let mut command = Command::new("ssh");
    command.args([
        "-T",
        "-a",
        "-x",
        "-oBatchMode=yes",
        "-oConnectTimeout=10",
        "-oServerAliveInterval=5",
        "-oServerAliveCountMax=3",
        "-oClearAllForwardings=yes",
        "-oPermitLocalCommand=no",
        "-oRemoteCommand=none",
        "-oControlPersist=no",
        "-oLogLevel=INFO",
    ]);
    command.args(purpose.options());
    if let Some(user) = &target.user {
        command.args(["-l", user]);
    }
    if let Some(port) = target.port {
        command.args(["-p", &port.to_string()]);
    }
    // After the dashes nothing is an option any more.
    command.arg("--").arg(&target.host).args(purpose.remote());
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // A Ctrl-C is for the manager, which lets connections finish.
        .process_group(0)
        .kill_on_drop(true);
    command
}

/// A running `ssh`, and what it said so far.
pub(super) struct Process {
    child: Child,
    stderr: Option<ChildStderr>,
    words: Vec<u8>,
}

impl Process {
    /// Starts `ssh`; gives its input and its output too.
    pub(super) fn start(
        target: &SshTarget,
        purpose: &Purpose<'_>,
    ) -> io::Result<(Self, ChildStdin, ChildStdout)> {
        let mut child = command(target, purpose)
            .spawn()
            .map_err(|error| io::Error::other(advice::of_program(&error)))?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(io::Error::other("`ssh` was started without pipes"));
        };
        let process = Self {
            stderr: child.stderr.take(),
            child,
            words: Vec::new(),
        };
        Ok((process, stdin, stdout))
    }

    /// Takes in what the process says, so that it never waits for us. Ready when it has said all.
    pub(super) fn poll_words(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while let Some(stderr) = &mut self.stderr {
            let mut bytes = [0; 1024];
            let mut buf = ReadBuf::new(&mut bytes);
            match ready!(Pin::new(stderr).poll_read(cx, &mut buf)) {
                Ok(()) if !buf.filled().is_empty() => {
                    self.words.extend_from_slice(buf.filled());
                    let surplus = self.words.len().saturating_sub(WORDS_MAX_BYTES);
                    self.words.drain(..surplus);
                }
                Ok(()) | Err(_) => self.stderr = None,
            }
        }
        Poll::Ready(())
    }

    /// Waits until the process has ended. Nothing is lost if this is dropped and called again.
    pub(super) async fn end(&mut self) -> Ended {
        std::future::poll_fn(|cx| self.poll_words(cx)).await;
        let status = self.child.wait().await.ok();
        Ended {
            status,
            said: String::from_utf8_lossy(&self.words).into_owned(),
        }
    }
}

/// How an `ssh` process ended.
pub(super) struct Ended {
    status: Option<ExitStatus>,
    said: String,
}

impl Ended {
    /// Whether all went well.
    pub(super) fn is_success(&self) -> bool {
        self.status.is_some_and(|status| status.success())
    }

    /// Whether there was a login, so that it is something at the other end that failed.
    pub(super) fn had_logged_in(&self) -> bool {
        self.code().is_some_and(|code| code != SSH_FAILED)
    }

    fn code(&self) -> Option<i32> {
        self.status.and_then(|status| status.code())
    }

    /// The error that it means.
    pub(super) fn error(&self, target: &SshTarget) -> io::Error {
        let (kind, words) = advice::of_ssh(&self.said, self.code(), target);
        io::Error::new(kind, words)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(target: &str, purpose: &Purpose<'_>) -> String {
        let target = target.parse().expect("an endpoint");
        let super::super::Endpoint::Ssh(target) = target else {
            panic!("not ssh")
        };
        let command = command(&target, purpose);
        let words = command
            .as_std()
            .get_args()
            .map(|word| word.to_string_lossy());
        words.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn what_the_user_wrote_stands_after_the_options() {
        let reach = line("ssh://ci@h:2222", &Purpose::Reach(Some(Path::new("/t/s"))));
        let end =
            "-oControlMaster=no -oControlPath=/t/s -l ci -p 2222 -- h docker system dial-stdio";
        assert!(reach.ends_with(end), "{reach}");
        let alone = line("ssh://[::1]", &Purpose::Reach(None));
        let end = "-oControlMaster=no -oControlPath=none -- ::1 docker system dial-stdio";
        assert!(alone.ends_with(end), "{alone}");
        let login = line("ssh://h", &Purpose::LogIn(Path::new("/t/s")));
        let end = "-oControlMaster=yes -oControlPath=/t/s -- h cat";
        assert!(login.ends_with(end), "{login}");
    }
}
