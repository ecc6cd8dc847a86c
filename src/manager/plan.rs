//! What would be if: whether containers would fit, and what could no longer run without a node.
//!
//! The answers are those of the same scheduler over the same numbers as when it counts.
//!
//! **Invariant**: nothing is committed and no engine is asked.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api_compat::ApiVersion;
use api_compat::container_item::Head;
use api_compat::policies::Policies;

use super::affinities::Newcomer;
use super::decisions::told;
use super::networks::Joins;
use super::placing::giving_way;
use super::surviving::{Rehearsal, TRIED};
use super::{CreateOrder, Error, Manager};
use crate::api::{self, Loss, Moved, Plan, Stranded};
use crate::model::generic::Wishes;
use crate::model::{
    NetworkId, NodeId, Placement, PortOrigin, PublishedPort, RequestId, Resources, VolumeKind,
};
use crate::scheduler::{
    self, Candidate, Chosen, Decision, Ledger, Pin, Refusal, Request, TakenPort,
};
use crate::state::Cluster;

/// What a plan has put on a node so far.
#[derive(Debug, Clone, Default)]
struct Added {
    claim: Resources,
    generic: Wishes,
    containers: u32,
    ports: Vec<TakenPort>,
}

type AddedByNode = BTreeMap<NodeId, Added>;

/// Containers that stay together.
type Group = Vec<Arc<Placement>>;

/// Containers of a node that is lost, and what they ask of another one, or why none will do.
struct Moving {
    containers: Vec<String>,
    request: Result<Request, String>,
}

impl Moving {
    fn size(&self) -> (u64, u64) {
        let claim = self.request.as_ref().map(|request| request.claim);
        let claim = claim.unwrap_or(Resources::ZERO);
        (claim.memory_bytes, claim.cpu_nanos)
    }
}

impl Manager {
    /// Where `count` containers like this one would go, and what would become of those of the node `lose` then.
    pub fn plan(
        &self,
        order: Option<(&CreateOrder<'_>, u32)>,
        lose: Option<NodeId>,
    ) -> Result<Plan, Error> {
        let cluster = self.cluster();
        let mut added = AddedByNode::new();
        let mut plan = Plan::default();
        let mut moving = Vec::new();
        if let Some((order, count)) = order {
            let request = self.plan_creates(order, count, &cluster, &mut added, &mut plan)?;
            let there = lose.and_then(|node| added.remove(&node));
            let there = there.map_or(0, |added| added.containers);
            moving.extend((0..there).map(|_| Moving {
                containers: vec![planned_name(order).to_owned()],
                request: Ok(request.clone()),
            }));
        }
        if let Some(node) = lose {
            plan.loss = Some(self.plan_loss(node, &cluster, moving, added)?);
        }
        Ok(plan)
    }

    fn plan_creates(
        &self,
        order: &CreateOrder<'_>,
        count: u32,
        cluster: &Cluster,
        added: &mut AddedByNode,
        plan: &mut Plan,
    ) -> Result<Request, Error> {
        let joins = self.joins(order.wanted);
        let mut request = self.request(order, &joins, cluster)?;
        let mut beside = self.beside_its_group(order.wanted, &joins, cluster);
        let image = self.image(&request.image);
        let mut ledger = self
            .board()
            .nodes(&request, image.as_deref(), None, self)
            .clone();
        if request.image.is_empty() {
            ledger.change_all(|node| node.has_image = true);
        }
        let mut rehearsal = self.rehearsal(cluster);
        let name = planned_name(order);
        for _ in 0..count {
            request.seed = self.seed(request.strategy);
            let one = Planned::surviving(order, &request, &beside, &ledger, &mut rehearsal);
            plan.decision = Some(one.told(order, name));
            let Some(chosen) = one.chosen() else {
                break;
            };
            plan.warning = one.warning.clone();
            plan.placed.push(chosen.name.to_string());
            ledger.hold(chosen.node, &one.request, name);
            let once = Added::one(&one.request, name);
            added.entry(chosen.node).or_default().add(once);
            let newcomer = Newcomer::new(order.wanted, name, chosen.node);
            let affinities = order.policies.affinities.iter();
            for (near, affinity) in request.affinities.iter_mut().zip(affinities) {
                if newcomer.is_meant_by(affinity) {
                    near.nodes.insert(chosen.node);
                }
            }
            if plan.placed.len() == 1 {
                request
                    .pins
                    .extend(self.pins_by_first(order, &joins, cluster, chosen));
                beside = None;
            }
        }
        Ok(request)
    }

    /// What ties containers to the node of the first of their kind: networks and volumes that are nowhere before.
    fn pins_by_first(
        &self,
        order: &CreateOrder<'_>,
        joins: &Joins,
        cluster: &Cluster,
        first: &Chosen,
    ) -> Vec<Pin> {
        let volumes = self.fleet.host(&first.node).map(|host| {
            let volumes = self.new_volumes(order.wanted, cluster, &host).into_iter();
            let bound = volumes.filter(|new| new.spec.kind() == VolumeKind::OneNode);
            bound.map(|new| format!("volume {}", new.spec.name))
        });
        let networks = joins.ids().into_iter().filter_map(|id| cluster.network(id));
        let networks = networks
            .filter(|network| network.node().is_none())
            .map(|network| format!("network {}", network.name));
        let what = networks.chain(volumes.into_iter().flatten());
        what.map(|what| Pin {
            nodes: BTreeSet::from([first.node]),
            why: format!("{what}, which would be on {}", first.name),
        })
        .collect()
    }

    /// Gives what runs on the node a place elsewhere, the largest first.
    fn plan_loss(
        &self,
        node: NodeId,
        cluster: &Cluster,
        mut moving: Vec<Moving>,
        mut added: AddedByNode,
    ) -> Result<Loss, Error> {
        let lost = cluster
            .node(node)
            .ok_or_else(|| Error::Impossible("the node has just left the cluster".to_owned()))?;
        let mut loss = Loss {
            node: lost.name.to_string(),
            ..Loss::default()
        };
        let groups = groups(cluster, node).into_iter();
        moving.extend(groups.map(|group| Moving {
            containers: group.iter().map(|one| one.name.clone()).collect(),
            request: self.request_to_move(node, &group, cluster),
        }));
        moving.sort_by_key(|moving| std::cmp::Reverse(moving.size()));
        for Moving {
            containers,
            request,
        } in moving
        {
            let placed = request.and_then(|mut request| {
                for near in &mut request.affinities {
                    near.nodes.remove(&node);
                }
                self.plan_move(node, &request, &containers[0], &mut added)
            });
            let containers = containers.into_iter();
            match placed {
                Ok(node) => loss.movable.extend(containers.map(|container| Moved {
                    container,
                    node: node.clone(),
                })),
                Err(why) => loss.stranded.extend(containers.map(|container| Stranded {
                    container,
                    why: why.clone(),
                })),
            }
        }
        loss.movable.sort_by(|a, b| a.container.cmp(&b.container));
        loss.stranded.sort_by(|a, b| a.container.cmp(&b.container));
        Ok(loss)
    }

    /// The node that would take what was on another one, or why there is none.
    fn plan_move(
        &self,
        from: NodeId,
        request: &Request,
        name: &str,
        added: &mut AddedByNode,
    ) -> Result<String, String> {
        let mut nodes = self.board().nodes(request, None, None, self).clone();
        nodes.remove(from);
        nodes.change_all(|node| {
            // It is in the pool: whether it can be brought in time is another question.
            node.has_image = true;
            if let Some(added) = added.get(&node.node) {
                added.apply(node);
            }
        });
        let chosen = nodes.choose(request).map_err(|no| no.to_string())?;
        let once = Added::one(request, name);
        added.entry(chosen.node).or_default().add(once);
        Ok(chosen.name.to_string())
    }

    /// What a group asks of another node, as far as it is known without its node.
    fn request_to_move(
        &self,
        from: NodeId,
        group: &[Arc<Placement>],
        cluster: &Cluster,
    ) -> Result<Request, String> {
        let tied = |one: &Arc<Placement>| Some((one.name.clone(), tied_by(cluster, one)?.clone()));
        match (group.iter().find_map(tied), group) {
            (None, _) => {}
            (Some((_, volume)), [_]) => {
                return Err(format!("volume {volume} is on that node only"));
            }
            (Some((name, volume)), _) => {
                return Err(format!(
                    "volume {volume} of {name} is on that node only, and they share a network"
                ));
            }
        }
        let engine = cluster.node(from).and_then(|node| node.engine.as_ref());
        let mut request = Request {
            platform: engine.map(|engine| engine.platform.clone()),
            ..Request::default()
        };
        for placement in group {
            request.claim = request.claim.saturating_add(placement.claim);
            let wishes = Wishes::from(&placement.generic);
            for (name, amount) in wishes.iter() {
                request.generic.add(name, amount);
            }
            let mut ports: Vec<PublishedPort> = placement
                .ports
                .iter()
                .filter(|claim| matches!(claim.origin, PortOrigin::Asked | PortOrigin::Exposed))
                .map(|claim| claim.port)
                .collect();
            request.ports.append(&mut ports);
            let policies = self.policies_of(placement)?;
            let near = self.near(&policies.affinities, cluster, None);
            request.affinities.extend(near);
            request.constraints.extend(policies.constraints);
        }
        request.generic = cluster.counted(request.generic);
        Ok(request)
    }

    /// What a container that exists says of its nodes.
    fn policies_of(&self, placement: &Placement) -> Result<Policies, String> {
        let container = placement.container;
        let Some(container) = container.and_then(|id| self.fleet.inventory.get(&id)) else {
            return Ok(Policies::default());
        };
        let mut item = Vec::new();
        container.render(&mut item, ApiVersion::MAX, "", "");
        let Ok(head) = Head::parse(&item) else {
            return Ok(Policies::default());
        };
        let labels = head.labels.iter().map(|(key, value)| (&**key, &**value));
        Policies::of_labels(&labels.collect::<Vec<_>>()).map_err(|error| error.message)
    }
}

/// What one more of the planned creates would come to.
struct Planned {
    /// What was asked for in the end: it may have given way.
    request: Request,
    decision: Decision,
    /// Why it gave way.
    gave_way: Option<Refusal>,
    /// Why it is refused although nodes fit.
    refused: Option<Error>,
    warning: Option<String>,
}

impl Planned {
    /// Chooses as a create does, with an eye to the loss of a node where the settings ask for it.
    fn surviving(
        order: &CreateOrder<'_>,
        request: &Request,
        beside: &Option<Pin>,
        nodes: &Ledger,
        rehearsal: &mut Option<Rehearsal<'_>>,
    ) -> Self {
        let mut left_out = BTreeSet::new();
        let mut refused = None;
        while left_out.len() < TRIED {
            let mut one = Self::chosen_among(&nodes.without(&left_out), request, beside);
            let Some(chosen) = one.chosen() else {
                break;
            };
            let node = chosen.node;
            let judged = rehearsal.as_mut().map(|it| it.claim(order, node));
            match judged.transpose() {
                Ok(warning) => {
                    one.warning = warning.flatten();
                    return one;
                }
                Err(why) => refused = refused.or(Some(why)),
            }
            left_out.insert(node);
        }
        // What is told is how all of them stood.
        let all = Self::chosen_among(nodes, request, beside);
        Self { refused, ..all }
    }

    fn chosen_among(nodes: &Ledger, request: &Request, beside: &Option<Pin>) -> Self {
        let mut refusal = None;
        let mut last = None;
        for request in giving_way(request.clone(), beside.clone()) {
            let outcome = nodes.choose(&request);
            let gave_way = refusal.take().filter(|_| request.ports.is_empty());
            refusal = outcome.as_ref().err().cloned();
            last = Some((request, outcome, gave_way));
            if refusal.is_none() {
                break;
            }
        }
        let (request, outcome, gave_way) = last.expect("something is asked for");
        Self {
            decision: scheduler::explain(outcome, &request, nodes.nodes()),
            request,
            gave_way,
            refused: None,
            warning: None,
        }
    }

    fn chosen(&self) -> Option<&Chosen> {
        let chosen = self.decision.outcome.as_ref().ok();
        chosen.filter(|_| self.refused.is_none())
    }

    fn told(&self, order: &CreateOrder<'_>, name: &str) -> api::Decision {
        let gave_way = self.gave_way.as_ref();
        let mut told = told(order, name, &self.request, &self.decision, gave_way);
        if let Some(why) = &self.refused {
            told.node = None;
            told.refusal = Some(why.to_string());
        }
        told
    }
}

impl Added {
    fn one(request: &Request, by: &str) -> Self {
        let taken = |port: &PublishedPort| TakenPort {
            port: *port,
            by: by.to_owned(),
        };
        Self {
            claim: request.claim,
            generic: request.generic.clone(),
            containers: 1,
            ports: request.ports.iter().map(taken).collect(),
        }
    }

    fn add(&mut self, more: Self) {
        self.claim = self.claim.saturating_add(more.claim);
        for (name, amount) in more.generic.iter() {
            self.generic.add(name, amount);
        }
        self.containers += more.containers;
        self.ports.extend(more.ports);
    }

    fn apply(&self, candidate: &mut Candidate) {
        candidate.claimed = candidate.claimed.saturating_add(self.claim);
        candidate.stock.take(&self.generic);
        candidate.containers += self.containers;
        candidate.taken.extend_from_slice(&self.ports);
    }
}

/// The first volume of a container that is on its node only.
pub(super) fn tied_by<'a>(cluster: &Cluster, placement: &'a Placement) -> Option<&'a String> {
    placement.volumes.iter().find(|name| {
        let record = cluster.volume(placement.realm, name);
        record.is_some_and(|record| record.residence.bound().is_some())
    })
}

/// What runs on a node: containers that share a network of the cluster stay together.
fn groups(cluster: &Cluster, node: NodeId) -> Vec<Group> {
    let mut by_network: BTreeMap<NetworkId, usize> = BTreeMap::new();
    let mut groups: Vec<BTreeMap<RequestId, Arc<Placement>>> = Vec::new();
    let running = cluster.placements_on(node).filter(|one| one.claiming);
    for placement in running {
        let mut group = BTreeMap::from([(placement.request, Arc::clone(placement))]);
        // Groups that this one joins are one from now on.
        for network in &placement.networks {
            if let Some(at) = by_network.get(network) {
                group.append(&mut groups[*at]);
            }
        }
        let networks = group.values().flat_map(|placement| &placement.networks);
        by_network.extend(networks.map(|network| (*network, groups.len())));
        groups.push(group);
    }
    let groups = groups.into_iter().filter(|group| !group.is_empty());
    groups.map(|group| group.into_values().collect()).collect()
}

/// What a container that is planned is called.
fn planned_name<'a>(order: &'a CreateOrder<'_>) -> &'a str {
    order.name.as_deref().unwrap_or("(planned)")
}
