//! Logins by ssh to hosts of a lab: unmodified OpenSSH at both ends, with keys and settings of the lab alone.
//!
//! A host with `sshd` has three users, who all come in with the lab's key: `root`, who has the engine's CLI and may use
//! its socket; `guest`, who may not; and `bare`, who has no programs at all.
//!
//! **Invariant**: nobody's own keys, known hosts and settings are read or written.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use rustix::process::Signal;

use super::claim::QUICK;
use crate::install::Engine;
use crate::process::{self, Process};

/// The client's side of all of a lab's logins.
#[derive(Debug)]
pub struct Ssh {
    programs: Engine,
    folder: PathBuf,
}

impl Ssh {
    pub(super) fn new(programs: Engine, folder: PathBuf) -> Result<Self> {
        let ssh = Self { programs, folder };
        let bin = ssh.path();
        fs::create_dir_all(&bin).with_context(|| format!("cannot create {}", bin.display()))?;
        ssh.make_key(&ssh.folder.join("id"))?;
        let at = ssh.folder.display();
        let settings = format!(
            "Host *\n  User root\n  IdentitiesOnly yes\n  IdentityFile {at}/id\n  UserKnownHostsFile {at}/known_hosts\n  \
             GlobalKnownHostsFile /dev/null\n"
        );
        ssh.write("config", &settings)?;
        ssh.write("known_hosts", "")?;
        let program = ssh.programs.program("ssh")?;
        let script = format!(
            "#!/bin/sh\nexec {} -F {at}/config \"$@\"\n",
            program.display()
        );
        ssh.write("bin/ssh", &script)?;
        let runs = fs::Permissions::from_mode(0o755);
        fs::set_permissions(bin.join("ssh"), runs).context("cannot make `ssh` a program")?;
        Ok(ssh)
    }

    /// The folder with a program `ssh` that has the lab's settings; to stand first in a PATH.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.folder.join("bin")
    }

    /// Puts settings (of `ssh_config`) before all others.
    pub fn put_settings(&self, settings: &str) -> Result<()> {
        let before = self.read("config")?;
        self.write("config", &format!("{settings}\n{before}"))
    }

    /// Adds a line to the known hosts: `name type key`.
    pub fn add_known_host(&self, line: &str) -> Result<()> {
        let before = self.read("known_hosts")?;
        self.write("known_hosts", &format!("{before}{line}\n"))
    }

    /// Makes a key, and returns its public half: `type key`.
    pub fn make_key(&self, path: &Path) -> Result<String> {
        let mut make = Command::new(self.programs.program("ssh-keygen")?);
        make.args(["-q", "-t", "ed25519", "-N", "", "-C", "", "-f"])
            .arg(path);
        process::succeed(&mut make, QUICK)?;
        let public = path.with_extension("pub");
        let public = fs::read_to_string(&public)
            .with_context(|| format!("cannot read {}", public.display()))?;
        Ok(public.trim().to_owned())
    }

    /// How many `ssh` processes there are with the lab's settings, whoever started them.
    #[must_use]
    pub fn count(&self) -> usize {
        self.processes().count()
    }

    /// How many of them are logins that others go through.
    #[must_use]
    pub fn count_logins(&self) -> usize {
        self.logins().count()
    }

    /// Ends all logins at once.
    pub fn kill_logins(&self) -> Result<()> {
        self.logins()
            .try_for_each(|login| login.signal(Signal::KILL))
    }

    /// Stops all logins in their tracks.
    pub fn hang_logins(&self) -> Result<()> {
        self.logins()
            .try_for_each(|login| login.signal(Signal::STOP))
    }

    fn logins(&self) -> impl Iterator<Item = Process> {
        self.processes()
            .filter(|process| process.line_of_command().contains("ControlMaster=yes"))
    }

    fn processes(&self) -> impl Iterator<Item = Process> {
        let settings = self.folder.join("config").display().to_string();
        let found = process::mentioning(&settings);
        found.into_iter().filter_map(Process::find)
    }

    /// Writes what `sshd` needs on a host with this address and engine into the folder `ssh` of the host's own, and makes
    /// the host known. The paths in it are those that the host itself sees.
    pub(super) fn prepare_host(&self, host: &Path, address: &str) -> Result<()> {
        let folder = host.join("ssh");
        fs::create_dir_all(&folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        let key = self.make_key(&folder.join("host_key"))?;
        self.add_known_host(&format!("{address} {key}"))?;
        let write = |name: &str, content: &str| {
            let path = folder.join(name);
            fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))
        };
        write("authorized_keys", &self.read("id.pub")?)?;
        let bin = "/run/lab/engine";
        write(
            "sshd_config",
            &format!(
                "ListenAddress 0.0.0.0\nHostKey /run/lab/host/ssh/host_key\n\
                 AuthorizedKeysFile /run/lab/host/ssh/authorized_keys\nStrictModes no\nPidFile none\nUsePAM no\n\
                 PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\n\
                 SetEnv PATH={bin}/usr/local/bin:{bin}/usr/bin:/usr/bin:/bin\nMatch User bare\n  SetEnv PATH=/nowhere\n"
            ),
        )
    }

    /// Where the programs are.
    pub(super) fn root(&self) -> &Path {
        self.programs.root()
    }

    fn read(&self, name: &str) -> Result<String> {
        let path = self.folder.join(name);
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    }

    fn write(&self, name: &str, content: &str) -> Result<()> {
        let path = self.folder.join(name);
        fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))
    }
}
