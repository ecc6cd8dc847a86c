//! What a case leaves on a host, and how the host gets rid of it.
//!
//! **Invariant**: after [`Host::clean`] a host is as it was when its lab started, so that no case finds what another one
//! left.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::Value;

use super::claim::QUICK;
use super::host::{Host, STOP};
use crate::{http, wait};

/// The image that hosts have from the start.
const STANDARD_IMAGE: &str = "busybox:latest";

/// So long an engine is asked again for what it does not remove: removals may be under way.
const PATIENCE: Duration = Duration::from_secs(10);

/// The kinds of objects, in the order in which they can be removed: what lists them, and what tells one of them.
const KINDS: [(&str, &str, &str); 3] = [
    ("/containers/json?all=1", "Id", "/containers/{}?force=1&v=1"),
    (
        "/networks?filters=%7B%22type%22%3A%5B%22custom%22%5D%7D",
        "Id",
        "/networks/{}",
    ),
    ("/volumes", "Name", "/volumes/{}?force=1"),
];

impl Host {
    /// Removes containers, networks, volumes and images, but for the image it had from the start. An engine that was
    /// killed or cut off in the middle of a change may count a volume or an address as in use for ever: it is started
    /// again then, as an operator would.
    pub fn clean(&self) -> Result<()> {
        if self.is_cleaned().is_ok() {
            return Ok(());
        }
        eprintln!(
            "{}: {:?} stay: starting its engine again",
            self.name(),
            self.leavings()?
        );
        self.stop_engine()?;
        self.start_engine()?;
        self.is_cleaned()
    }

    fn is_cleaned(&self) -> Result<()> {
        wait::until_true(&format!("{} to be clean", self.name()), PATIENCE, || {
            let mut left = self.leavings()?;
            for path in &left {
                self.remove(path)?;
            }
            if !left.is_empty() {
                left = self.leavings()?;
            }
            ensure!(left.is_empty(), "{left:?} stay");
            Ok(true)
        })
    }

    /// The paths of what a case left.
    fn leavings(&self) -> Result<Vec<String>> {
        let mut paths = Vec::new();
        for (list, key, path) in KINDS {
            let objects = self.list(list)?;
            let names = objects.iter().filter_map(|object| object[key].as_str());
            paths.extend(names.map(|name| path.replace("{}", name)));
        }
        for image in self.list("/images/json")? {
            let tags: Vec<&str> = image["RepoTags"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .filter(|tag| *tag != "<none>:<none>")
                .collect();
            let is_standard = tags.contains(&STANDARD_IMAGE);
            let id = image["Id"].as_str().filter(|_| tags.is_empty());
            let others = tags.into_iter().filter(|tag| *tag != STANDARD_IMAGE);
            let names = others.chain(id.filter(|_| !is_standard));
            paths.extend(names.map(|name| format!("/images/{name}?force=1")));
        }
        Ok(paths)
    }

    fn list(&self, path: &str) -> Result<Vec<Value>> {
        let reply = http::get(&self.unix(), path, QUICK)?;
        ensure!(reply.status == 200, "{path}: {}", reply.text());
        let found = match reply.json()? {
            Value::Object(mut wrapped) => wrapped.remove("Volumes").unwrap_or_default(),
            found => found,
        };
        Ok(match found {
            Value::Array(objects) => objects,
            _ => Vec::new(),
        })
    }

    fn remove(&self, path: &str) -> Result<()> {
        let reply = http::request(&self.unix(), "DELETE", path, b"", STOP)?;
        // In use, or being removed: it is looked at again.
        ensure!(
            matches!(reply.status, 200 | 204 | 403 | 404 | 409),
            "{} does not remove {path}: {}",
            self.name(),
            reply.text()
        );
        Ok(())
    }
}
