//! Which node each client builds on, and what builds have made.
//!
//! One `docker build` is several connections, and what ties them together is inside HTTP/2, which nobody
//! reads here. So the node is chosen per client, by rendezvous hash over the nodes that may build: the
//! same client hits the same build cache, and losing a node moves only that node's clients. The choice is
//! kept while any of the client's connections is open, even if the nodes change meanwhile (api-matrix 4.4).
//!
//! **Invariant**: what a build has made of a tag is learnt once, before anything that comes after the build.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use api_compat::error::ApiError;

use super::exchange::Exchange;
use super::listen::OpenGuard;
use super::{Proxy, nodes};
use crate::engine::{Host, Images, ListKind};
use crate::manager::{Manager, moved};
use crate::model::{Caller, NodeId};
use crate::tasks::spawn_stream;

/// A node with this engine label set to `false` builds nothing.
const BUILDER_LABEL: &str = "com.flotilla.builder";

/// Which node each client with open build connections builds on.
#[derive(Debug, Clone, Default)]
pub(crate) struct Builders {
    clients: Arc<Mutex<HashMap<String, Kept>>>,
    /// The images of each node that builds, or that built until just now, as they were when its builds began: a tag
    /// that has moved since was moved by a build. What BuildKit does, its client alone is told.
    pictures: Arc<Mutex<HashMap<NodeId, Arc<Images>>>>,
    /// Held while what was built is learnt: whoever comes second finds it done.
    learning: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Debug)]
struct Kept {
    node: NodeId,
    connections: usize,
}

/// One open build connection.
pub(super) struct BuildConnection {
    pub(super) builders: Builders,
    client: String,
    pub(super) host: Arc<Host>,
    pub(super) manager: Arc<Manager>,
    pub(super) caller: Caller,
    _open: OpenGuard,
}

impl Builders {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Kept>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pictures(&self) -> MutexGuard<'_, HashMap<NodeId, Arc<Images>>> {
        self.pictures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps the images of a node as they are before a build begins there.
    fn remember(&self, host: &Host) {
        let mut pictures = self.pictures();
        pictures.entry(host.tag.id).or_insert_with(|| host.images());
    }

    fn is_building(&self, node: NodeId) -> bool {
        let clients = self.lock();
        let mut all = clients.values();
        all.any(|kept| kept.node == node)
    }

    /// Commits what builds on a node have made of tags.
    pub(super) async fn learn_from(&self, host: &Host, manager: &Manager, caller: &Caller) {
        let _learning = self.learning.lock().await;
        let node = host.tag.id;
        if !self.pictures().contains_key(&node) {
            return;
        }
        host.reread(ListKind::Images).await;
        let now = host.images();
        let before = if self.is_building(node) {
            self.pictures().insert(node, Arc::clone(&now))
        } else {
            self.pictures().remove(&node)
        };
        let moved = before
            .map(|before| moved(&before, &now))
            .unwrap_or_default();
        for (tag, image) in moved {
            if let Err(error) = manager.move_tag(&tag, &image, caller).await {
                tracing::warn!(tag, %error, "what a build made of a tag could not be committed");
            }
        }
    }
}

/// Learns what was built until now, so that what comes after a build finds what it made.
pub(super) async fn learn(proxy: &Proxy) {
    let nodes: Vec<NodeId> = {
        let pictures = proxy.builders.pictures();
        let mut nodes: Vec<_> = pictures.keys().copied().collect();
        nodes.sort_unstable();
        nodes
    };
    for node in nodes {
        match proxy.fleet.host(&node).filter(|host| host.is_up()) {
            Some(host) => {
                let caller = proxy.manager.as_caller();
                let builders = &proxy.builders;
                builders.learn_from(&host, &proxy.manager, &caller).await;
            }
            // What a lost node built is nowhere else.
            None => drop(proxy.builders.pictures().remove(&node)),
        }
    }
}

impl Drop for BuildConnection {
    fn drop(&mut self) {
        let mut kept = self.builders.lock();
        if let Some(entry) = kept.get_mut(&self.client) {
            entry.connections -= 1;
            if entry.connections == 0 {
                kept.remove(&self.client);
                drop(kept);
                self.learn_behind();
            }
        }
    }
}

impl BuildConnection {
    /// Goes on to a node that is not among those `lost`, if there is one: whether it did. What the client has open on a node
    /// that is up keeps it there.
    pub(super) fn go_on(&mut self, proxy: &Proxy, lost: &BTreeSet<NodeId>) -> bool {
        let mut kept = self.builders.lock();
        let Some(entry) = kept.get_mut(&self.client) else {
            return false;
        };
        let current = proxy.fleet.host(&entry.node).filter(|host| host.is_up());
        let next = match current {
            // Another connection of the client has gone on already.
            Some(host) if !lost.contains(&entry.node) => Some(host),
            Some(_) if entry.connections > 1 => None,
            _ => {
                let mut others = builders(proxy);
                others.retain(|host| !lost.contains(&host.tag.id));
                nodes::choose(&others, &self.client)
            }
        };
        let Some(next) = next else { return false };
        entry.node = next.tag.id;
        self.builders.remember(&next);
        drop(kept);
        self.learn_behind();
        self.host = next;
        true
    }

    /// The last connection of a client has ended: nobody need come and ask for what it built.
    fn learn_behind(&self) {
        let (builders, host) = (self.builders.clone(), Arc::clone(&self.host));
        let (manager, caller) = (Arc::clone(&self.manager), self.caller.clone());
        spawn_stream(
            tracing::debug_span!("learn", node = %host.tag.name),
            async move {
                builders.learn_from(&host, &manager, &caller).await;
            },
        );
    }
}

/// The node on which this client builds, kept while the returned value lives: `only` that one, if only one will do.
pub(super) fn keep(
    proxy: &Proxy,
    exchange: &Exchange,
    only: Option<&Arc<Host>>,
) -> Result<BuildConnection, ApiError> {
    // What has to be on one node leaves the client's other builds where they are.
    let client = match only {
        Some(host) => &*format!("{} on {}", exchange.peer.identity, host.tag.id),
        None => &*exchange.peer.identity,
    };
    let mut kept = proxy.builders.lock();
    let current = kept
        .get(client)
        .and_then(|entry| proxy.fleet.host(&entry.node))
        .filter(|host| host.is_up());
    if let Some(host) = only.filter(|host| !may_build(host)) {
        return Err(ApiError::conflict(format!(
            "what this build joins is on node {}, which builds nothing: its engine has the label {BUILDER_LABEL}=false",
            host.tag.name
        )));
    }
    let host = match current.or_else(|| only.cloned()) {
        Some(host) => host,
        None => nodes::choose(&builders(proxy), client).ok_or_else(|| {
            ApiError::unavailable(format!(
                "no node can build: each is down or has the engine label {BUILDER_LABEL}=false"
            ))
        })?,
    };
    let entry = kept.entry(client.to_owned()).or_insert(Kept {
        node: host.tag.id,
        connections: 0,
    });
    entry.node = host.tag.id;
    entry.connections += 1;
    proxy.builders.remember(&host);
    Ok(BuildConnection {
        builders: proxy.builders.clone(),
        client: client.to_owned(),
        host,
        manager: Arc::clone(&proxy.manager),
        caller: exchange.peer.caller.clone(),
        _open: proxy.open.enter(),
    })
}

/// The nodes that may build.
pub(super) fn builders(proxy: &Proxy) -> Vec<Arc<Host>> {
    let mut hosts = proxy.fleet.by_name();
    hosts.retain(may_build);
    hosts
}

pub(super) fn may_build(host: &Arc<Host>) -> bool {
    let facts = host.facts();
    facts
        .labels
        .get(BUILDER_LABEL)
        .is_none_or(|value| value != "false")
}
