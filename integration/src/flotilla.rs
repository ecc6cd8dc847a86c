//! The product binary: built once, started in a folder of its own, stopped in good order.

use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::client::Docker;
use crate::lab::{Host, tail};
use crate::process::{self, Process};
use crate::{http, wait};

const BUILD: Duration = Duration::from_secs(1800);
const START: Duration = Duration::from_secs(20);
const STOP: Duration = Duration::from_secs(20);

/// Logs of managers that were dropped; a failed case shows them.
static LOGS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Takes the logs of the managers that were dropped since the last call.
pub fn take_logs() -> Vec<String> {
    std::mem::take(&mut LOGS.lock().unwrap_or_else(PoisonError::into_inner))
}

/// The path of the product binary, of the profile this very program was built with; built now if need be.
/// `$FLOTILLA_BIN` names another one.
pub fn binary() -> Result<PathBuf> {
    static BINARY: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let binary = BINARY.get_or_init(|| build().map_err(|error| format!("{error:#}")));
    binary
        .clone()
        .map_err(|message| anyhow!("the product cannot be built: {message}"))
}

fn build() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("FLOTILLA_BIN") {
        return Ok(path.into());
    }
    let own = std::env::current_exe().context("this program has no path")?;
    let mut folder = own.parent().context("this program has no folder")?;
    if folder.ends_with("deps") || folder.ends_with("examples") {
        folder = folder
            .parent()
            .context("this program is in no target folder")?;
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .args(["build", "-q", "-p", "flotilla", "--bin", "flotilla"])
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    match folder.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => {}
        Some(profile) => {
            command.args(["--profile", profile]);
        }
    }
    if let Some(target) = folder.parent() {
        command.arg("--target-dir").arg(target);
    }
    process::succeed(&mut command, BUILD)?;
    Ok(folder.join("flotilla"))
}

/// One running manager.
#[derive(Debug)]
pub struct Flotilla {
    child: Option<Child>,
    tether: Option<Tether>,
    arguments: Vec<String>,
    /// Where it looks for programs, if not where we do.
    programs: Option<PathBuf>,
    /// A process whose network it lives in, if not in ours.
    network_of: Option<i32>,
    port: u16,
    data: PathBuf,
    folder: TempDir,
}

impl Flotilla {
    /// Starts a manager of these engines (`tcp://…`, `unix://…`) with further arguments, and waits until it answers.
    pub fn start(engines: &[String], arguments: &[&str]) -> Result<Self> {
        Self::start_among(None, engines, arguments)
    }

    /// The same, where the manager finds no programs but those in one folder.
    pub fn start_among(
        programs: Option<&Path>,
        engines: &[String],
        arguments: &[&str],
    ) -> Result<Self> {
        let folder = Self::folder()?;
        let data = folder.path().join("data");
        Self::start_in(folder, data, programs, engines, arguments)
    }

    /// The same with its data in this directory.
    pub fn start_on(data: &Path, engines: &[String]) -> Result<Self> {
        Self::start_in(Self::folder()?, data.to_owned(), None, engines, &[])
    }

    /// Starts a manager in the network of a host of the lab, beside its engine.
    pub fn start_beside(host: &Host, engines: &[String]) -> Result<Self> {
        let folder = Self::folder()?;
        let data = folder.path().join("data");
        let mut flotilla = Self::new_in(folder, data, engines, &[])?;
        flotilla.network_of = Some(host.first_pid()?);
        flotilla.start_again()?;
        Ok(flotilla)
    }

    fn folder() -> Result<TempDir> {
        let mut folder = tempfile::Builder::new();
        let folder = folder.prefix("flotilla").tempdir();
        folder.context("no folder for temporary files")
    }

    fn start_in(
        folder: TempDir,
        data: PathBuf,
        programs: Option<&Path>,
        engines: &[String],
        arguments: &[&str],
    ) -> Result<Self> {
        let mut flotilla = Self::new_in(folder, data, engines, arguments)?;
        flotilla.programs = programs.map(Path::to_owned);
        flotilla.start_again()?;
        Ok(flotilla)
    }

    fn new_in(
        folder: TempDir,
        data: PathBuf,
        engines: &[String],
        arguments: &[&str],
    ) -> Result<Self> {
        // The port is free now; nobody else of this machine picks it in the moment until it is used.
        let port = TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())?
            .port();
        let mut all = vec!["serve".to_owned()];
        for listen in [
            format!("unix://{}", folder.path().join("flotilla.sock").display()),
            format!("tcp://127.0.0.1:{port}"),
        ] {
            all.extend(["--listen".to_owned(), listen]);
        }
        for engine in engines {
            all.extend(["--engine".to_owned(), engine.clone()]);
        }
        all.extend(["--data".to_owned(), data.display().to_string()]);
        all.extend(arguments.iter().map(|&argument| argument.to_owned()));
        Ok(Self {
            child: None,
            tether: None,
            arguments: all,
            programs: None,
            network_of: None,
            port,
            data,
            folder,
        })
    }

    /// Starts a stopped or killed manager with the same arguments and the same data.
    pub fn start_again(&mut self) -> Result<()> {
        if self.child.is_some() {
            bail!("the manager runs already");
        }
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_path())
            .context("cannot write its log")?;
        let mut command = match self.network_of {
            None => Command::new(binary()?),
            Some(pid) => {
                let mut nsenter = Command::new("nsenter");
                nsenter.args(["--net", "--target", &pid.to_string(), "--"]);
                nsenter.arg(binary()?);
                nsenter
            }
        };
        if let Some(programs) = &self.programs {
            command.env("PATH", programs);
        }
        let child = command
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("cannot share its log")?)
            .stderr(log)
            .process_group(0)
            .spawn()
            .context("cannot start the product")?;
        self.tether = Some(Tether::new(&child)?);
        self.child = Some(child);
        let endpoint = self.unix();
        let answer = wait::until("an answer of flotilla", START, || {
            if let Some(child) = &mut self.child
                && let Some(status) = child.try_wait()?
            {
                self.tether = None;
                self.child = None;
                return Ok(Some(Err(anyhow!("flotilla ended with {status}"))));
            }
            let ready = http::get(&endpoint, "/_ping", Duration::from_secs(2))?.status == 200;
            Ok(ready.then_some(Ok(())))
        });
        answer
            .flatten()
            .with_context(|| format!("its log ends with\n{}", tail(&self.log())))
    }

    /// Its socket as an endpoint.
    #[must_use]
    pub fn unix(&self) -> String {
        format!(
            "unix://{}",
            self.folder.path().join("flotilla.sock").display()
        )
    }

    /// Its port as an endpoint.
    #[must_use]
    pub fn tcp(&self) -> String {
        format!("tcp://127.0.0.1:{}", self.port)
    }

    /// The stock CLI for this manager.
    pub fn docker(&self) -> Result<Docker> {
        Docker::new(&self.unix())
    }

    /// The number of its process, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// How many processes of its own have ended without being waited for.
    #[must_use]
    pub fn zombies(&self) -> usize {
        let pid = self.pid().and_then(|pid| i32::try_from(pid).ok());
        pid.map_or(0, process::zombies)
    }

    /// The folder its data is in.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.data.clone()
    }

    /// What it logged so far.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// Stops it in good order; an error if it had to be killed or ended with a failure.
    pub fn stop(&mut self) -> Result<()> {
        self.tether = None;
        let Some(mut child) = self.child.take() else {
            return Ok(());
        };
        signal(&child, Signal::TERM);
        match wait::until("flotilla to stop", STOP, || Ok(child.try_wait()?)) {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => bail!(
                "flotilla ended with {status}; its log ends with\n{}",
                tail(&self.log())
            ),
            Err(error) => {
                drop(child.kill());
                drop(child.wait());
                Err(error.context(format!("its log ends with\n{}", tail(&self.log()))))
            }
        }
    }

    /// Ends it at once, as a crash would.
    pub fn kill(&mut self) -> Result<()> {
        self.tether = None;
        let Some(mut child) = self.child.take() else {
            bail!("the manager does not run")
        };
        child
            .kill()
            .and_then(|()| child.wait())
            .map(drop)
            .context("cannot kill the manager")
    }

    fn log_path(&self) -> PathBuf {
        Path::new(self.folder.path()).join("flotilla.log")
    }
}

impl Drop for Flotilla {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            eprintln!("{error:#}");
        }
        LOGS.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(self.log());
    }
}

/// Ends a manager whose owner died: a shell that waits on a pipe of the owner. It goes before the manager is waited for,
/// so that it never sees the manager's number again as another process.
#[derive(Debug)]
struct Tether(Child);

impl Tether {
    fn new(child: &Child) -> Result<Self> {
        let script = "read -r _; kill -KILL \"$1\"";
        let shell = Command::new("sh")
            .args(["-c", script, "tether", &child.id().to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn();
        shell.map(Self).context("cannot start `sh`")
    }
}

impl Drop for Tether {
    fn drop(&mut self) {
        // It does nothing but wait.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn signal(child: &Child, signal: Signal) {
    if let Some(process) = i32::try_from(child.id()).ok().and_then(Process::find) {
        // It may have ended by itself; waiting for it tells.
        drop(process.signal(signal));
    }
}
