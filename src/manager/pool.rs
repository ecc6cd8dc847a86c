//! Takes engines into the pool: first contact, a name, a node in the state, and the tasks that watch it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::mpsc;

use super::judge::reported;
use super::membership::contacts;
use super::{Error, Manager};
use crate::clock;
use crate::engine::{
    self, Absence, Endpoint, Facts, Host, HostTag, Observation, Unlisted, Verdict, another_engine,
};
use crate::model::{Availability, NetworkId, NodeId, NodeName};
use crate::state::{Cluster, Command, Refusal};
use crate::tasks::Stopping;

/// Clients are not kept waiting at the start for an engine that is silent.
const START_PATIENCE: Duration = Duration::from_millis(1500);
/// Between two attempts to reach an engine for the first time.
const CONTACT_EVERY: Duration = Duration::from_secs(1);
/// How long a manager that starts waits for the first lists of the engines that it has met.
const FIRST_LISTS: Duration = Duration::from_secs(3);

/// What an operator changes of a node; what is left out stays.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NodeChange {
    /// The address its published ports are shown with.
    pub address: Option<String>,
    /// What is wanted of it.
    pub availability: Option<Availability>,
    /// Labels that it gets, or that get new values.
    pub add_labels: BTreeMap<String, String>,
    /// Labels that it loses; each must be there.
    pub remove_labels: BTreeSet<String>,
}

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
    /// Begins to watch the nodes of the state, to pool what the settings add to them, and to take in what is
    /// observed of them. Returns once each has answered or failed to once, so that equal hostnames get their
    /// numbers in the order of `given`, and what those that answered have is listed: the first client sees all of it.
    pub async fn pool(self: &Arc<Self>, given: Vec<Member>, observed: mpsc::Receiver<Observation>) {
        self.tasks.spawn(
            tracing::info_span!("observe"),
            Arc::clone(self).observe(observed, self.tasks.stopping()),
        );
        self.tasks.spawn(
            tracing::info_span!("networks"),
            Arc::clone(self).keep_networks_tidy(self.tasks.stopping()),
        );
        let (contacts, notices) = contacts(&self.cluster(), given);
        for notice in notices {
            tracing::warn!("{notice}");
        }
        let contacts = contacts.into_iter().map(|contact| async move {
            let met = tokio::time::timeout(START_PATIENCE, self.meet(&contact.member)).await;
            let silent = |_| Err(format!("no answer within {}ms", START_PATIENCE.as_millis()));
            (contact, met.unwrap_or_else(silent))
        });
        for (contact, met) in futures_util::future::join_all(contacts).await {
            match contact.node {
                Some(node) => self.resume(node, &contact.member, met),
                None => self.join(contact.member, met).await,
            }
        }
        let hosts = self.fleet.hosts();
        let listed = hosts.values().filter(|host| host.is_up());
        let listed = listed.map(|host| host.until_synced());
        // An engine that fails after first contact must not keep the manager from serving the others.
        let _ = tokio::time::timeout(FIRST_LISTS, futures_util::future::join_all(listed)).await;
    }

    /// Makes an engine a node because an operator wants it: at once or not at all. A node that was removed may
    /// come back so.
    pub async fn add_node(
        self: &Arc<Self>,
        member: &Member,
        labels: BTreeMap<String, String>,
    ) -> Result<NodeId, Error> {
        let endpoint = member.endpoint.to_string();
        if let Some(node) = self.cluster().node_at(&endpoint) {
            return Err(Error::Impossible(format!(
                "it is node {} already",
                node.name
            )));
        }
        let facts = self
            .fleet
            .contact(&member.endpoint, &provisional_name(member))
            .await?;
        let node = self.take_in(member, facts, labels).await?;
        // Whoever works on at once finds its containers listed, and the node ready for more.
        let _ = tokio::time::timeout(FIRST_LISTS, self.until_ready(node)).await;
        Ok(node)
    }

    async fn until_ready(&self, node: NodeId) {
        let mut applied = self.store.watch();
        let is_ready = || self.cluster().node(node).is_none_or(|node| node.is_ready());
        while !is_ready() && applied.changed().await.is_ok() {}
    }

    /// Takes a node out of the cluster. Nothing is removed from its engine.
    pub async fn remove_node(&self, node: NodeId, force: bool) -> Result<(), Error> {
        let _joining = self.joining.lock().await;
        self.commit(Command::RemoveNode { node, force }).await?;
        self.fleet.remove(&node).await;
        Ok(())
    }

    /// Changes what an operator says of a node.
    pub async fn update_node(
        self: &Arc<Self>,
        node: NodeId,
        change: NodeChange,
    ) -> Result<(), Error> {
        // Two changes of labels must not undo each other.
        let _joining = self.joining.lock().await;
        let cluster = self.cluster();
        let Some(before) = cluster.node(node) else {
            return Err(Error::Refused(Refusal::NoSuchNode { node }));
        };
        let mut labels = before.labels.clone();
        for key in &change.remove_labels {
            if labels.remove(key).is_none() {
                return Err(Error::Impossible(format!(
                    "node {} has no label {key}",
                    before.name
                )));
            }
        }
        labels.extend(change.add_labels);
        self.commit(Command::UpdateNode {
            node,
            name: None,
            address: change.address.clone(),
            availability: change.availability,
            labels: Some(labels),
        })
        .await?;
        if let Some(address) = change.address
            && let Some(host) = self.fleet.host(&node)
            && host.tag.address.as_ref() != Some(&address)
        {
            self.watch_anew(&host, address).await;
        }
        Ok(())
    }

    /// All that is listed of a node bears its address: it is listed anew.
    async fn watch_anew(self: &Arc<Self>, host: &Host, address: String) {
        let tag = HostTag::new(
            host.tag.id,
            host.tag.name.clone(),
            Some(address),
            host.tag.endpoint.clone(),
            self.settings.cluster,
            self.settings.prefix_names,
        );
        let health = host.health();
        let absence = (health.verdict == Verdict::Down)
            .then(|| absence(&self.cluster(), tag.id, health.last_seen, health.reason));
        let facts = host.facts();
        self.fleet.remove(&tag.id).await;
        let host = self.watch(tag, Facts::clone(&facts), absence);
        if host.is_up() {
            let _ = tokio::time::timeout(FIRST_LISTS, host.until_synced()).await;
        }
    }

    /// Goes on with a node that the state has, whether or not it can be reached now.
    fn resume(self: &Arc<Self>, id: NodeId, member: &Member, met: Result<Facts, String>) {
        let cluster = self.cluster();
        let Some(node) = cluster.node(id) else { return };
        let tag = HostTag::new(
            id,
            node.name.clone(),
            node.address.clone(),
            member.endpoint.clone(),
            self.settings.cluster,
            self.settings.prefix_names,
        );
        let known = node.engine.as_ref();
        let met = met.and_then(|facts| match known {
            Some(known) if known.engine_id != facts.engine_id => {
                Err(another_engine(&tag, &known.engine_id, &facts.engine_id))
            }
            _ => Ok(facts),
        });
        match met {
            Ok(facts) => drop(self.watch(tag, facts, None)),
            Err(reason) => {
                tracing::warn!(node = %node.name, reason, "node cannot be reached");
                // When it was last heard of is not known: it was there until this manager stopped, at most.
                let since = if node.is_down() {
                    node.since
                } else {
                    clock::now()
                };
                let absence = absence(&cluster, id, since, reason);
                drop(self.watch(tag, Facts::remembered(known), Some(absence)));
            }
        }
    }

    /// Takes in an engine of the settings, now or when it answers.
    async fn join(self: &Arc<Self>, member: Member, met: Result<Facts, String>) {
        let joined = match met {
            Ok(facts) => self.take_in(&member, facts, BTreeMap::new()).await,
            Err(reason) => Err(Error::Impossible(reason)),
        };
        let Err(error) = joined else { return };
        self.cannot_join(&member.endpoint, error.to_string());
        let manager = Arc::clone(self);
        let stopping = self.tasks.stopping();
        let span = tracing::info_span!("join", engine = member.endpoint.shown());
        self.tasks.spawn(
            span,
            async move { manager.keep_trying(member, stopping).await },
        );
    }

    async fn keep_trying(self: Arc<Self>, member: Member, mut stopping: Stopping) {
        loop {
            tokio::select! {
                biased;
                () = stopping.wait() => return,
                () = tokio::time::sleep(CONTACT_EVERY) => {}
            }
            // Meanwhile an operator may have added it.
            if self
                .cluster()
                .node_at(&member.endpoint.to_string())
                .is_some()
            {
                return self.fleet.note_joining(&member.endpoint, None);
            }
            let joined = match self.meet(&member).await {
                Ok(facts) => self.take_in(&member, facts, BTreeMap::new()).await,
                Err(reason) => Err(Error::Impossible(reason)),
            };
            match joined {
                Ok(_) => return,
                Err(error) => self.cannot_join(&member.endpoint, error.to_string()),
            }
        }
    }

    /// First contact, or why there is none.
    async fn meet(&self, member: &Member) -> Result<Facts, String> {
        let name = provisional_name(member);
        let contact = self.fleet.contact(&member.endpoint, &name);
        // Whoever is told knows the endpoint, and nobody knows a provisional name.
        contact.await.map_err(|error| match error {
            engine::Error::Unreachable { source, .. } => source.to_string(),
            engine::Error::Unfit { why, .. } | engine::Error::Garbled { why, .. } => why,
            error @ (engine::Error::Down { .. } | engine::Error::Refused { .. }) => {
                error.to_string()
            }
        })
    }

    /// Shown in `docker info`, and logged when it changes.
    fn cannot_join(&self, endpoint: &Endpoint, reason: String) {
        if self.fleet.joining().get(endpoint) != Some(&reason) {
            tracing::warn!(engine = endpoint.shown(), reason, "engine cannot join yet");
        }
        self.fleet.note_joining(endpoint, Some(reason));
    }

    /// Makes the engine a node. Fails if it is one already, under another endpoint.
    async fn take_in(
        self: &Arc<Self>,
        member: &Member,
        facts: Facts,
        labels: BTreeMap<String, String>,
    ) -> Result<NodeId, Error> {
        // One at a time: two endpoints of one engine must not both come in.
        let _joining = self.joining.lock().await;
        if facts.engine_id == self.settings.cluster.to_string() {
            return Err(Error::Impossible(
                "it is this cluster itself: give the address of a Docker Engine".to_owned(),
            ));
        }
        let hosts = self.fleet.hosts();
        if let Some(twin) = hosts
            .values()
            .find(|host| host.facts().engine_id == facts.engine_id)
        {
            return Err(Error::Impossible(format!(
                "its engine id is that of node {} ({}): either both are one engine, then give it once (if it has moved, \
                 `flotilla node rm --force {}` first); or one machine is a copy of the other, then remove \
                 /var/lib/docker/engine-id on one and restart its engine",
                twin.tag.name,
                twin.tag.endpoint.shown(),
                twin.tag.name
            )));
        }
        // A name that was given to an engine is that engine's, even if another comes first.
        let given = &self.settings.given_names;
        let joined = hosts.values().map(|host| &host.tag.name);
        let taken: BTreeSet<NodeName> = joined.chain(given.values()).cloned().collect();
        let name = match member.name.as_ref().or(given.get(&member.endpoint)) {
            Some(name) => name.clone(),
            None => distinct(&hostname(&facts, &member.endpoint), &taken),
        };
        let node = NodeId::from_bytes(clock::random_bytes());
        let address = member
            .address
            .clone()
            .or_else(|| member.endpoint.published_address().map(str::to_owned));
        self.commit(Command::AddNode {
            node,
            name: name.clone(),
            endpoint: member.endpoint.to_string(),
            address: address.clone(),
            labels,
        })
        .await?;
        // Who it is must be known after a restart, even if it is not counted before.
        self.commit(Command::ReportNode {
            node,
            engine: reported(&facts, &self.settings.placing),
        })
        .await?;
        tracing::info!(node = %name, engine = member.endpoint.shown(), version = facts.version, "engine joined");
        self.fleet.note_joining(&member.endpoint, None);
        let tag = HostTag::new(
            node,
            name,
            address,
            member.endpoint.clone(),
            self.settings.cluster,
            self.settings.prefix_names,
        );
        self.watch(tag, facts, None);
        Ok(node)
    }

    /// Begins to watch a node, and to commit what is thought of it.
    fn watch(self: &Arc<Self>, tag: HostTag, facts: Facts, absence: Option<Absence>) -> Arc<Host> {
        let span = tracing::info_span!("judge", node = %tag.name);
        let host = self.fleet.add(tag, facts, absence);
        let judging = Arc::clone(self).judge(Arc::clone(&host), self.tasks.stopping());
        self.tasks.spawn(span, judging);
        host
    }
}

/// A node that cannot be reached, and what was promised on it.
fn absence(cluster: &Cluster, node: NodeId, since: Timestamp, reason: String) -> Absence {
    let name_of = |id: &NetworkId| Some((*id, cluster.network(*id)?.name.clone()));
    let promised = cluster.placements_on(node).filter_map(|placement| {
        let joined = placement.networks.iter();
        Some(Unlisted {
            id: placement.container?,
            name: placement.name.clone(),
            request: placement.request,
            created: placement.at,
            runs: placement.claiming,
            networks: joined.filter_map(name_of).collect(),
            volumes: placement.volumes.clone(),
        })
    });
    Absence {
        since,
        reason,
        promised: promised.collect(),
    }
}

/// What errors call an engine before it has a name.
fn provisional_name(member: &Member) -> NodeName {
    let from_endpoint = member
        .endpoint
        .published_address()
        .unwrap_or("local")
        .parse();
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
    let address = || endpoint.published_address()?.parse().ok();
    let own = facts.hostname.parse().ok();
    own.or_else(address).unwrap_or_else(unnamed)
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
