//! The networks of the cluster that one engine has: its ids for them and ours, both ways.
//!
//! They are known by their labels, so that whatever was cut off when, what was made for the cluster is found again.
//!
//! **Invariant**: a network that was made for the cluster is never told of by the id that its engine knows it by, from the
//! event that tells of its making to the one that tells of its end.

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use api_compat::inspect::with_our_ids;
use api_compat::json_view::View;
use api_compat::labels;

use crate::model::{ClusterId, NetworkId};

/// So many that are gone are remembered: what is told of them comes a moment later.
const GONE_REMEMBERED: usize = 64;

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnNetwork {
    /// Our id.
    pub id: NetworkId,
    /// The engine's id.
    pub engine_id: NetworkId,
    /// Its name there.
    pub name: String,
}

/// Those of one engine.
#[derive(Debug, Default)]
pub struct OwnNetworks(RwLock<Known>);

#[derive(Debug, Default)]
struct Known {
    here: Vec<OwnNetwork>,
    /// Those that are being made now: the event may come before the answer.
    expected: BTreeMap<String, NetworkId>,
    gone: VecDeque<OwnNetwork>,
}

impl OwnNetworks {
    /// Those that the engine has.
    pub fn here(&self) -> Vec<OwnNetwork> {
        self.read().here.clone()
    }

    /// What the engine has of the network with this id of ours.
    pub fn of(&self, id: NetworkId) -> Option<OwnNetwork> {
        self.read().here.iter().find(|own| own.id == id).cloned()
    }

    /// Our id for a network that the engine knows by that id; also if it has it no more.
    pub fn our_id(&self, engine_id: &str) -> Option<NetworkId> {
        let engine_id: NetworkId = engine_id.parse().ok()?;
        let known = self.read();
        let found = known.here.iter().chain(&known.gone);
        found
            .filter(|own| own.engine_id == engine_id)
            .map(|own| own.id)
            .next()
    }

    /// The engine's words with our ids in place of its own.
    pub fn in_our_words<'a>(&self, words: &'a str) -> Cow<'a, str> {
        with_our_ids(words, &|id| self.our_id(id).map(|ours| ours.to_string()))
    }

    /// Our id for a network that a container of the engine joins. One that never ran knows its name only.
    pub fn joined(&self, name: &str, engine_id: &str) -> Option<NetworkId> {
        let by_name = || {
            let known = self.read();
            known
                .here
                .iter()
                .find(|own| own.name == name)
                .map(|own| own.id)
        };
        self.our_id(engine_id).or_else(by_name)
    }

    /// The network is about to be made under that name.
    pub fn expect(&self, name: &str, id: NetworkId) {
        self.write().expected.insert(name.to_owned(), id);
    }

    /// Nothing came of it.
    pub fn expect_no_more(&self, name: &str) {
        self.write().expected.remove(name);
    }

    /// The network was made.
    pub fn made(&self, own: OwnNetwork) {
        let mut known = self.write();
        known.expected.remove(&own.name);
        if !known.here.contains(&own) {
            known.here.push(own);
        }
    }

    /// Our id for the network that an event is about.
    pub(super) fn told(&self, action: &str, engine_id: &str, name: &str) -> Option<NetworkId> {
        let known = self.our_id(engine_id);
        if known.is_some() || action != "create" {
            return known;
        }
        let expected = self.read().expected.get(name).copied()?;
        self.made(OwnNetwork {
            id: expected,
            engine_id: engine_id.parse().ok()?,
            name: name.to_owned(),
        });
        Some(expected)
    }

    /// The engine has these and no others.
    pub(super) fn listed(&self, here: Vec<OwnNetwork>) {
        let mut known = self.write();
        let before = std::mem::replace(&mut known.here, here);
        for own in before {
            if !known.here.contains(&own) {
                known.gone.push_back(own);
            }
        }
        while known.gone.len() > GONE_REMEMBERED {
            known.gone.pop_front();
        }
    }

    /// A writer that panicked leaves a list that the next reading mends.
    fn read(&self) -> RwLockReadGuard<'_, Known> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Known> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OwnNetwork {
    /// Reads an element of an engine's list, if it was made for this cluster.
    pub fn read(network: View<'_>, cluster: ClusterId) -> Option<Self> {
        let all = network.get("Labels")?;
        if all.text_of(labels::CLUSTER) != cluster.to_string() {
            return None;
        }
        Some(Self {
            id: all.text_of(labels::NETWORK).parse().ok()?,
            engine_id: network.text_of("Id").parse().ok()?,
            name: network.text_of("Name").into_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u8) -> NetworkId {
        NetworkId::from_bytes([number; 32])
    }

    fn own(ours: u8, theirs: u8, name: &str) -> OwnNetwork {
        OwnNetwork {
            id: id(ours),
            engine_id: id(theirs),
            name: name.to_owned(),
        }
    }

    #[test]
    fn a_network_is_told_of_by_our_id_from_its_making_to_its_end() {
        let known = OwnNetworks::default();
        let theirs = id(7).to_string();
        assert_eq!(known.told("create", &theirs, "front"), None);
        known.expect("front", id(1));
        assert_eq!(known.told("create", &theirs, "other"), None);
        assert_eq!(known.told("create", &theirs, "front"), Some(id(1)));
        assert_eq!(known.of(id(1)), Some(own(1, 7, "front")));
        known.made(own(1, 7, "front"));
        known.listed(vec![own(1, 7, "front"), own(2, 8, "back")]);
        assert_eq!(known.here().len(), 2);
        known.listed(vec![own(2, 8, "back")]);
        assert_eq!(known.of(id(1)), None);
        assert_eq!(known.told("destroy", &theirs, "front"), Some(id(1)));
        for _ in 0..GONE_REMEMBERED {
            known.listed(vec![own(2, 9, "back")]);
            known.listed(vec![]);
        }
        assert_eq!(known.our_id(&theirs), None);
    }

    #[test]
    fn the_engines_words_have_our_ids() {
        let known = OwnNetworks::default();
        known.listed(vec![own(1, 7, "front")]);
        known.listed(vec![]);
        let words = |id: NetworkId| format!("network {id} not found");
        assert_eq!(known.in_our_words(&words(id(7))), words(id(1)));
        assert_eq!(known.in_our_words(&words(id(8))), words(id(8)));
    }

    #[test]
    fn a_container_that_never_ran_joins_by_name() {
        let known = OwnNetworks::default();
        known.listed(vec![own(1, 7, "front")]);
        assert_eq!(known.joined("front", ""), Some(id(1)));
        assert_eq!(known.joined("x", &id(7).to_string()), Some(id(1)));
        assert_eq!(known.joined("bridge", &id(9).to_string()), None);
    }

    #[test]
    fn only_what_was_made_for_this_cluster_is_its_own() {
        let cluster = ClusterId::from_bytes([5; 16]);
        let read = |of: ClusterId| {
            let json = format!(
                r#"{{"Name":"front","Id":"{}","Labels":{{"com.flotilla.network":"{}","com.flotilla.cluster":"{of}"}}}}"#,
                id(7),
                id(1)
            );
            let view = View::parse(json.as_bytes()).expect("JSON");
            OwnNetwork::read(view, cluster)
        };
        assert_eq!(read(cluster), Some(own(1, 7, "front")));
        assert_eq!(read(ClusterId::from_bytes([6; 16])), None);
    }
}
