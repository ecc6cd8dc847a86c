//! A real registry beside a lab, which every host trusts: pulls and pushes are what they are elsewhere.
//!
//! **Invariant**: it ends with its owner, as a lab does: the first process of its process namespace waits on a pipe.

use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::lab::{Lab, tail};
use crate::{http, install, wait};

const START: Duration = Duration::from_secs(20);

/// Who a private registry knows.
pub const USER: &str = "keeper";
/// The user's password.
pub const PASSWORD: &str = "lighthouse";
/// [`PASSWORD`] as bcrypt has it.
const HASH: &str = "$2y$05$abcdefghijklmnopqrstuuOYH8BVNQIUH.BPepBWz.zkNhYx0I29W";

/// A running registry.
#[derive(Debug)]
pub struct Registry {
    child: Child,
    address: String,
    folder: TempDir,
}

impl Registry {
    /// Starts an empty registry at this machine's address in the lab's network.
    pub fn start(lab: &Lab) -> Result<Self> {
        Self::begin(lab, false)
    }

    /// Starts one that knows [`USER`] alone.
    pub fn private(lab: &Lab) -> Result<Self> {
        Self::begin(lab, true)
    }

    fn begin(lab: &Lab, private: bool) -> Result<Self> {
        let program = install::registry()?;
        let folder = tempfile::Builder::new()
            .prefix("registry")
            .tempdir_in(lab.folder());
        let folder = folder.context("no folder for the registry")?;
        let port = TcpListener::bind((lab.gateway().as_str(), 0))
            .and_then(|listener| listener.local_addr())?
            .port();
        let address = format!("{}:{port}", lab.gateway());
        let mut config = serde_json::json!({
            "version": 0.1,
            "log": { "level": "warn" },
            "storage": { "filesystem": { "rootdirectory": folder.path().join("data") }, "delete": { "enabled": true } },
            "http": { "addr": address, "secret": "of no use" },
        });
        if private {
            let users = folder.path().join("users");
            fs::write(&users, format!("{USER}:{HASH}\n")).context("cannot write the users")?;
            config["auth"] = serde_json::json!({ "htpasswd": { "realm": "lab", "path": users } });
        }
        let settings = folder.path().join("config.json");
        fs::write(&settings, config.to_string()).context("cannot write the registry's settings")?;
        let log =
            File::create(folder.path().join("log")).context("cannot write the registry's log")?;
        let child = Command::new("unshare")
            .args([
                "--pid",
                "--fork",
                "--kill-child",
                "bash",
                "-c",
                "\"$@\" </dev/null & read -r _",
                "registry",
            ])
            .arg(program)
            .arg("serve")
            .arg(&settings)
            .stdin(Stdio::piped())
            .stdout(log.try_clone().context("cannot share the registry's log")?)
            .stderr(log)
            .process_group(0)
            .spawn()
            .context("cannot start `unshare`")?;
        let registry = Self {
            child,
            address,
            folder,
        };
        let endpoint = format!("tcp://{}", registry.address);
        let answer = if private { 401 } else { 200 };
        let ready = || Ok(http::get(&endpoint, "/v2/", Duration::from_secs(2))?.status == answer);
        wait::until_true("an answer of the registry", START, ready)
            .with_context(|| format!("its log ends with\n{}", tail(&registry.log())))?;
        Ok(registry)
    }

    /// `10.N.0.1:port`: images are called `10.N.0.1:port/name:tag`.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// What it logged so far.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // Its pipe closes, and with it the whole process namespace goes.
        drop(self.child.stdin.take());
        drop(self.child.wait());
    }
}
