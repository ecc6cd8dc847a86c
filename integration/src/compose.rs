//! A compose project in a folder of its own, run by the stock CLI against a pool.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::client::{Output, Terminal};
use crate::pool::{self, Pool};

/// How long a command may take: one that builds and waits for health included.
const PATIENCE: Duration = Duration::from_secs(120);

/// A project: its name, its files, and the pool it is brought up in.
#[derive(Debug)]
pub struct Project<'a> {
    pool: &'a Pool,
    name: &'a str,
    folder: TempDir,
}

impl<'a> Project<'a> {
    /// A project of this name and with this `compose.yaml`.
    pub fn new(pool: &'a Pool, name: &'a str, file: &str) -> Result<Self> {
        let folder = tempfile::tempdir().context("no folder for temporary files")?;
        let project = Self { pool, name, folder };
        project.write("compose.yaml", file)?;
        Ok(project)
    }

    /// Where its files are.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Writes one of its files, over what was there.
    pub fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.folder().join(name);
        let folder = path.parent().context("a file in no folder")?;
        std::fs::create_dir_all(folder)
            .and_then(|()| std::fs::write(&path, text))
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// `docker compose -p <name>` in its folder, ready for arguments.
    pub fn command(&self) -> Result<Command> {
        let mut command = self.pool.docker().command()?;
        command.current_dir(self.folder());
        command.args(["compose", "-p", self.name]);
        Ok(command)
    }

    /// Runs a command made from [`Self::command`] to its end.
    pub fn finish(&self, command: &mut Command) -> Result<Output> {
        let docker = self.pool.docker().clone().patience(PATIENCE);
        docker.finish(command, b"")
    }

    /// Runs `docker compose <line>` to its end.
    pub fn run(&self, line: &str) -> Result<Output> {
        let mut command = self.command()?;
        self.finish(command.args(pool::words(line)))
    }

    /// The output of `docker compose <line>`; an error if it fails.
    pub fn ok(&self, line: &str) -> Result<String> {
        self.run(line)?.ok()
    }

    /// `docker compose <line>` on a terminal of its own.
    pub fn on_terminal(&self, line: &str) -> Result<Terminal> {
        let file = self.folder().join("compose.yaml");
        let file = file.display();
        self.pool
            .on_terminal(&format!("compose -p {} -f {file} {line}", self.name))
    }

    /// Brings it up once more and fails if anything is made anew by that.
    pub fn is_up_to_date(&self) -> Result<()> {
        let before = self.containers()?;
        let again = self.run("up -d")?;
        ensure!(
            again.code == 0
                && !again.stderr.contains("Recreate")
                && !again.stderr.contains("Created"),
            "{again:?}"
        );
        let after = self.containers()?;
        ensure!(before == after, "{before:?} became {after:?}");
        Ok(())
    }

    /// Ids and nodes of its containers, in the order of the ids.
    pub fn containers(&self) -> Result<Vec<(String, String)>> {
        let listed = self.pool.ok(&format!(
            "ps -a --no-trunc --filter label=com.docker.compose.project={} --format '{{{{.ID}}}} {{{{.Label \"com.flotilla.node\"}}}}'",
            self.name
        ))?;
        let mut all: Vec<_> = listed
            .lines()
            .filter_map(|line| line.split_once(' '))
            .map(|(id, node)| (id.to_owned(), node.to_owned()))
            .collect();
        all.sort();
        Ok(all)
    }

    /// The one node it is on; an error if it is on several, or has no containers.
    pub fn node(&self) -> Result<String> {
        let all = self.containers()?;
        let (_, node) = all.first().context("no containers")?;
        ensure!(
            all.iter().all(|(_, other)| other == node),
            "it is torn: {all:?}"
        );
        Ok(node.clone())
    }
}
