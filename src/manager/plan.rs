//! What would be if: whether containers would fit, and what could no longer run without a node.
//!
//! The answers are those of the same scheduler over the same numbers as when it counts.
//!
//! **Invariant**: nothing is committed and no engine is asked.

use api_compat::create::NetworkMode;
use std::collections::{BTreeMap, BTreeSet};

use super::affinities::Newcomer;
use super::decisions::told;
use super::losing::{Losing, Resident};
use super::networks::Joins;
use super::placing::giving_way;
use super::surviving::{Rehearsal, TRIED};
use super::{CreateOrder, Error, Manager};
use crate::api::{self, Plan};
use crate::model::generic::Wishes;
use crate::model::{NodeId, PublishedPort, Resources, VolumeKind};
use crate::scheduler::{
    self, Candidate, Chosen, Decision, Ledger, Pin, Refusal, Request, TakenPort,
};
use crate::state::Cluster;

/// What a plan has put on a node so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Added {
    claim: Resources,
    generic: Wishes,
    pub(super) containers: u32,
    ports: Vec<TakenPort>,
}

pub(super) type AddedByNode = BTreeMap<NodeId, Added>;

impl Manager {
    /// Where `count` containers like this one would go, and what would become of those of the node `lose` then.
    pub fn plan(
        &self,
        order: Option<(&CreateOrder<'_>, u32)>,
        lose: Option<&Losing>,
    ) -> Result<Plan, Error> {
        let cluster = self.cluster();
        let mut added = AddedByNode::new();
        let mut plan = Plan::default();
        let mut planned = Vec::new();
        if let Some((order, count)) = order {
            let request = self.plan_creates(order, count, &cluster, &mut added, &mut plan)?;
            let there = lose.and_then(|losing| Some((losing.node, added.remove(&losing.node)?)));
            if let Some((node, there)) = there {
                let one = || self.planned_resident(order, node, request.clone());
                planned.extend((0..there.containers).map(|_| one()));
            }
        }
        if let Some(losing) = lose {
            plan.loss = Some(self.plan_loss(losing, &cluster, planned, added)?);
        }
        Ok(plan)
    }

    /// A container that is planned, as one that would have to leave its node again.
    fn planned_resident(
        &self,
        order: &CreateOrder<'_>,
        node: NodeId,
        mut request: Request,
    ) -> Resident {
        let name = planned_name(order);
        let ports = std::mem::take(&mut request.ports);
        let (ports, hints) = match order.wanted.network_mode {
            NetworkMode::Host => (Vec::new(), ports),
            _ => (ports, Vec::new()),
        };
        Resident {
            name: name.to_owned(),
            request: Request { ports, ..request },
            hints,
            affinities: order.policies.affinities.clone(),
            known_as: Newcomer::new(order.wanted, name, node),
            id: None,
            networks: self.joins(order.wanted).ids().into_iter().collect(),
            needs: Vec::new(),
            stays: None,
        }
    }

    /// Puts the containers on nodes, one after the other. What one of them asks, then, but for its networks: those would go
    /// with it.
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
        let mut network_pins = self.network_pins(&joins, cluster);
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
                let networks = networks_with_first(&joins, cluster, chosen);
                request.pins.extend(networks.iter().cloned());
                network_pins.extend(networks);
                let volumes = self.volumes_with_first(order, cluster, chosen);
                request.pins.extend(volumes);
                beside = None;
            }
        }
        request.pins.retain(|pin| !network_pins.contains(pin));
        Ok(request)
    }

    /// What ties containers to the node of the first of their kind: volumes that were nowhere before.
    fn volumes_with_first(
        &self,
        order: &CreateOrder<'_>,
        cluster: &Cluster,
        first: &Chosen,
    ) -> Vec<Pin> {
        let Some(host) = self.fleet.host(&first.node) else {
            return Vec::new();
        };
        let volumes = self.new_volumes(order.wanted, cluster, &host).into_iter();
        let bound = volumes.filter(|new| new.spec.kind() == VolumeKind::OneNode);
        let pins = bound.map(|new| pin_with_first(&format!("volume {}", new.spec.name), first));
        pins.collect()
    }
}

/// Likewise, networks.
fn networks_with_first(joins: &Joins, cluster: &Cluster, first: &Chosen) -> Vec<Pin> {
    let networks = joins.ids().into_iter().filter_map(|id| cluster.network(id));
    let unbound = networks.filter(|network| network.node().is_none());
    let pins = unbound.map(|network| pin_with_first(&format!("network {}", network.name), first));
    pins.collect()
}

fn pin_with_first(what: &str, first: &Chosen) -> Pin {
    Pin {
        nodes: BTreeSet::from([first.node]),
        why: format!("{what}, which would be on {}", first.name),
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
    pub(super) fn one(request: &Request, by: &str) -> Self {
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

    pub(super) fn add(&mut self, more: Self) {
        self.claim = self.claim.saturating_add(more.claim);
        for (name, amount) in more.generic.iter() {
            self.generic.add(name, amount);
        }
        self.containers += more.containers;
        self.ports.extend(more.ports);
    }

    pub(super) fn apply(&self, candidate: &mut Candidate) {
        candidate.claimed = candidate.claimed.saturating_add(self.claim);
        candidate.stock.take(&self.generic);
        candidate.containers += self.containers;
        candidate.taken.extend_from_slice(&self.ports);
    }
}

/// What a container that is planned is called.
fn planned_name<'a>(order: &'a CreateOrder<'_>) -> &'a str {
    order.name.as_deref().unwrap_or("(planned)")
}
