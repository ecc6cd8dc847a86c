//! The stock docker CLI: unmodified, with a private configuration, a deadline, and a terminal if wanted.
//!
//! **Invariant**: nothing of the caller's Docker settings reaches the CLI; its endpoint is the one asked for.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::install::{self, Engine, EngineVersion};
use crate::{process, wait};

/// How long a command may take unless told otherwise.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Settings of the caller that would change what the CLI does.
const FOREIGN: [&str; 3] = ["DOCKER_", "COMPOSE_", "BUILDX_"];
const PROXIES: [&str; 4] = ["HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"];

/// The stock CLI for one endpoint.
#[derive(Debug, Clone)]
pub struct Docker {
    endpoint: String,
    engine: Engine,
    config: Arc<Config>,
    limit: Duration,
}

/// A folder for the CLI's settings and state.
#[derive(Debug)]
enum Config {
    /// Removed with the last [`Docker`] that uses it.
    Temporary(TempDir),
    /// Removed by whoever owns the folder around it.
    Within(PathBuf),
}

impl Config {
    fn path(&self) -> &Path {
        match self {
            Self::Temporary(folder) => folder.path(),
            Self::Within(folder) => folder,
        }
    }
}

/// How a command ended and what it said.
#[derive(Debug, Clone)]
pub struct Output {
    /// The exit code; 128 + n if signal n ended it.
    pub code: i32,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
    /// How long it ran.
    pub took: Duration,
    line: String,
}

impl Output {
    /// The output of a command that succeeded, without white space at its end; else an error with all it said.
    pub fn ok(self) -> Result<String> {
        if self.code != 0 {
            bail!(
                "`{}` ended with {}: {}{}",
                self.line,
                self.code,
                self.stdout,
                self.stderr.trim_end()
            );
        }
        Ok(self.stdout.trim_end().to_owned())
    }

    /// What a command that failed said, without white space at its end; an error if it succeeded.
    pub fn refusal(self) -> Result<String> {
        if self.code == 0 {
            bail!(
                "`{}` succeeded and said: {}{}",
                self.line,
                self.stdout,
                self.stderr.trim_end()
            );
        }
        Ok(format!("{}{}", self.stdout, self.stderr)
            .trim_end()
            .to_owned())
    }
}

impl Docker {
    /// The CLI of the current engine for `tcp://…` or `unix://…`.
    pub fn new(endpoint: &str) -> Result<Self> {
        let config = tempfile::Builder::new().prefix("docker-config").tempdir();
        Self::configured(
            endpoint,
            Config::Temporary(config.context("no folder for temporary files")?),
        )
    }

    /// The same with its settings in a folder that someone else removes.
    pub(crate) fn within(endpoint: &str, folder: PathBuf) -> Result<Self> {
        std::fs::create_dir_all(&folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        Self::configured(endpoint, Config::Within(folder))
    }

    fn configured(endpoint: &str, config: Config) -> Result<Self> {
        let engine = install::engine(EngineVersion::Current)?;
        let settings = serde_json::json!({ "cliPluginsExtraDirs": engine.plugins() });
        std::fs::write(config.path().join("config.json"), settings.to_string())
            .context("cannot write the CLI's config")?;
        Ok(Self {
            endpoint: endpoint.to_owned(),
            engine,
            config: Arc::new(config),
            limit: PATIENCE,
        })
    }

    /// The same with the CLI of another engine version.
    pub fn of(mut self, version: EngineVersion) -> Result<Self> {
        self.engine = install::engine(version)?;
        Ok(self)
    }

    /// The same with another deadline per command.
    #[must_use]
    pub fn patience(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// The endpoint it talks to.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The CLI as a command, ready for arguments.
    pub fn command(&self) -> Result<Command> {
        let mut command = Command::new(self.engine.program("docker")?);
        self.point(&mut command)?;
        Ok(command)
    }

    /// Gives a program the endpoint, and the CLI for what it leaves to that; of the caller's Docker settings it sees none.
    pub fn point(&self, program: &mut Command) -> Result<()> {
        for (name, _) in std::env::vars_os() {
            let foreign = name
                .to_str()
                .is_some_and(|name| FOREIGN.iter().any(|prefix| name.starts_with(prefix)));
            if foreign || PROXIES.iter().any(|proxy| name == *proxy) {
                program.env_remove(&name);
            }
        }
        let inherited = std::env::var_os("PATH").unwrap_or_default();
        let folders = self
            .engine
            .programs()
            .into_iter()
            .chain(std::env::split_paths(&inherited));
        program
            .env(
                "PATH",
                std::env::join_paths(folders).context("the PATH cannot be extended")?,
            )
            .env("DOCKER_HOST", &self.endpoint)
            .env("DOCKER_CONFIG", self.config.path());
        Ok(())
    }

    /// Runs the CLI to its end.
    pub fn run(&self, arguments: &[&str]) -> Result<Output> {
        self.run_with(arguments, b"")
    }

    /// Runs the CLI to its end with these bytes as its standard input.
    pub fn run_with(&self, arguments: &[&str], stdin: &[u8]) -> Result<Output> {
        let mut command = self.command()?;
        self.finish(command.args(arguments), stdin)
    }

    /// Runs a command made from [`Self::command`] to its end, for a working directory or an environment of its own.
    pub fn finish(&self, command: &mut Command, stdin: &[u8]) -> Result<Output> {
        let line = process::describe(command);
        let finished = process::run(command, stdin, self.limit)?;
        Ok(Output {
            code: code(finished.status),
            stdout: process::text(&finished.stdout),
            stderr: process::text(&finished.stderr),
            took: finished.took,
            line,
        })
    }

    /// Starts the CLI on a terminal of its own, 120 columns wide, as a person would see it.
    pub fn on_terminal(&self, arguments: &[&str]) -> Result<Terminal> {
        let mut line = "stty rows 40 cols 120; exec ".to_owned();
        let docker = self.command()?;
        let words = std::iter::once(docker.get_program().to_string_lossy().into_owned());
        for word in words.chain(arguments.iter().map(|&word| word.to_owned())) {
            write!(line, "'{}' ", word.replace('\'', r"'\''")).context("cannot quote")?;
        }
        let mut command = Command::new("script");
        command
            .args(["-q", "-e", "-f", "-c", &line, "/dev/null"])
            .env_clear();
        for (name, value) in docker.get_envs() {
            if let Some(value) = value {
                command.env(name, value);
            }
        }
        command
            .env("TERM", "xterm")
            .env("SHELL", "/bin/sh")
            .env("HOME", self.config.path());
        Terminal::start(&mut command, format!("docker {}", arguments.join(" ")))
    }
}

fn code(status: std::process::ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or_default())
}

/// A command on a pseudo-terminal: what it writes is collected, what is sent arrives as if typed.
#[derive(Debug)]
pub struct Terminal {
    line: String,
    child: Child,
    keyboard: Option<ChildStdin>,
    screen: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
    begun: Instant,
}

impl Terminal {
    fn start(command: &mut Command, line: String) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .context("cannot start `script`; install bsdutils")?;
        let keyboard = child.stdin.take();
        let screen = Arc::new(Mutex::new(Vec::new()));
        let reader = child.stdout.take().map(|mut pipe| {
            let screen = Arc::clone(&screen);
            thread::spawn(move || {
                let mut buffer = [0; 4096];
                while let Ok(count @ 1..) = pipe.read(&mut buffer) {
                    screen
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .extend_from_slice(&buffer[..count]);
                }
            })
        });
        Ok(Self {
            line,
            child,
            keyboard,
            screen,
            reader,
            begun: Instant::now(),
        })
    }

    /// Types these characters; `\n` is the return key, `\x03` Ctrl-C, `\x04` Ctrl-D.
    pub fn send(&mut self, keys: &str) -> Result<()> {
        let Some(keyboard) = &mut self.keyboard else {
            bail!("the terminal of `{}` is closed", self.line)
        };
        keyboard
            .write_all(keys.as_bytes())
            .with_context(|| format!("`{}` takes no input", self.line))
    }

    /// Makes the terminal another size, as dragging a window's corner does.
    pub fn resize(&self, rows: u16, columns: u16) -> Result<()> {
        let script = i32::try_from(self.child.id()).context("process number out of range")?;
        let docker = process::children(script);
        let (docker, _) = docker
            .first()
            .with_context(|| format!("`{}` has ended", self.line))?;
        let terminal = std::fs::read_link(format!("/proc/{}/fd/0", docker.pid))
            .context("the command has no terminal")?;
        let mut stty = Command::new("stty");
        stty.arg("-F").arg(terminal);
        stty.args(["rows", &rows.to_string(), "cols", &columns.to_string()]);
        process::succeed(&mut stty, PATIENCE).map(drop)
    }

    /// All that was shown so far.
    #[must_use]
    pub fn screen(&self) -> String {
        process::text(&self.screen.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until this text was shown.
    pub fn expect(&self, text: &str, limit: Duration) -> Result<()> {
        wait::until_true(&format!("`{text}` from `{}`", self.line), limit, || {
            Ok(self.screen().contains(text))
        })
        .with_context(|| format!("it showed: {}", self.screen()))
    }

    /// Waits for the end; the exit code is the command's, all that was shown is `stdout`.
    pub fn finish(mut self, limit: Duration) -> Result<Output> {
        let line = self.line.clone();
        let status = wait::until(&format!("the end of `{line}`"), limit, || {
            Ok(self.child.try_wait()?)
        })
        .with_context(|| format!("it showed: {}", self.screen()))?;
        if let Some(reader) = self.reader.take() {
            drop(reader.join());
        }
        let stdout = self.screen();
        Ok(Output {
            code: code(status),
            stdout,
            stderr: String::new(),
            took: self.begun.elapsed(),
            line,
        })
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            process::signal_group(self.child.id(), Signal::KILL);
            drop(self.child.wait());
        }
    }
}
