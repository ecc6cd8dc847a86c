//! The names that links give: they stand in the list item of the container that is linked, and come and go with the one that
//! links it. Engines tell of that one alone.
//!
//! **Invariant**: what neither links nor is linked costs no read here.

use std::sync::Arc;

use api_compat::inspect::Link;

use super::{Object, Waiter, Watcher};
use crate::clock;
use crate::engine::inventory::Found;
use crate::model::ContainerId;

impl Watcher {
    /// Those whose list items show what the container calls them, or did until it went.
    pub(super) fn linked_by(&mut self, id: ContainerId) -> Vec<ContainerId> {
        if let Some(parted) = self.parted.remove(&id) {
            return parted;
        }
        let linking = self.inventory.get(&id);
        let name = linking.as_ref().and_then(|linking| linking.names.first());
        name.map_or_else(Vec::new, |name| {
            self.inventory.linked_by(&self.host.tag.id, name)
        })
    }

    /// The containers of this node that a create links.
    pub(super) fn named_here(&self, references: &[String]) -> Vec<ContainerId> {
        let node = &self.host.tag;
        let find = |reference: &String| {
            let there = self.inventory.find(&format!("{}/{reference}", node.name));
            match (there, self.inventory.find(reference)) {
                (Found::One(there), _) => Some(there.id),
                (_, Found::One(found)) if found.host.id == node.id => Some(found.id),
                _ => None,
            }
        };
        references.iter().filter_map(find).collect()
    }

    /// Those whose list items do not show what an inspect says they are called.
    pub(super) fn unaware_of(&self, links: &[Link]) -> Vec<ContainerId> {
        let linked = |link: &Link| {
            let found = self.named_here(std::slice::from_ref(&link.container));
            let unaware = |id: &ContainerId| {
                let linked = self.inventory.get(id);
                linked.is_some_and(|linked| !linked.is_linked_as(&link.name))
            };
            found.into_iter().find(unaware)
        };
        links.iter().filter_map(linked).collect()
    }

    /// Reads them again; `waiter` wakes when all of them, and what else it waits for, are shown.
    pub(super) fn reread_linked(&mut self, linked: Vec<ContainerId>, waiter: Option<&Waiter>) {
        for id in linked {
            let object = Object::Container(id);
            self.rereads.hold(&object);
            let waiter = waiter.map(Arc::clone);
            let step = self.rereads.settle(&object, None, waiter, clock::instant());
            self.take(object, step);
        }
    }
}
