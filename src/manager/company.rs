//! What the containers of a compose project will be together with, as far as its client has looked for it.
//!
//! Compose looks for the networks and volumes that a project shares with others before it makes the first container, which may
//! not need them: a web server is to join the network of a proxy, and the database that it depends on is made first. Where that goes
//! the project's own network goes, so it had better be where what is shared is. This is a hint, and gives way to all else.
//!
//! **Invariant**: nothing here is promised; what was looked for long ago, or is gone, says nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use api_compat::labels::GROUP;

use super::Manager;
use crate::clock;
use crate::model::{NetworkId, NodeId, Realm, Residence};
use crate::state::Cluster;

/// Between looking for what is shared and making a container, clients bring images.
const REMEMBERED: Duration = Duration::from_secs(600);
/// So much is remembered at most.
const MOST: usize = 4096;

/// Something that a project shares with others.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shared {
    /// A network of the cluster.
    Network(NetworkId),
    /// A volume, by name.
    Volume(String),
}

/// What projects have looked for.
#[derive(Debug, Default)]
pub(super) struct Company(Mutex<BTreeMap<(String, Shared), Instant>>);

impl Company {
    fn note(&self, group: &str, shared: Shared) {
        let now = clock::instant();
        let mut all = self.lock();
        if all.len() >= MOST {
            all.retain(|_, noted| now.duration_since(*noted) < REMEMBERED);
        }
        if all.len() < MOST {
            all.insert((group.to_owned(), shared), now);
        }
    }

    /// What a project looked for.
    fn of(&self, group: &str) -> BTreeSet<Shared> {
        let now = clock::instant();
        let all = self.lock();
        let first = (
            group.to_owned(),
            Shared::Network(NetworkId::from_bytes([0; 32])),
        );
        let of_group = all.range(first..).take_while(|((of, _), _)| of == group);
        let fresh = of_group.filter(|(_, noted)| now.duration_since(**noted) < REMEMBERED);
        fresh.map(|((_, shared), _)| shared.clone()).collect()
    }

    /// The projects that looked for the same.
    fn sharers(&self, shared: &Shared) -> BTreeSet<String> {
        let all = self.lock();
        let same = all.keys().filter(|(_, other)| other == shared);
        same.map(|(group, _)| group.clone()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(String, Shared), Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Manager {
    /// The client of a project has looked for something; what is the project's own says nothing new.
    pub fn looked_for(&self, group: &str, shared: Shared) {
        let cluster = self.cluster();
        let is_own = match &shared {
            Shared::Network(id) => {
                let network = cluster.network(*id);
                network.is_none_or(|network| network.group.as_deref() == Some(group))
            }
            Shared::Volume(name) => {
                let volume = cluster.volume(Realm::DEFAULT, name);
                let of = volume.and_then(|volume| volume.spec.labels.as_ref()?.get(GROUP));
                volume.is_none() || of.is_some_and(|of| of == group)
            }
        };
        if !is_own {
            self.company.note(group, shared);
        }
    }

    /// The nodes of what a project shares with others; if that is nowhere yet, of the others that share it.
    pub(super) fn nodes_of_company(&self, group: &str, cluster: &Cluster) -> BTreeSet<NodeId> {
        let all = self.company.of(group);
        let nodes: BTreeSet<_> = all
            .iter()
            .filter_map(|shared| self.node_of(shared, cluster))
            .collect();
        if !nodes.is_empty() {
            return nodes;
        }
        let sharers = all.iter().flat_map(|shared| self.company.sharers(shared));
        let sharers: BTreeSet<_> = sharers.collect();
        let networks = sharers
            .iter()
            .flat_map(|group| cluster.networks_of_group(group));
        networks.filter_map(|network| network.node()).collect()
    }

    fn node_of(&self, shared: &Shared, cluster: &Cluster) -> Option<NodeId> {
        match shared {
            Shared::Network(id) => self.where_it_is(cluster.network(*id)?),
            Shared::Volume(name) => match cluster.volume(Realm::DEFAULT, name)?.residence {
                Residence::On { node, .. } => Some(node),
                _ => None,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_project_is_known_by_what_it_looked_for() {
        let company = Company::default();
        let network = |number| Shared::Network(NetworkId::from_bytes([number; 32]));
        let data = Shared::Volume("data".to_owned());
        company.note("app", network(1));
        company.note("app", data.clone());
        company.note("api", network(1));
        company.note("apple", network(2));
        assert_eq!(company.of("app"), [network(1), data].into());
        assert_eq!(company.of("other"), BTreeSet::new());
        let sharers = company.sharers(&network(1));
        assert_eq!(sharers, ["api", "app"].map(str::to_owned).into());
    }
}
