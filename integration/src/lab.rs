//! Docker hosts made of namespaces, each with its own unmodified engine.
//!
//! ```text
//!  this machine          a switch                 a host: namespaces for processes, mounts, network, name
//!  flotillaN ──────────── bridge ── port1 ─────── eth0  dockerd, containerd, containers
//!  10.N.0.1                  └───── port2 …       10.N.0.11
//! ```
//!
//! Nothing of this machine is changed but for one link, one folder and one control group per lab (and a limit on
//! inotify that ten engines need). Its firewall sees only what goes between this machine and the lab.
//!
//! **Invariant**: a lab ends with its owner. In good order by [`Lab::end`] or `Drop`; else each host's first process sees
//! its pipe close, and the next lab sweeps the folder.

mod authority;
mod claim;
mod host;
mod leavings;
mod ssh;

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result, anyhow};

pub use authority::Authority;
pub use claim::sweep;
pub use host::Host;
pub(crate) use host::tail;
pub use ssh::Ssh;

pub use crate::install::{EngineVersion, Unavailable};

use crate::install;
use crate::process::{self, Process};
use claim::{Claim, QUICK};

const BRIDGE: &str = "lab";
const INOTIFY: &str = "/proc/sys/fs/inotify/max_user_instances";
const INOTIFY_INSTANCES: u32 = 1024;

/// What one host shall be.
#[derive(Debug, Clone, Default)]
pub struct HostSpec {
    /// Which engine it runs.
    pub engine: EngineVersion,
    /// Whether it starts without the image `busybox:latest`.
    pub bare: bool,
    /// Labels of the engine: `disk=ssd`.
    pub labels: Vec<String>,
    /// Further flags of the engine.
    pub flags: Vec<String>,
    /// How many of this machine's CPUs it has, if not all.
    pub cpus: Option<usize>,
    /// How much memory it says that it has, in MiB, if not all of this machine's.
    pub memory_mib: Option<u64>,
    /// Whether the engine wants TLS over the network, at port 2376, with certificates of the lab at both ends.
    pub tls: bool,
    /// Whether `sshd` runs beside the engine.
    pub ssh: bool,
}

impl HostSpec {
    /// A host with the old engine.
    #[must_use]
    pub fn old() -> Self {
        Self {
            engine: EngineVersion::Old,
            ..Self::default()
        }
    }

    /// The same with one more engine label.
    #[must_use]
    pub fn label(mut self, label: &str) -> Self {
        self.labels.push(label.to_owned());
        self
    }

    /// The same with one more flag of the engine.
    #[must_use]
    pub fn flag(mut self, flag: &str) -> Self {
        self.flags.push(flag.to_owned());
        self
    }

    /// The same with so many of this machine's CPUs: its engine and all containers run on those.
    #[must_use]
    pub fn cpus(mut self, cpus: usize) -> Self {
        self.cpus = Some(cpus);
        self
    }

    /// The same with so much memory, as far as its engine can tell: nothing is kept from using more.
    #[must_use]
    pub fn memory_mib(mut self, memory_mib: u64) -> Self {
        self.memory_mib = Some(memory_mib);
        self
    }

    /// The same with TLS.
    #[must_use]
    pub fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// The same with `sshd`.
    #[must_use]
    pub fn ssh(mut self) -> Self {
        self.ssh = true;
        self
    }

    /// The same without any image.
    #[must_use]
    pub fn bare(mut self) -> Self {
        self.bare = true;
        self
    }
}

/// What a lab shall be.
#[derive(Debug, Clone, Default)]
pub struct Spec {
    /// Its hosts, in order.
    pub hosts: Vec<HostSpec>,
    /// Whether logs and data stay in the lab folder, under `kept`, when the lab ends.
    pub keep: bool,
}

impl Spec {
    /// This many hosts with the current engine and the standard image.
    #[must_use]
    pub fn hosts(count: usize) -> Self {
        Self {
            hosts: vec![HostSpec::default(); count],
            keep: false,
        }
    }

    /// The same with one more host.
    #[must_use]
    pub fn and(mut self, host: HostSpec) -> Self {
        self.hosts.push(host);
        self
    }
}

/// Says why there can be no lab here, as far as that is clear without downloading anything.
#[must_use]
pub fn unavailable() -> Option<Unavailable> {
    install::impossible()
}

/// Running hosts. Ends with its owner, in good order when dropped.
#[derive(Debug)]
pub struct Lab {
    hosts: Vec<Host>,
    claim: Arc<Claim>,
    switch: Mutex<Option<Child>>,
    keep: bool,
    authority: Authority,
    ssh: Option<Ssh>,
}

impl Lab {
    /// Starts all hosts at once and waits until their engines answer. The error is [`Unavailable`] (see
    /// [`anyhow::Error::downcast_ref`]) where a lab is impossible, anything else where it should have worked.
    pub fn start(spec: &Spec) -> Result<Self> {
        let image = install::busybox()?;
        let engines = spec
            .hosts
            .iter()
            .map(|host| install::engine(host.engine))
            .collect::<Result<Vec<_>, _>>()?;
        let wants_ssh = spec.hosts.iter().any(|host| host.ssh);
        let ssh = wants_ssh.then(install::ssh).transpose()?;
        raise_inotify()?;
        let claim = Arc::new(Claim::take()?);
        // From here on, dropping the lab cleans up.
        let mut lab = Self {
            hosts: Vec::new(),
            claim,
            switch: Mutex::new(None),
            keep: spec.keep,
            authority: Authority::new()?,
            ssh: None,
        };
        lab.authority.write_client(&lab.tls())?;
        if let Some(programs) = ssh {
            lab.ssh = Some(Ssh::new(programs, lab.claim.folder.join("ssh"))?);
        }
        let switch = lab.connect()?;
        for (index, (host, engine)) in spec.hosts.iter().zip(engines).enumerate() {
            let host = Host::new(
                &lab.claim,
                switch,
                index + 1,
                host.clone(),
                engine,
                lab.ssh.as_ref().map(|ssh| ssh.root().to_owned()),
            )?;
            if host.spec().tls {
                host.certify(&lab.authority, &[host.address(), host.name()])?;
            }
            if let Some(ssh) = lab.ssh.as_ref().filter(|_| host.spec().ssh) {
                ssh.prepare_host(host.folder(), host.address())?;
            }
            lab.hosts.push(host);
        }
        lab.each(|host| {
            host.power_on()?;
            if host.spec().bare {
                Ok(())
            } else {
                host.load_image(&image)
            }
        })?;
        Ok(lab)
    }

    /// The host with this index, from 0; it is called `host1` if the index is 0.
    #[must_use]
    pub fn host(&self, index: usize) -> &Host {
        &self.hosts[index]
    }

    /// The host of this name; an error if there is none.
    pub fn host_named(&self, name: &str) -> Result<&Host> {
        let mut hosts = self.hosts.iter();
        hosts
            .find(|host| host.name() == name)
            .with_context(|| format!("the lab has no host {name}"))
    }

    /// All hosts.
    #[must_use]
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// This machine's address in the lab's network, where hosts reach what listens here.
    #[must_use]
    pub fn gateway(&self) -> String {
        format!("10.{}.0.1", self.claim.number)
    }

    /// The folder with the files of a client whom all engines with TLS accept, as in `DOCKER_CERT_PATH`.
    #[must_use]
    pub fn tls(&self) -> PathBuf {
        self.claim.folder.join("tls")
    }

    /// Who made the certificates.
    #[must_use]
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Logins to the hosts with `sshd`; an error if there is none.
    pub fn ssh(&self) -> Result<&Ssh> {
        self.ssh.as_ref().context("no host of this lab has `sshd`")
    }

    /// The engines' endpoints over the network.
    #[must_use]
    pub fn endpoints(&self) -> Vec<String> {
        self.hosts.iter().map(Host::tcp).collect()
    }

    /// The folder with all that is this lab's: a folder per host with `dockerd.log` and `data`.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.claim.folder
    }

    /// The name of the machine's link into the lab.
    #[must_use]
    pub fn link(&self) -> String {
        self.claim.link()
    }

    /// Does the same on all hosts at once; tells the first error.
    pub fn each(&self, work: impl Fn(&Host) -> Result<()> + Sync) -> Result<()> {
        let work = &work;
        thread::scope(|scope| {
            let running: Vec<_> = self
                .hosts
                .iter()
                .map(|host| scope.spawn(move || work(host)))
                .collect();
            let mut joined = running.into_iter().map(|thread| thread.join());
            joined.try_for_each(|outcome| {
                outcome.unwrap_or_else(|_| Err(anyhow!("a thread panicked")))
            })
        })
    }

    /// Undoes every fault and removes what cases left on the hosts.
    pub fn recover(&self) -> Result<()> {
        self.each(|host| {
            host.recover()?;
            host.clean()
        })
    }

    /// What is left of this lab on this machine: processes, links, mounts, groups, files. Empty once it ended.
    pub fn remains(&self) -> Vec<String> {
        let folder = self.claim.folder.display().to_string();
        let mut remains: Vec<String> = process::mentioning(&format!("{folder}/"))
            .into_iter()
            .filter(|pid| i64::from(*pid) != i64::from(std::process::id()))
            .map(|pid| format!("process {pid}"))
            .collect();
        let groups = fs::read_dir("/sys/fs/cgroup")
            .into_iter()
            .flatten()
            .flatten();
        let mut paths = vec![
            self.claim.folder.clone(),
            Path::new("/sys/class/net").join(self.link()),
        ];
        paths.push(Path::new("/sys/fs/cgroup").join(self.claim.group()));
        paths.extend(groups.map(|tree| tree.path().join(self.claim.group())));
        remains.extend(
            paths
                .into_iter()
                .filter(|path| path.exists())
                .map(|path| path.display().to_string()),
        );
        remains
    }

    /// Ends all hosts and removes what the lab brought. Done by `Drop` too; calling it twice is harmless.
    pub fn end(&self) -> Result<()> {
        let Some(mut switch) = self
            .switch
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
        else {
            return Ok(());
        };
        thread::scope(|scope| {
            for host in &self.hosts {
                scope.spawn(|| host.end());
            }
        });
        // A process that ended by itself is as good.
        drop(switch.kill());
        drop(switch.wait());
        self.claim.release(self.keep)
    }

    /// Starts the switch, a network with nothing but a bridge, and plugs this machine in.
    fn connect(&mut self) -> Result<Process> {
        let child = Command::new("unshare")
            .args(["--net", "cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .process_group(0)
            .spawn()
            .context("cannot start `unshare`")?;
        let pid = i32::try_from(child.id()).context("process number out of range")?;
        *self
            .switch
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner) = Some(child);
        let process = Process::find(pid).context("the lab's switch ended at once")?;
        self.claim.remember(process)?;
        let own = fs::read_link("/proc/self/ns/net")?;
        crate::wait::until_true("the lab's switch", QUICK, || {
            Ok(fs::read_link(format!("/proc/{pid}/ns/net"))? != own)
        })?;
        let (link, address) = (self.claim.link(), format!("{}/24", self.gateway()));
        ip_at(process, &["link", "add", BRIDGE, "up", "type", "bridge"])?;
        ip(&[
            "link",
            "add",
            &link,
            "type",
            "veth",
            "peer",
            "name",
            "machine",
            "netns",
            &pid.to_string(),
        ])?;
        ip_at(process, &["link", "set", "machine", "master", BRIDGE, "up"])?;
        ip(&["address", "add", &address, "dev", &link])?;
        ip(&["link", "set", &link, "up"])?;
        Ok(process)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("lab: {error:#}; `lab clean` tries again");
        }
    }
}

fn ip(arguments: &[&str]) -> Result<String> {
    process::succeed(Command::new("ip").args(arguments), QUICK)
}

/// Runs `ip` in the network of another process.
fn ip_at(process: Process, arguments: &[&str]) -> Result<String> {
    let network = PathBuf::from(format!("/proc/{}/ns/net", process.pid));
    let mut command = Command::new("nsenter");
    command
        .arg(format!("--net={}", network.display()))
        .arg("ip")
        .args(arguments);
    process::succeed(&mut command, QUICK)
}

/// Some eight engines use up what a machine allows by default.
fn raise_inotify() -> Result<()> {
    let limit = fs::read_to_string(INOTIFY).with_context(|| format!("cannot read {INOTIFY}"))?;
    if limit
        .trim()
        .parse::<u32>()
        .is_ok_and(|limit| limit >= INOTIFY_INSTANCES)
    {
        return Ok(());
    }
    fs::write(INOTIFY, INOTIFY_INSTANCES.to_string())
        .with_context(|| format!("cannot raise {INOTIFY}"))
}
