//! The nodes as the next decision finds them, kept from one to the next: only what has changed since is looked at anew.
//!
//! What was promised is compared with what it was (`Cluster::nodes_changed_since`), what was observed is told of
//! (`engine::Changes`). What depends on the request, who has its image and its ports, is marked for each.
//!
//! **Invariant**: it is what it would be if it was made anew; the simulation compares the two.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Image, Manager};
use crate::engine::{Host, Verdict};
use crate::model::{self, Node, NodeId, Placement, Resources};
use crate::scheduler::{self, Candidate, Ledger, Request, SLOTS_LABELS, TakenPort, Traits};
use crate::state::{Cluster, View};

type Hosts = Arc<BTreeMap<NodeId, Arc<Host>>>;

/// The nodes as of the last decision.
#[derive(Debug, Default)]
pub(super) struct Board(Mutex<Seen>);

/// What was seen, and what follows from it.
#[derive(Debug, Default)]
pub(super) struct Seen {
    hosts: Hosts,
    cluster: View,
    nodes: Ledger,
    /// Those that are marked as having the image of the last request.
    with_image: BTreeSet<NodeId>,
    /// Those that are marked as having something at its ports.
    with_ports: BTreeSet<NodeId>,
    /// The one that was looked at without the container whose place the last request was to take.
    without_one: Option<NodeId>,
}

impl Manager {
    /// The nodes as they are promised and observed right now. Nobody else decides until it is dropped.
    pub(super) fn board(&self) -> MutexGuard<'_, Seen> {
        let mut seen = self.board.0.lock().unwrap_or_else(PoisonError::into_inner);
        // In this order: what changes from here on is told of again.
        let mut changed = self.fleet.inventory.changes().take();
        let (hosts, cluster) = (self.fleet.hosts(), self.cluster());
        if !Arc::ptr_eq(&hosts, &seen.hosts) {
            changed.extend(hosts.keys().chain(seen.hosts.keys()));
        }
        changed.extend(cluster.nodes_changed_since(&seen.cluster));
        changed.extend(seen.without_one.take());
        for id in changed {
            match (cluster.node(id), hosts.get(&id)) {
                (Some(node), Some(host)) => {
                    let mut candidate = self.candidate(node, host, &cluster);
                    candidate.has_image = seen.with_image.contains(&id);
                    seen.nodes.put(candidate);
                }
                _ => seen.nodes.remove(id),
            }
        }
        (seen.hosts, seen.cluster) = (hosts, cluster);
        seen
    }

    /// The nodes that the next decision would not find as they are: none, ever.
    pub fn misjudged(&self) -> Vec<String> {
        let board = self.board();
        let nodes = board.cluster.nodes();
        let known = nodes.filter_map(|node| Some((node, board.hosts.get(&node.id)?)));
        let anew = known.map(|(node, host)| self.candidate(node, host, &board.cluster));
        let anew: BTreeMap<_, _> = anew.map(|node| (node.node, node)).collect();
        let kept = board.nodes.nodes().iter().cloned().map(|mut node| {
            node.has_image = false;
            node.taken.clear();
            (node.node, node)
        });
        let kept: BTreeMap<_, _> = kept.collect();
        let all: BTreeSet<_> = anew.keys().chain(kept.keys()).collect();
        let differs = all.into_iter().filter(|id| anew.get(id) != kept.get(id));
        differs
            .map(|id| format!("{:?} is taken for {:?}", anew.get(id), kept.get(id)))
            .collect()
    }

    /// A node as it is promised and observed right now, but for what depends on the request.
    fn candidate(&self, node: &Node, host: &Host, cluster: &Cluster) -> Candidate {
        let counts = self.fleet.inventory.counts(&node.id);
        let promised = cluster.totals(node.id);
        let health = host.health();
        // It answers, but what was put off there was not tried yet.
        let came_back = matches!(node.verdict, model::Verdict::Down { .. });
        Candidate {
            node: node.id,
            name: node.name.clone(),
            // What this manager sees counts before it is committed: the loss of a node is not waited for.
            verdict: match health.verdict {
                Verdict::Down => model::Verdict::Down {
                    reason: health.reason,
                },
                Verdict::Ready | Verdict::Suspect if came_back => model::Verdict::Ready,
                Verdict::Ready | Verdict::Suspect => node.verdict.clone(),
            },
            suspect: health.verdict == Verdict::Suspect,
            availability: node.availability,
            counted: host.is_counted() && !came_back,
            platform: node.engine.as_ref().map(|engine| engine.platform.clone()),
            machine: node
                .engine
                .as_ref()
                .map_or(Resources::ZERO, |engine| engine.capacity),
            capacity: node.capacity(),
            claimed: promised.claimed,
            unmanaged: counts.unmanaged_claims,
            stock: self.stock(node.id, cluster),
            containers: promised
                .placements
                .saturating_add(u32::try_from(counts.unmanaged).unwrap_or(u32::MAX)),
            slots: self.slots(node, host),
            newest_api: node.engine.as_ref().map(|engine| engine.api.max),
            has_image: false,
            taken: Vec::new(),
            traits: Arc::new(traits(node, host)),
        }
    }

    /// How many containers a node takes at most. A label that is no number limits nothing, and is warned of where it is set.
    fn slots(&self, node: &Node, host: &Host) -> Option<u32> {
        let facts = host.facts();
        let said = [&node.labels, &facts.labels]
            .into_iter()
            .find_map(|labels| {
                let mut said = SLOTS_LABELS.iter().filter_map(|name| labels.get(*name));
                said.find_map(|text| scheduler::slots(text))
            });
        said.or(self.settings.placing.slots)
    }

    /// Of the ports that the request asks for, those that are promised or in use on the node.
    fn taken(&self, request: &Request, cluster: &Cluster, node: NodeId) -> Vec<TakenPort> {
        let promised = |port| {
            let holder = cluster.ports().holder_on(node, port);
            let holder = holder.map(|hold| hold.request);
            let holder = holder.or_else(|| cluster.ports().exposer_on(node, port))?;
            cluster
                .placement(holder)
                .map(|placement| placement.name.clone())
        };
        let inventory = &self.fleet.inventory;
        let in_use = |port| {
            let publisher = inventory.publisher(&node, port);
            Some(publisher.or_else(|| inventory.exposer(&node, port))?.name())
        };
        let ports = request.ports.iter();
        ports
            .filter_map(|port| {
                let by = promised(port).or_else(|| in_use(port))?;
                Some(TakenPort { port: *port, by })
            })
            .collect()
    }
}

impl Seen {
    /// What was promised.
    pub(super) fn cluster(&self) -> View {
        Arc::clone(&self.cluster)
    }

    /// The nodes as one request finds them, without the placement whose place it is to take. Without an image, none has it.
    pub(super) fn nodes(
        &mut self,
        request: &Request,
        image: Option<&Image>,
        replaced: Option<&Placement>,
        manager: &Manager,
    ) -> &Ledger {
        let holders = image.into_iter().flat_map(|image| &image.holders);
        let with_image: BTreeSet<_> = holders.map(|host| host.tag.id).collect();
        for id in with_image.symmetric_difference(&self.with_image) {
            let has_image = with_image.contains(id);
            self.nodes.change(*id, |node| node.has_image = has_image);
        }
        self.with_image = with_image;
        for id in std::mem::take(&mut self.with_ports) {
            self.nodes.change(id, |node| node.taken.clear());
        }
        if let Some(replaced) = replaced {
            let mut held = Request::default();
            if replaced.claiming {
                held.claim = replaced.claim;
                held.generic = self.cluster.counted((&replaced.generic).into());
            }
            self.nodes.give_back(replaced.node, &held);
            self.without_one = Some(replaced.node);
        }
        if !request.ports.is_empty() {
            for id in self.hosts.keys() {
                let taken = manager.taken(request, &self.cluster, *id);
                if !taken.is_empty() {
                    self.with_ports.insert(*id);
                    self.nodes.change(*id, |node| node.taken = taken);
                }
            }
        }
        &self.nodes
    }
}

/// What constraints may ask of the node.
fn traits(node: &Node, host: &Host) -> Traits {
    let facts = host.facts();
    Traits {
        hostname: facts.hostname.clone(),
        address: node.address.clone(),
        node_labels: node.labels.clone(),
        engine_labels: facts.labels.clone(),
        says: facts.says.clone(),
    }
}
