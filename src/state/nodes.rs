//! Commands about nodes.

use std::collections::BTreeMap;

use crate::model::{Availability, EngineFacts, Node, NodeId, NodeName, Verdict};

use super::refusal::{Change, Refusal};
use super::{Cluster, Retired};

impl Cluster {
    pub(super) fn add_node(
        &mut self,
        id: NodeId,
        name: NodeName,
        endpoint: String,
        address: Option<String>,
        labels: BTreeMap<String, String>,
    ) -> Result<Change, Refusal> {
        if let Some(there) = self.node_at(&endpoint) {
            return if there.id == id {
                Ok(Change::Node(id))
            } else {
                Err(Refusal::EndpointTaken {
                    endpoint,
                    node: there.name.clone(),
                })
            };
        }
        if let Some(before) = self.nodes.get(&id) {
            let endpoint = before.endpoint.clone();
            return Err(Refusal::EndpointTaken {
                endpoint,
                node: before.name.clone(),
            });
        }
        self.node_name_is_free(id, &name)?;
        self.retired.remove(&endpoint);
        self.put_node(Node {
            id,
            name,
            endpoint,
            labels,
            availability: Availability::Active,
            verdict: Verdict::Joining,
            since: self.now,
            address,
            engine: None,
        });
        Ok(Change::Node(id))
    }

    pub(super) fn update_node(
        &mut self,
        id: NodeId,
        name: Option<NodeName>,
        address: Option<String>,
        availability: Option<Availability>,
        labels: Option<BTreeMap<String, String>>,
    ) -> Result<Change, Refusal> {
        let mut node = self.expect_node(id)?.clone();
        if let Some(name) = name {
            self.node_name_is_free(id, &name)?;
            node.name = name;
        }
        node.address = address.or(node.address);
        node.availability = availability.unwrap_or(node.availability);
        node.labels = labels.unwrap_or(node.labels);
        self.put_node(node);
        Ok(Change::Node(id))
    }

    pub(super) fn remove_node(&mut self, id: NodeId, force: bool) -> Result<Change, Refusal> {
        let Some(node) = self.nodes.get(&id).cloned() else {
            return Ok(Change::NodeRemoved(id));
        };
        let placements = self.totals(id).placements;
        if placements > 0 && !force {
            return Err(Refusal::NodeInUse {
                node: node.name.clone(),
                placements,
            });
        }
        let requests: Vec<_> = self.index.requests_on(id).collect();
        for request in requests {
            self.take(request);
        }
        self.unbind_networks_of(id);
        self.forget_images_of(id);
        self.forget_volumes_of(id);
        self.tombstones.forget_node(id);
        self.index.remove_node(&node);
        self.nodes.remove(&id);
        let retired = Retired {
            name: node.name.clone(),
            at: self.now,
        };
        self.retired.insert(node.endpoint.clone(), retired);
        Ok(Change::NodeRemoved(id))
    }

    pub(super) fn report_node(
        &mut self,
        id: NodeId,
        engine: EngineFacts,
    ) -> Result<Change, Refusal> {
        let mut node = self.expect_node(id)?.clone();
        node.engine = Some(engine);
        self.put_node(node);
        Ok(Change::Node(id))
    }

    pub(super) fn judge_ready(&mut self, id: NodeId) -> Result<Change, Refusal> {
        self.judge(id, Verdict::Ready)
    }

    pub(super) fn judge_down(&mut self, id: NodeId, reason: String) -> Result<Change, Refusal> {
        self.judge(id, Verdict::Down { reason })
    }

    fn judge(&mut self, id: NodeId, verdict: Verdict) -> Result<Change, Refusal> {
        let mut node = self.expect_node(id)?.clone();
        // A better reason for the same verdict does not make it younger.
        if std::mem::discriminant(&node.verdict) != std::mem::discriminant(&verdict) {
            node.since = self.now;
        }
        node.verdict = verdict;
        self.put_node(node);
        Ok(Change::Node(id))
    }

    pub(super) fn expect_node(&self, id: NodeId) -> Result<&Node, Refusal> {
        self.nodes
            .get(&id)
            .map(AsRef::as_ref)
            .ok_or(Refusal::NoSuchNode { node: id })
    }

    fn node_name_is_free(&self, id: NodeId, name: &NodeName) -> Result<(), Refusal> {
        match self.node_named(name) {
            Some(node) if node.id != id => Err(Refusal::NodeNameTaken { name: name.clone() }),
            Some(_) | None => Ok(()),
        }
    }
}
