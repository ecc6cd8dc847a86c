//! Takes engines into the pool: first contact, a name, a node in the state, and the tasks that watch it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::Manager;
use crate::clock;
use crate::engine::{Endpoint, Facts, HostTag, Observation};
use crate::model::{NodeId, NodeName};
use crate::state::Command;
use crate::tasks::{Stopping, Tasks};

/// Clients are not kept waiting at the start for an engine that is silent.
const START_PATIENCE: Duration = Duration::from_millis(1500);
/// Between two attempts to reach an engine for the first time.
const CONTACT_EVERY: Duration = Duration::from_secs(1);
/// How long a manager that starts waits for the first lists of the engines that it has met.
const FIRST_LISTS: Duration = Duration::from_secs(3);

/// An engine that is to be pooled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Where it listens.
    pub endpoint: Endpoint,
    /// What it is to be called; else its own hostname is used.
    pub name: Option<NodeName>,
    /// The address its published ports are shown with; else that of its endpoint.
    pub address: Option<String>,
}

impl Manager {
    /// Begins to pool `members`, and to take in what is observed of them. Returns once each has
    /// answered or failed to once, so that equal hostnames get their numbers in the order of `members`, and
    /// what those that answered have is listed: the first client sees all of it.
    pub async fn pool(
        self: &Arc<Self>,
        members: Vec<Member>,
        observed: mpsc::Receiver<Observation>,
        tasks: &Tasks,
    ) {
        tasks.spawn(
            tracing::info_span!("observe"),
            Arc::clone(self).observe(observed, tasks.stopping()),
        );
        let contacts = members.into_iter().map(|member| async move {
            let met = tokio::time::timeout(START_PATIENCE, self.meet(&member)).await;
            (member, met.ok().flatten())
        });
        for (member, met) in futures_util::future::join_all(contacts).await {
            let joined = match met {
                Some(facts) => self.take_in(&member, facts, tasks).await,
                None => false,
            };
            if !joined {
                let manager = Arc::clone(self);
                let (tasks, stopping) = (tasks.clone(), tasks.stopping());
                let span = tracing::info_span!("join", engine = %member.endpoint);
                tasks.clone().spawn(span, async move {
                    manager.keep_trying(member, tasks, stopping).await
                });
            }
        }
        let hosts = self.fleet.hosts();
        let listed = hosts.values().map(|host| host.until_synced());
        // An engine that fails after first contact must not keep the manager from serving the others.
        let _ = tokio::time::timeout(FIRST_LISTS, futures_util::future::join_all(listed)).await;
    }

    async fn keep_trying(self: Arc<Self>, member: Member, tasks: Tasks, mut stopping: Stopping) {
        loop {
            tokio::select! {
                () = stopping.wait() => return,
                () = tokio::time::sleep(CONTACT_EVERY) => {}
            }
            if let Some(facts) = self.meet(&member).await
                && self.take_in(&member, facts, &tasks).await
            {
                return;
            }
        }
    }

    /// First contact. A failure is shown in `docker info`, and logged when it changes.
    async fn meet(&self, member: &Member) -> Option<Facts> {
        match self
            .fleet
            .contact(&member.endpoint, &provisional_name(member))
            .await
        {
            Ok(facts) => Some(facts),
            Err(error) => {
                self.cannot_join(&member.endpoint, error.to_string());
                None
            }
        }
    }

    fn cannot_join(&self, endpoint: &Endpoint, reason: String) {
        if self.fleet.joining().get(endpoint) != Some(&reason) {
            tracing::warn!(engine = %endpoint, reason, "engine cannot join yet");
        }
        self.fleet.note_joining(endpoint, Some(reason));
    }

    /// Makes the engine a node. Fails if it is one already, under another endpoint.
    async fn take_in(self: &Arc<Self>, member: &Member, facts: Facts, tasks: &Tasks) -> bool {
        // One at a time: two endpoints of one engine must not both come in.
        let _joining = self.joining.lock().await;
        let hosts = self.fleet.hosts();
        if let Some(twin) = hosts
            .values()
            .find(|host| host.facts().engine_id == facts.engine_id)
        {
            self.cannot_join(
                &member.endpoint,
                format!(
                    "its engine id is that of node {} ({}): either both are one engine, then give it once; or one machine \
                     is a copy of the other, then remove /var/lib/docker/engine-id on one and restart its engine",
                    twin.tag.name, twin.tag.endpoint
                ),
            );
            return false;
        }
        // A name that was given to an engine is that engine's, even if another comes first.
        let given = self.settings.given_names.iter();
        let joined = hosts.values().map(|host| &host.tag.name);
        let taken: BTreeSet<NodeName> = joined.chain(given).cloned().collect();
        let name = match &member.name {
            Some(name) => name.clone(),
            None => distinct(&hostname(&facts, &member.endpoint), &taken),
        };
        let node = NodeId::from_bytes(clock::random_bytes());
        let address = member
            .address
            .clone()
            .or_else(|| member.endpoint.published_address().map(str::to_owned));
        let added = self
            .commit(Command::AddNode {
                node,
                name: name.clone(),
                endpoint: member.endpoint.to_string(),
                address: address.clone(),
                labels: BTreeMap::new(),
            })
            .await;
        if let Err(error) = added {
            self.cannot_join(&member.endpoint, error.to_string());
            return false;
        }
        tracing::info!(node = %name, engine = %member.endpoint, version = facts.version, "engine joined");
        self.fleet.note_joining(&member.endpoint, None);
        let tag = HostTag::new(
            node,
            name.clone(),
            address,
            member.endpoint.clone(),
            self.settings.cluster,
            self.settings.prefix_names,
        );
        let host = self.fleet.add(tag, facts);
        tasks.spawn(
            tracing::info_span!("judge", node = %name),
            Arc::clone(self).judge(host, tasks.stopping()),
        );
        true
    }
}

/// What errors call an engine before it has a name.
fn provisional_name(member: &Member) -> NodeName {
    let from_endpoint = match &member.endpoint {
        Endpoint::Unix(_) => "local".parse(),
        Endpoint::Tcp { host, .. } => host.parse(),
    };
    member
        .name
        .clone()
        .or(from_endpoint.ok())
        .unwrap_or_else(unnamed)
}

fn unnamed() -> NodeName {
    "node".parse().expect("a valid name")
}

fn hostname(facts: &Facts, endpoint: &Endpoint) -> NodeName {
    facts.hostname.parse().unwrap_or_else(|_| match endpoint {
        Endpoint::Unix(_) => unnamed(),
        Endpoint::Tcp { host, .. } => host.parse().unwrap_or_else(|_| unnamed()),
    })
}

/// `host`, `host-2`, `host-3` …: the first that nobody has.
fn distinct(wanted: &NodeName, taken: &BTreeSet<NodeName>) -> NodeName {
    let numbered = |number| format!("{wanted}-{number}").parse::<NodeName>().ok();
    std::iter::once(Some(wanted.clone()))
        .chain((2..).map(numbered))
        .flatten()
        .find(|name| !taken.contains(name))
        .unwrap_or_else(unnamed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_hostnames_are_numbered() {
        let name = |text: &str| text.parse::<NodeName>().expect("valid");
        let taken = |names: &[&str]| names.iter().map(|n| name(n)).collect();
        assert_eq!(distinct(&name("web"), &taken(&[])), name("web"));
        assert_eq!(distinct(&name("web"), &taken(&["web"])), name("web-2"));
        assert_eq!(
            distinct(&name("web"), &taken(&["web", "web-2", "web-4"])),
            name("web-3")
        );
    }
}
