//! Engines behind one manager, and the stock CLI for it: one line of shell per step.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::client::{Docker, Output, Terminal};
use crate::flotilla::{self, Flotilla};
use crate::lab::Lab;
use crate::wire::{self, Answer};
use crate::{http, wait};

/// How long engines may take to be pooled.
const START: Duration = Duration::from_secs(20);

/// A manager that answers for all of its engines, and the stock CLI for it.
#[derive(Debug)]
pub struct Pool {
    /// The manager.
    pub manager: Flotilla,
    docker: Docker,
    size: usize,
}

impl Pool {
    /// A pool of all hosts of a lab.
    pub fn over(lab: &Lab) -> Result<Self> {
        Self::of(&lab.endpoints(), &[])
    }

    /// A pool of these engines, its manager started with further arguments.
    pub fn of(engines: &[String], arguments: &[&str]) -> Result<Self> {
        Self::behind(Flotilla::start(engines, arguments)?, engines.len())
    }

    /// A pool of all that this manager was given, which is so many engines.
    pub fn behind(manager: Flotilla, size: usize) -> Result<Self> {
        let pool = Self::over_manager(manager, size)?;
        pool.wait_until_ready(pool.size)?;
        Ok(pool)
    }

    /// A pool before its engines have joined; some may never.
    pub fn begun(engines: &[String], arguments: &[&str]) -> Result<Self> {
        Self::over_manager(Flotilla::start(engines, arguments)?, engines.len())
    }

    fn over_manager(manager: Flotilla, size: usize) -> Result<Self> {
        Ok(Self {
            docker: manager.docker()?,
            manager,
            size,
        })
    }

    /// Waits until so many nodes are ready, and none is on its way.
    pub fn wait_until_ready(&self, nodes: usize) -> Result<()> {
        let wanted = nodes.to_string();
        let probe = || {
            let version = http::get(&self.manager.unix(), "/version", START)?.json()?;
            let components = version["Components"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            let ours = components.iter().find(|part| part["Name"] == "Flotilla");
            let details = &ours.context("no component of ours")?["Details"];
            Ok(details["ReadyNodes"] == wanted && details["Joining"] == "0")
        };
        wait::until_true(&format!("{nodes} ready nodes"), START, probe)
    }

    /// How many engines it was given.
    #[must_use]
    pub fn size(&self) -> usize {
        self.size
    }

    /// The stock CLI, for all that a line cannot say.
    #[must_use]
    pub fn docker(&self) -> &Docker {
        &self.docker
    }

    /// Runs `docker <line>`.
    pub fn run(&self, line: &str) -> Result<Output> {
        self.run_with(line, b"")
    }

    /// Runs `docker <line>` with this input.
    pub fn run_with(&self, line: &str, stdin: &[u8]) -> Result<Output> {
        let words = words(line);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        self.docker.run_with(&words, stdin)
    }

    /// Runs `flotilla <line>` as a client of the manager.
    pub fn flotilla(&self, line: &str) -> Result<Output> {
        let mut command = Command::new(flotilla::binary()?);
        command
            .args(words(line))
            .env("FLOTILLA_HOST", self.manager.unix())
            .env("DOCKER_HOST", "unix:///nobody/looks/here");
        self.docker.finish(&mut command, b"")
    }

    /// What `docker <line>` writes to its standard output; an error if it fails.
    pub fn ok(&self, line: &str) -> Result<String> {
        self.run(line)?.ok()
    }

    /// What `docker <line>` says when it fails; an error if it does not.
    pub fn refusal(&self, line: &str) -> Result<String> {
        self.run(line)?.refusal()
    }

    /// Fails unless `docker <line>` writes exactly this.
    pub fn says(&self, line: &str, wanted: &str) -> Result<()> {
        let said = self.ok(line)?;
        ensure!(
            said == wanted,
            "`docker {line}` said {said:?}, not {wanted:?}"
        );
        Ok(())
    }

    /// Fails unless `docker <line>` fails and says this among other things.
    pub fn refuses(&self, line: &str, wanted: &str) -> Result<()> {
        let said = self.refusal(line)?;
        ensure!(
            said.contains(wanted),
            "`docker {line}` said {said:?}, without {wanted:?}"
        );
        Ok(())
    }

    /// Fails unless `docker <line>` ends with this code.
    pub fn ends_with(&self, line: &str, code: i32) -> Result<()> {
        let output = self.run(line)?;
        ensure!(
            output.code == code,
            "`docker {line}` ended with {}, not {code}: {}{}",
            output.code,
            output.stdout,
            output.stderr
        );
        Ok(())
    }

    /// Waits until `docker <line>` writes exactly this.
    pub fn comes_to_say(&self, line: &str, wanted: &str, limit: Duration) -> Result<()> {
        let mut last = String::new();
        wait::until_true(&format!("`docker {line}` to say {wanted:?}"), limit, || {
            last = self.ok(line)?;
            Ok(last == wanted)
        })
        .with_context(|| format!("it said {last:?}"))
    }

    /// Starts `docker <line>` on a terminal.
    pub fn on_terminal(&self, line: &str) -> Result<Terminal> {
        let words = words(line);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        self.docker.on_terminal(&words)
    }

    /// `docker inspect` of one container, image, network or volume.
    pub fn inspect(&self, reference: &str) -> Result<Value> {
        let said = self.ok(&format!("inspect {reference}"))?;
        let mut all: Vec<Value> = serde_json::from_str(&said)?;
        ensure!(all.len() == 1, "{reference} is {} objects", all.len());
        Ok(all.remove(0))
    }

    /// The name of the node that a container is on.
    pub fn node_of(&self, container: &str) -> Result<String> {
        self.ok(&format!("inspect -f {{{{.Node.Name}}}} {container}"))
    }

    /// Sends one request; a body that is not empty is JSON.
    pub fn ask(&self, method: &str, path: &str, body: &[u8]) -> Result<Answer> {
        wire::ask(&self.manager.tcp(), method, path, body)
    }
}

/// The words of a line as a shell sees them; quotes are single.
#[must_use]
pub fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = None::<String>;
    let mut quoted = false;
    for letter in line.chars() {
        match letter {
            '\'' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            ' ' if !quoted => words.extend(word.take()),
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::words;

    #[test]
    fn a_line_has_words() {
        assert_eq!(
            words("run  -f 'a b' '' c'd'"),
            ["run", "-f", "a b", "", "cd"]
        );
        assert!(words(" ").is_empty());
    }
}
