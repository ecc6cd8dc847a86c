//! Finds out where the containers and images are that affinities mean.
//!
//! Names, ids and labels that are given whole are looked up in indexes; patterns are held against all there are. What is
//! about to be made counts as if it were there, so that creates at the same time part as they would one after the other.
//!
//! **Invariant**: a container counts from its reservation on: by the newcomers until the lists show it, by the lists then.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use api_compat::ApiVersion;
use api_compat::affinity::{Affinity, Subject};
use api_compat::container_item::Head;
use api_compat::create::Create;

use super::Manager;
use crate::engine::{Container, Found, Host};
use crate::model::{NodeId, Placement, Realm, RequestId};
use crate::scheduler::Near;
use crate::state::Cluster;

/// Containers that have a node and are not in the lists yet.
#[derive(Debug, Clone, Default)]
pub(super) struct Newcomers(Arc<Mutex<BTreeMap<RequestId, Newcomer>>>);

/// A container that is about to be made.
#[derive(Debug, Clone)]
pub(super) struct Newcomer {
    pub(super) node: NodeId,
    pub(super) name: String,
    pub(super) image: String,
    pub(super) labels: Vec<(String, String)>,
}

/// Keeps a newcomer known until dropped.
#[derive(Debug)]
pub(super) struct Arrival {
    all: Newcomers,
    request: RequestId,
}

impl Newcomers {
    /// Makes a container known that was given a node.
    pub(super) fn expect(&self, request: RequestId, newcomer: Newcomer) -> Arrival {
        self.lock().insert(request, newcomer);
        Arrival {
            all: self.clone(),
            request,
        }
    }

    /// The nodes that will have what the affinity means.
    fn nodes(&self, affinity: &Affinity) -> BTreeSet<NodeId> {
        let all = self.lock();
        let meant = all
            .values()
            .filter(|newcomer| newcomer.is_meant_by(affinity));
        meant.map(|newcomer| newcomer.node).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<RequestId, Newcomer>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Arrival {
    fn drop(&mut self) {
        self.all.lock().remove(&self.request);
    }
}

impl Newcomer {
    /// What is known of a container before it is made.
    pub(super) fn new(wanted: &Create<'_>, name: &str, node: NodeId) -> Self {
        let labels = wanted.labels.iter();
        Self {
            node,
            name: name.to_owned(),
            image: wanted.image.to_string(),
            labels: labels
                .map(|(key, value)| (key.to_string(), value.to_string()))
                .collect(),
        }
    }

    /// Whether the affinity means this container, or its image.
    pub(super) fn is_meant_by(&self, affinity: &Affinity) -> bool {
        let mut labels = self.labels.iter();
        match affinity.subject() {
            Subject::Container => affinity.names(&self.name),
            Subject::Image => image_names(&self.image).any(|name| affinity.names(name)),
            Subject::HasLabel(wanted) => labels.any(|(key, _)| key == wanted),
            Subject::Label(wanted) => {
                labels.any(|(key, value)| key == wanted && affinity.names(value))
            }
        }
    }
}

impl Manager {
    /// The affinities, with the nodes that have what they mean. Nobody has to be away from the container whose place it
    /// takes.
    pub(super) fn near(
        &self,
        affinities: &[Affinity],
        cluster: &Cluster,
        replaced: Option<&Placement>,
    ) -> Vec<Near> {
        let read = |affinity: &Affinity| Near {
            text: affinity.to_string(),
            negated: affinity.is_negated(),
            soft: affinity.is_soft(),
            nodes: self.nodes_with(
                affinity,
                cluster,
                replaced.filter(|_| affinity.is_negated()),
            ),
        };
        affinities.iter().map(read).collect()
    }

    fn nodes_with(
        &self,
        affinity: &Affinity,
        cluster: &Cluster,
        besides: Option<&Placement>,
    ) -> BTreeSet<NodeId> {
        let mut nodes = self.newcomers.nodes(affinity);
        let (promised, mut containers) = match affinity.subject() {
            Subject::Container => self.containers_called(affinity, cluster),
            Subject::Image => {
                nodes.extend(self.with_image(affinity));
                return nodes;
            }
            Subject::HasLabel(key) => (None, self.fleet.inventory.labelled(key, None)),
            Subject::Label(key) => (None, self.labelled(key, affinity)),
        };
        if let Some(besides) = besides {
            containers.retain(|container| besides.container != Some(container.id));
        }
        let is_besides =
            |promised: &Placement| besides.is_some_and(|one| one.request == promised.request);
        let promised = promised.filter(|promised| !is_besides(promised));
        nodes.extend(promised.map(|promised| promised.node));
        nodes.extend(containers.iter().map(|container| container.host.id));
        nodes
    }

    /// What is promised under the name, and what is seen.
    fn containers_called(
        &self,
        affinity: &Affinity,
        cluster: &Cluster,
    ) -> (Option<Arc<Placement>>, Vec<Arc<Container>>) {
        let inventory = &self.fleet.inventory;
        let Some(name) = affinity.exact() else {
            let is_meant = |container: &&Arc<Container>| {
                let mut names = container.names.iter();
                names.any(|name| affinity.names(name)) || affinity.names(&container.id.to_string())
            };
            let mut all = inventory.list(false);
            all.retain(|container| is_meant(&container));
            return (None, all);
        };
        let promised = cluster.placement_named(Realm::DEFAULT, name).cloned();
        let seen = match inventory.find(name) {
            Found::One(container) => vec![container],
            Found::SameName(containers) => containers,
            Found::None | Found::SamePrefix => Vec::new(),
        };
        (promised, seen)
    }

    fn labelled(&self, key: &str, affinity: &Affinity) -> Vec<Arc<Container>> {
        let inventory = &self.fleet.inventory;
        if let Some(value) = affinity.exact() {
            return inventory.labelled(key, Some(value));
        }
        let is_meant = |container: &&Arc<Container>| {
            let mut item = Vec::new();
            container.render(&mut item, ApiVersion::MAX, "", "");
            let head = Head::parse(&item);
            let value = head.as_ref().ok().and_then(|head| head.label(key));
            value.is_some_and(|value| affinity.names(value))
        };
        let mut all = inventory.labelled(key, None);
        all.retain(|container| is_meant(&container));
        all
    }

    fn with_image(&self, affinity: &Affinity) -> BTreeSet<NodeId> {
        let has = |host: &Host| {
            let images = host.images();
            let found = affinity
                .exact()
                .and_then(|reference| images.find(reference));
            found.is_some()
                || images.all().iter().any(|image| {
                    let mut tags = image.tags.iter().flat_map(|tag| image_names(tag));
                    affinity.names(&image.id) || tags.any(|name| affinity.names(name))
                })
        };
        let hosts = self.fleet.hosts();
        let with = hosts.iter().filter(|(_, host)| has(host));
        with.map(|(id, _)| *id).collect()
    }
}

/// What an image may be called: as it is, and without its tag.
fn image_names(reference: &str) -> impl Iterator<Item = &str> {
    let repository = reference
        .rsplit_once(':')
        .filter(|(_, tag)| !tag.contains('/'))
        .map(|(repository, _)| repository);
    std::iter::once(reference).chain(repository)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn newcomer() -> Newcomer {
        Newcomer {
            node: NodeId::from_bytes([1; 16]),
            name: "web1".to_owned(),
            image: "localhost:5000/nginx:1.25".to_owned(),
            labels: vec![("tier".to_owned(), "front".to_owned())],
        }
    }

    #[test]
    fn a_container_is_meant_before_it_is_made() {
        let check = |text: &str, expected: bool| {
            let affinity = Affinity::parse(text).expect(text);
            assert_eq!(newcomer().is_meant_by(&affinity), expected, "{text}");
        };
        check("container==web1", true);
        check("container!=web*", true);
        check("container==web", false);
        check("image==localhost:5000/nginx", true);
        check("image==localhost:5000/nginx:1.25", true);
        check("image==nginx", false);
        check("image==*/nginx", true);
        check("tier==front", true);
        check("tier==back", false);
        check("label==tier", true);
        check("label==zone", false);
    }

    #[test]
    fn a_newcomer_counts_until_it_has_arrived() {
        let all = Newcomers::default();
        let affinity = Affinity::parse("container==web1").expect("valid");
        let arrival = all.expect(RequestId::from_bytes([7; 16]), newcomer());
        assert_eq!(all.nodes(&affinity).len(), 1);
        drop(arrival);
        assert!(all.nodes(&affinity).is_empty());
    }
}
