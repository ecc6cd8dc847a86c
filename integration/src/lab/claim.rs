//! Which number a lab has, and who owns it: two labs never share a network, and a dead owner's lab is swept.
//!
//! **Invariant**: a lab's folder names its owner from the moment it exists.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::Signal;

use crate::install;
use crate::process::{self, Process};

/// The second byte of a lab's network, clear of what engines hand out by themselves. Cases that name subnets take others.
const NUMBERS: std::ops::Range<u8> = 64..128;
pub(super) const QUICK: Duration = Duration::from_secs(20);

/// The right to one number, and the folder that shows it.
#[derive(Debug)]
pub(super) struct Claim {
    pub(super) number: u8,
    pub(super) folder: PathBuf,
}

impl Claim {
    /// Sweeps what dead owners left, then takes a free number.
    pub(super) fn take() -> Result<Self> {
        let _lock = install::lock("labs.lock")?;
        sweep_locked()?;
        let owner = Process::current()?;
        let taken = networks()?;
        let span = NUMBERS.end - NUMBERS.start;
        let first = u8::try_from(owner.pid % i32::from(span)).unwrap_or_default();
        for step in 0..span {
            let number = NUMBERS.start + (first + step) % span;
            let claim = Self {
                number,
                folder: labs().join(number.to_string()),
            };
            if taken.contains(&format!(" 10.{number}.")) || claim.folder.exists() {
                continue;
            }
            // A link of this name belongs to a lab with another lab folder.
            if Path::new("/sys/class/net").join(claim.link()).exists() {
                continue;
            }
            let partial = labs().join(format!("{number}.partial"));
            fs::create_dir_all(&partial)
                .with_context(|| format!("cannot create {}", partial.display()))?;
            fs::write(partial.join("owner"), owner.line())
                .context("cannot write the owner of the lab")?;
            fs::rename(&partial, &claim.folder)
                .context("cannot put the lab's folder in its place")?;
            return Ok(claim);
        }
        bail!("all {span} labs of this machine are in use; end some, or run `lab clean`")
    }

    /// The machine's end of the cable to the lab.
    pub(super) fn link(&self) -> String {
        link(self.number)
    }

    /// The group all of the lab's containers live in.
    pub(super) fn group(&self) -> String {
        group(self.number)
    }

    /// Lets go on what is frozen on a host: see [`thaw`].
    pub(super) fn thaw(&self, host: &str) {
        thaw(&format!("{}/{host}", self.group()));
    }

    /// Remembers a process, for whoever must clean up after a dead owner.
    pub(super) fn remember(&self, process: Process) -> Result<()> {
        let path = self.folder.join("processes");
        let mut file = fs::File::options().create(true).append(true).open(&path)?;
        file.write_all(process.line().as_bytes())
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// Removes what the kernel does not remove by itself once the lab's processes are gone.
    pub(super) fn release(&self, keep: bool) -> Result<()> {
        let kept = keep.then(|| {
            install::folder()
                .join("kept")
                .join(format!("{}-{}", self.number, std::process::id()))
        });
        remove(self.number, &self.folder, kept.as_deref())
    }
}

fn labs() -> PathBuf {
    install::folder().join("labs")
}

fn link(number: u8) -> String {
    format!("flotilla{number}")
}

fn group(number: u8) -> String {
    format!("flotilla-lab-{number}")
}

/// The machine's addresses and routes, to see which networks are in use.
fn networks() -> Result<String> {
    let ask = |what| process::succeed(Command::new("ip").args(["-4", "-o", what, "show"]), QUICK);
    let routes = ask("route")?;
    let routes: String = routes.lines().map(|line| format!(" {line}\n")).collect();
    Ok(ask("address")? + &routes)
}

/// Removes the labs whose owner is gone; returns how many there were.
pub fn sweep() -> Result<usize> {
    let _lock = install::lock("labs.lock")?;
    sweep_locked()
}

fn sweep_locked() -> Result<usize> {
    let folder = labs();
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let mut swept = 0;
    for entry in
        fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?
    {
        let path = entry?.path();
        let number = path
            .file_name()
            .and_then(|name| name.to_str())
            .and_then(|name| name.parse().ok());
        let Some(number) = number else {
            // Cut short while it was made; nothing runs yet.
            fs::remove_dir_all(&path)
                .with_context(|| format!("cannot remove {}", path.display()))?;
            continue;
        };
        let owner = fs::read_to_string(path.join("owner"))
            .ok()
            .and_then(|line| Process::parse(&line));
        if owner.is_some_and(Process::is_alive) {
            continue;
        }
        let processes = fs::read_to_string(path.join("processes")).unwrap_or_default();
        for process in processes
            .lines()
            .filter_map(Process::parse)
            .filter(|process| process.is_alive())
        {
            // It may end by itself in between.
            drop(process.signal(Signal::KILL));
        }
        remove(number, &path, None)?;
        swept += 1;
    }
    Ok(swept)
}

fn remove(number: u8, folder: &Path, kept: Option<&Path>) -> Result<()> {
    if Path::new("/sys/class/net").join(link(number)).exists() {
        // The kernel removes it too, together with the network it leads to.
        drop(process::succeed(
            Command::new("ip").args(["link", "delete", &link(number)]),
            QUICK,
        ));
    }
    thaw(&group(number));
    remove_groups(&group(number))?;
    if let Some(kept) = kept {
        fs::create_dir_all(kept.parent().unwrap_or(kept))
            .context("cannot create the folder for kept labs")?;
        return fs::rename(folder, kept).with_context(|| format!("cannot keep {}", kept.display()));
    }
    // The last mounts vanish a moment after the last process.
    retry(|| fs::remove_dir_all(folder))
        .with_context(|| format!("cannot remove {}", folder.display()))
}

/// Lets paused containers go on, if only to their end: what version 1 has frozen cannot even be killed, and keeps its
/// namespaces and its group alive.
fn thaw(name: &str) {
    for tree in trees(name) {
        thaw_group(&tree);
    }
}

fn thaw_group(group: &Path) {
    for (file, word) in [("freezer.state", "THAWED"), ("cgroup.freeze", "0")] {
        let file = group.join(file);
        if file.exists() {
            // A group that is gone meanwhile is as good.
            drop(fs::write(file, word));
        }
    }
    let entries = fs::read_dir(group).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| entry.path().is_dir()) {
        thaw_group(&entry.path());
    }
}

/// The groups of this name: version 1 has one tree per controller, version 2 has one in all.
fn trees(name: &str) -> Vec<PathBuf> {
    let base = Path::new("/sys/fs/cgroup");
    let controllers = fs::read_dir(base).into_iter().flatten().flatten();
    let controllers = controllers.map(|entry| entry.path());
    let mut trees: Vec<_> = std::iter::once(base.to_owned())
        .chain(controllers)
        .map(|tree| tree.join(name))
        .collect();
    trees.retain(|tree| tree.is_dir());
    trees
}

/// Control groups outlive their processes.
fn remove_groups(name: &str) -> Result<()> {
    for tree in trees(name) {
        retry(|| remove_group(&tree))
            .with_context(|| format!("cannot remove the group {}", tree.display()))?;
    }
    Ok(())
}

fn remove_group(group: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(group)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_group(&entry.path())?;
        }
    }
    fs::remove_dir(group)
}

fn retry(mut work: impl FnMut() -> std::io::Result<()>) -> std::io::Result<()> {
    for _ in 0..100 {
        if work().is_ok() {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(20));
    }
    work()
}
