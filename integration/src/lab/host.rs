//! One host: its namespaces, its engine, and what can go wrong with it.
//!
//! A host is powered by one process, the first of its process namespace. All others, containers included, are below it,
//! and its mounts and its network exist only as long as it does. So power loss is one signal, and leaves nothing.
//!
//! **Invariant**: what survives a power loss is in the host's folder, as it would be on a disk.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;

use super::authority::Authority;
use super::claim::{Claim, QUICK};
use super::{BRIDGE, HostSpec};
use crate::client::Docker;
use crate::install::Engine;
use crate::process::{self, Process};
use crate::{http, wait};

/// How long an engine may take to answer once it was started.
const START: Duration = Duration::from_secs(60);
/// How long an engine may take to stop its containers and itself.
pub(super) const STOP: Duration = Duration::from_secs(40);
/// Linux allows 108 bytes for the path of a socket, one of them a zero.
const SOCKET_PATH: usize = 107;

/// One host of a lab.
#[derive(Debug)]
pub struct Host {
    name: String,
    address: String,
    folder: PathBuf,
    spec: HostSpec,
    engine: Engine,
    docker: Docker,
    number: usize,
    claim: Arc<Claim>,
    switch: Process,
    /// Where the programs for logins by ssh are.
    ssh: Option<PathBuf>,
    power: Mutex<Option<Power>>,
}

/// What keeps a host running.
#[derive(Debug)]
struct Power {
    /// `unshare`, the parent of the host's first process.
    outer: Child,
    first: Process,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Host {
    pub(super) fn new(
        claim: &Arc<Claim>,
        switch: Process,
        number: usize,
        spec: HostSpec,
        engine: Engine,
        ssh: Option<PathBuf>,
    ) -> Result<Self> {
        let name = format!("host{number}");
        let address = format!("10.{}.0.{}", claim.number, 10 + number);
        let folder = claim.folder.join(&name);
        fs::create_dir_all(&folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        let endpoint = if spec.tls {
            format!("unix://{}", folder.join("docker.sock").display())
        } else {
            format!("tcp://{address}:2375")
        };
        let host = Self {
            docker: Docker::within(&endpoint, folder.join("cli"))?,
            claim: Arc::clone(claim),
            switch,
            name,
            address,
            folder,
            engine,
            number,
            ssh: ssh.filter(|_| spec.ssh),
            spec,
            power: Mutex::new(None),
        };
        let length = host.unix_socket().as_os_str().len();
        ensure!(
            length <= SOCKET_PATH,
            "{} is too long for a socket ({length} bytes of {SOCKET_PATH}); set FLOTILLA_LAB_DIR to a shorter path",
            host.unix_socket().display()
        );
        Ok(host)
    }

    /// The host name: `host1`, `host2` …
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The address in the lab's network, reachable from this machine.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The engine's endpoint: `tcp://10.N.0.x:2375`; with TLS the port is 2376.
    #[must_use]
    pub fn tcp(&self) -> String {
        format!("tcp://{}:{}", self.address, self.port_of_engine())
    }

    const fn port_of_engine(&self) -> u16 {
        if self.spec.tls { 2376 } else { 2375 }
    }

    /// The endpoint by ssh: `ssh://10.N.0.x`.
    #[must_use]
    pub fn ssh(&self) -> String {
        format!("ssh://{}", self.address)
    }

    /// Gives the engine a certificate for these names and addresses, which counts when it starts again.
    pub fn certify(&self, authority: &Authority, names: &[&str]) -> Result<()> {
        authority.write_server(&self.folder.join("tls"), names)
    }

    /// The engine's socket, reachable from this machine even while the host is cut off.
    #[must_use]
    pub fn unix_socket(&self) -> PathBuf {
        self.folder.join("docker.sock")
    }

    /// The socket as an endpoint: `unix:///…`.
    #[must_use]
    pub fn unix(&self) -> String {
        format!("unix://{}", self.unix_socket().display())
    }

    /// What this host was asked to be.
    #[must_use]
    pub fn spec(&self) -> &HostSpec {
        &self.spec
    }

    /// The folder that stands for the host's disk: `data` is its `/var/lib/docker`.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Runs the stock CLI against this engine; returns its output, or an error with what it said.
    pub fn docker(&self, arguments: &[&str]) -> Result<String> {
        self.docker.run(arguments)?.ok()
    }

    /// The stock CLI for this engine, for all that [`Self::docker`] cannot do.
    #[must_use]
    pub fn client(&self) -> &Docker {
        &self.docker
    }

    /// The engine's version, as it says itself.
    pub fn version(&self) -> Result<String> {
        let version = http::get(&self.unix(), "/version", QUICK)?.json()?;
        Ok(version["Version"].as_str().unwrap_or("unknown").to_owned())
    }

    /// Loads the images of a tar (as `docker save` makes them).
    pub fn load_image(&self, tar: &Path) -> Result<()> {
        self.docker
            .run(&["load", "-q", "-i", &tar.to_string_lossy()])?
            .ok()
            .map(drop)
    }

    /// The engine's log so far.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("dockerd.log")).unwrap_or_default()
    }

    /// Whether the engine answers, over the network.
    #[must_use]
    pub fn answers(&self) -> bool {
        if self.spec.tls {
            // What speaks TLS says nothing to us, but the engine listens everywhere at the same time.
            return self.accepts(self.port_of_engine())
                && http::get(&self.unix(), "/_ping", Duration::from_millis(500))
                    .is_ok_and(|reply| reply.status == 200);
        }
        http::get(&self.tcp(), "/_ping", Duration::from_millis(500))
            .is_ok_and(|reply| reply.status == 200)
    }

    fn accepts(&self, port: u16) -> bool {
        let address = format!("{}:{port}", self.address).parse();
        address.is_ok_and(|address| {
            TcpStream::connect_timeout(&address, Duration::from_millis(500)).is_ok()
        })
    }

    /// Waits until the engine answers over the network.
    pub fn wait_until_it_answers(&self) -> Result<()> {
        wait::until_true(&format!("an answer of {}", self.name), START, || {
            Ok(self.answers())
        })
    }

    /// The number of its first process, as this machine knows it.
    pub fn first_pid(&self) -> Result<i32> {
        Ok(self.first()?.pid)
    }

    /// Runs a program inside the host, among its processes, mounts and network.
    pub fn command(&self, program: &str) -> Result<Command> {
        let first = self.first()?;
        let mut command = Command::new("nsenter");
        command.arg(format!("--target={}", first.pid));
        command.args(["--mount", "--uts", "--ipc", "--net", "--pid", "--", program]);
        Ok(command)
    }

    /// Unplugs the network cable: packets vanish, both sides keep running.
    pub fn cut(&self) -> Result<()> {
        self.cable("down")
    }

    /// Plugs the network cable in again.
    pub fn heal(&self) -> Result<()> {
        self.cable("up")
    }

    /// Stops the engine in its tracks: connections are accepted, nothing is answered. Containers run on.
    pub fn hang(&self) -> Result<()> {
        let engine = self.engine_process()?;
        engine.signal(Signal::STOP)?;
        wait::until_true(&format!("{} to hang", self.name), QUICK, || {
            Ok(engine.state() == Some('T'))
        })
    }

    /// Lets a hung engine go on.
    pub fn resume(&self) -> Result<()> {
        self.engine_process()?.signal(Signal::CONT)
    }

    /// Ends the engine at once, without a chance to tidy up; connections are refused. Containers run on.
    pub fn kill_engine(&self) -> Result<()> {
        self.end_engine(Signal::KILL)
    }

    /// Shuts the engine down in good order: it stops its containers first.
    pub fn stop_engine(&self) -> Result<()> {
        self.end_engine(Signal::TERM)
    }

    fn end_engine(&self, signal: Signal) -> Result<()> {
        let engine = self.engine_process()?;
        engine.signal(signal)?;
        wait::until_true(&format!("the engine of {} to end", self.name), STOP, || {
            Ok(engine.is_gone())
        })
    }

    /// Starts the engine and waits until it answers on its socket.
    pub fn start_engine(&self) -> Result<()> {
        self.order("engine")?;
        let mut seen = false;
        let mut ended = false;
        let answer = wait::until(
            &format!("the engine of {} to start", self.name),
            START,
            || {
                match (self.engine_process().is_ok(), seen) {
                    (true, _) => seen = true,
                    (false, true) => {
                        ended = true;
                        return Ok(Some(()));
                    }
                    (false, false) => {}
                }
                Ok((http::get(&self.unix(), "/_ping", QUICK)?.status == 200).then_some(()))
            },
        );
        if answer.is_err() || ended {
            let what = if ended {
                "ended while it started"
            } else {
                "does not answer"
            };
            bail!(
                "the engine of {} {what}; its log ends with\n{}",
                self.name,
                tail(&self.log())
            );
        }
        Ok(())
    }

    /// Takes the power away: the network falls silent, then every process is gone at once, containers too.
    pub fn power_off(&self) -> Result<()> {
        let mut power = self.power();
        let Some(mut running) = power.take() else {
            bail!("{} is off already", self.name)
        };
        // Silence first, or the dying engine's connections would say goodbye.
        let cut = self.cable("down");
        // An ending process is what is wanted.
        drop(running.first.signal(Signal::KILL));
        self.claim.thaw(&self.name);
        running
            .outer
            .wait()
            .with_context(|| format!("cannot wait for the end of {}", self.name))?;
        cut?;
        // The network may live on for a moment; its cable must not be in the way of the next one.
        self.switch(&["link", "delete", &self.port()]).map(drop)
    }

    /// Ends the host for good, as far as it runs. Says nothing of what it finds gone.
    pub(super) fn end(&self) {
        if let Some(mut running) = self.power().take() {
            drop(running.first.signal(Signal::KILL));
            self.claim.thaw(&self.name);
            drop(running.outer.kill());
            drop(running.outer.wait());
        }
    }

    /// Gives power: builds the host around its disk, starts the engine and waits until it answers.
    pub fn power_on(&self) -> Result<()> {
        {
            let mut power = self.power();
            ensure!(power.is_none(), "{} is on already", self.name);
            *power = Some(
                self.boot()
                    .with_context(|| format!("cannot start {}", self.name))?,
            );
        }
        self.start_engine()?;
        if self.spec.ssh {
            self.order("ssh")?;
            let listens = || Ok(self.accepts(22));
            wait::until_true(&format!("sshd on {}", self.name), QUICK, listens)?;
        }
        self.wait_until_it_answers()
    }

    /// Whether the host has power.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.power().is_some()
    }

    /// Undoes every fault: power, engine, network; waits until the engine answers.
    pub fn recover(&self) -> Result<()> {
        if !self.is_on() {
            return self.power_on();
        }
        self.heal()?;
        match self.engine_process() {
            Ok(engine) => engine.signal(Signal::CONT)?,
            Err(_) => self.start_engine()?,
        }
        self.wait_until_it_answers()
    }

    fn boot(&self) -> Result<Power> {
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.folder.join("host.log"))?;
        let mut outer = Command::new("unshare")
            .args([
                "--net",
                "--mount",
                "--uts",
                "--ipc",
                "--pid",
                "--fork",
                "--kill-child",
                "--mount-proc",
            ])
            .args(["bash", "-c", include_str!("host.sh"), "host"])
            .args([self.engine.root(), &self.folder])
            .args([&self.name, &self.address])
            .args(self.flags())
            .env_clear()
            .env("LAB_SSH", self.ssh.as_deref().unwrap_or(Path::new("")))
            .env(
                "LAB_CPUS",
                self.spec.cpus.map_or_else(String::new, cpu_list),
            )
            .env(
                "LAB_MEMORY_KIB",
                self.spec
                    .memory_mib
                    .map_or_else(String::new, |mib| (mib * 1024).to_string()),
            )
            .env(
                "PATH",
                "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            )
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            // A Ctrl-C is for the owner, who ends its hosts in good order.
            .process_group(0)
            .spawn()
            .context("cannot start `unshare`")?;
        let pipes = (outer.stdin.take(), outer.stdout.take());
        let booted = match pipes {
            (Some(orders), Some(answers)) => self.connect(&outer, orders, BufReader::new(answers)),
            _ => Err(anyhow::anyhow!("`unshare` has no pipes")),
        };
        match booted {
            Ok((first, orders, answers)) => Ok(Power {
                outer,
                first,
                orders,
                answers,
            }),
            Err(error) => {
                drop(outer.kill());
                drop(outer.wait());
                let said = fs::read_to_string(self.folder.join("host.log")).unwrap_or_default();
                Err(error.context(format!("it said: {}", tail(&said))))
            }
        }
    }

    fn connect(
        &self,
        outer: &Child,
        mut orders: ChildStdin,
        mut answers: BufReader<ChildStdout>,
    ) -> Result<(Process, ChildStdin, BufReader<ChildStdout>)> {
        let pid = i32::try_from(outer.id()).context("process number out of range")?;
        expect(&mut answers, "ready")?;
        let first = process::children(pid)
            .into_iter()
            .map(|(process, _)| process)
            .next();
        let first = first.context("`unshare` has no child")?;
        for process in Process::find(pid).into_iter().chain([first]) {
            self.claim.remember(process)?;
        }
        let port = self.port();
        let pid = first.pid.to_string();
        // The same hardware address for ever, so that neighbours need not learn it anew.
        let hardware = format!("02:f1:07:{:02x}:00:{:02x}", self.claim.number, self.number);
        self.switch(&[
            "link", "add", &port, "type", "veth", "peer", "name", "eth0", "address", &hardware,
            "netns", &pid,
        ])?;
        self.switch(&["link", "set", &port, "master", BRIDGE, "up"])?;
        writeln!(orders, "network").context("cannot give an order")?;
        expect(&mut answers, "done")?;
        Ok((first, orders, answers))
    }

    fn flags(&self) -> Vec<String> {
        let network = format!("10.{}.0.0/24", self.claim.number);
        let mut flags: Vec<String> = [
            "--log-level=warn",
            "--storage-driver=overlay2",
            "--live-restore=false",
            "--exec-opt=native.cgroupdriver=cgroupfs",
            "--host=unix:///run/docker.sock",
            "--host=unix:///run/lab/host/docker.sock",
        ]
        .map(str::to_owned)
        .to_vec();
        flags.push(format!("--host=tcp://0.0.0.0:{}", self.port_of_engine()));
        if self.spec.tls {
            let file = |flag, name| format!("--{flag}=/run/lab/host/tls/{name}.pem");
            flags.push("--tlsverify".to_owned());
            flags.push(file("tlscacert", "ca"));
            flags.push(file("tlscert", "cert"));
            flags.push(file("tlskey", "key"));
        } else {
            flags.push("--tls=false".to_owned());
        }
        flags.push(format!(
            "--cgroup-parent=/{}/{}",
            self.claim.group(),
            self.name
        ));
        flags.push(format!("--insecure-registry={network}"));
        flags.extend(
            self.spec
                .labels
                .iter()
                .map(|label| format!("--label={label}")),
        );
        flags.extend(self.spec.flags.iter().cloned());
        flags
    }

    fn order(&self, word: &str) -> Result<()> {
        let mut power = self.power();
        let Some(running) = power.as_mut() else {
            bail!("{} is off", self.name)
        };
        writeln!(running.orders, "{word}")
            .with_context(|| format!("{} takes no orders any more", self.name))?;
        expect(&mut running.answers, "done")
    }

    fn first(&self) -> Result<Process> {
        self.power()
            .as_ref()
            .map(|running| running.first)
            .with_context(|| format!("{} is off", self.name))
    }

    fn engine_process(&self) -> Result<Process> {
        let children = process::children(self.first()?.pid);
        let engine = children.into_iter().find(|(_, name)| name == "dockerd");
        engine
            .map(|(process, _)| process)
            .with_context(|| format!("no engine runs on {}", self.name))
    }

    fn cable(&self, state: &str) -> Result<()> {
        self.switch(&["link", "set", &self.port(), state]).map(drop)
    }

    /// The switch's end of this host's cable.
    fn port(&self) -> String {
        format!("port{}", self.number)
    }

    fn switch(&self, arguments: &[&str]) -> Result<String> {
        super::ip_at(self.switch, arguments)
    }

    fn power(&self) -> MutexGuard<'_, Option<Power>> {
        self.power.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The first so many CPUs, as `taskset` takes them.
fn cpu_list(cpus: usize) -> String {
    format!("0-{}", cpus.max(1) - 1)
}

fn expect(answers: &mut BufReader<ChildStdout>, word: &str) -> Result<()> {
    let mut line = String::new();
    answers
        .read_line(&mut line)
        .context("cannot read an answer")?;
    ensure!(
        line.trim() == word,
        "the host said `{}`, not `{word}`",
        line.trim()
    );
    Ok(())
}

/// The last lines of a log.
pub(crate) fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}
