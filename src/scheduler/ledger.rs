//! Nodes and what is left of them, kept from one decision to the next.
//!
//! A decision changes one node, and so does what is given back: neither looks at any container. What each decision needs of
//! each node is kept side by side, so that thousands of nodes stay in the processor's cache; the rest of a node is looked at
//! only if it could be chosen.
//!
//! **Invariant**: it chooses what [`place`] would choose among its nodes; what is held on a node is the sum of what was placed
//! there and not given back.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::brief::Brief;
use super::strategy;
use super::{
    Candidate, Chosen, Place, Refusal, Request, Sources, TakenPort, broken, passes, place,
};
use crate::model::NodeId;

/// Nodes, and what is left of each.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    nodes: Vec<Candidate>,
    /// What each decision needs of each, in the same order.
    briefs: Vec<Brief>,
    at: BTreeMap<NodeId, usize>,
}

impl Ledger {
    /// Begins with what the nodes have left.
    pub fn new(nodes: Vec<Candidate>) -> Self {
        let ids = nodes.iter().map(|node| node.node);
        let at = ids.enumerate().map(|(at, id)| (id, at)).collect();
        let briefs = nodes.iter().map(Brief::of).collect();
        Self { nodes, briefs, at }
    }

    /// The nodes as they are now.
    pub fn nodes(&self) -> &[Candidate] {
        &self.nodes
    }

    /// One of them.
    pub fn node(&self, id: NodeId) -> Option<&Candidate> {
        self.at.get(&id).map(|at| &self.nodes[*at])
    }

    /// Puts a node in, in the place of what it was if it is known.
    pub fn put(&mut self, node: Candidate) {
        let id = node.node;
        match self.at.get(&id) {
            Some(at) => self.nodes[*at] = node,
            None => {
                self.at.insert(id, self.nodes.len());
                self.briefs.push(Brief::of(&node));
                self.nodes.push(node);
            }
        }
        self.note(id);
    }

    /// Takes a node out.
    pub fn remove(&mut self, id: NodeId) {
        let Some(at) = self.at.remove(&id) else {
            return;
        };
        self.nodes.swap_remove(at);
        self.briefs.swap_remove(at);
        if let Some(moved) = self.nodes.get(at) {
            self.at.insert(moved.node, at);
        }
    }

    /// Changes a node.
    pub fn change(&mut self, id: NodeId, change: impl FnOnce(&mut Candidate)) {
        if let Some(node) = self.node_mut(id) {
            change(node);
        }
        self.note(id);
    }

    /// Changes all of them.
    pub fn change_all(&mut self, change: impl Fn(&mut Candidate)) {
        self.nodes.iter_mut().for_each(change);
        self.briefs = self.nodes.iter().map(Brief::of).collect();
    }

    /// The same without some of its nodes.
    pub fn without(&self, nodes: &BTreeSet<NodeId>) -> Cow<'_, Self> {
        if nodes.is_empty() {
            return Cow::Borrowed(self);
        }
        let others = self.nodes.iter().filter(|node| !nodes.contains(&node.node));
        Cow::Owned(Self::new(others.cloned().collect()))
    }

    /// Chooses a node.
    pub fn choose(&self, request: &Request) -> Result<Chosen, Refusal> {
        match self.best(request) {
            Some(best) => Ok(Chosen::of(best)),
            None => place(request, &self.nodes),
        }
    }

    /// Chooses a node and holds there what is asked for, in the name of `holder`.
    pub fn place(&mut self, request: &Request, holder: &str) -> Result<Chosen, Refusal> {
        let chosen = self.choose(request)?;
        self.hold(chosen.node, request, holder);
        Ok(chosen)
    }

    /// The best of the nodes that fit: a whole node is looked at only if its brief could be that of the best.
    fn best(&self, request: &Request) -> Option<&Candidate> {
        let sources = Sources::new(&self.nodes);
        let mut best: Option<(Place, &Candidate)> = None;
        for (brief, node) in self.briefs.iter().zip(&self.nodes) {
            if !brief.has_room(request.claim) {
                continue;
            }
            let standing = |broken| {
                (
                    Reverse(brief.suspect),
                    Reverse(broken),
                    strategy::rank(request, brief),
                )
            };
            let is_better =
                |standing: &Place| best.as_ref().is_none_or(|(found, _)| standing > found);
            if !is_better(&standing(0)) || !passes(request, node, &sources) {
                continue;
            }
            let standing = standing(broken(request, node));
            if is_better(&standing) {
                best = Some((standing, node));
            }
        }
        best.map(|(_, node)| node)
    }

    /// Holds on a node what is asked for, fit or not: it may run there already.
    pub fn hold(&mut self, id: NodeId, request: &Request, holder: &str) {
        let Some(node) = self.node_mut(id) else {
            return;
        };
        node.claimed = node.claimed.saturating_add(request.claim);
        node.stock.take(&request.generic);
        node.containers = node.containers.saturating_add(1);
        let ports = request.ports.iter().map(|port| TakenPort {
            port: *port,
            by: holder.to_owned(),
        });
        node.taken.extend(ports);
        self.note(id);
    }

    /// Gives back what one container held, but for its ports.
    pub fn give_back(&mut self, id: NodeId, request: &Request) {
        if let Some(node) = self.node_mut(id) {
            node.claimed = node.claimed.saturating_sub(request.claim);
            node.stock.give_back(&request.generic);
            node.containers = node.containers.saturating_sub(1);
        }
        self.note(id);
    }

    /// Brings a node's brief up to date.
    fn note(&mut self, id: NodeId) {
        if let Some(at) = self.at.get(&id) {
            self.briefs[*at] = Brief::of(&self.nodes[*at]);
        }
    }

    fn node_mut(&mut self, id: NodeId) -> Option<&mut Candidate> {
        self.at.get(&id).map(|at| &mut self.nodes[*at])
    }
}
