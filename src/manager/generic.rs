//! What nodes have a number of beside CPU and memory, as it is promised and observed right now.
//!
//! **Invariant**: what runs behind our back counts wherever something new is claimed.

use api_compat::create::Create;

use super::{Error, Manager};
use crate::model::generic::{self, Counts, Stock, Wishes};
use crate::model::{NodeId, Placement};
use crate::state::{Cluster, Refusal};

impl Manager {
    /// What a node has of everything that it states, and what is taken of it.
    pub(super) fn stock(&self, node: NodeId, cluster: &Cluster) -> Stock {
        let promised = cluster.stock(node);
        if promised.is_empty() {
            return promised;
        }
        promised.less(&self.fleet.inventory.unmanaged_generic(&node))
    }

    /// What a node has beside CPU and memory, for whoever looks at it.
    pub fn stock_of(&self, node: NodeId) -> Stock {
        self.stock(node, &self.cluster())
    }

    /// The labels of a create that claim what no node states, so that nothing is counted.
    pub fn counting_for_nothing(&self, wanted: &Create<'_>) -> Vec<String> {
        let counted = self.cluster().counted(wanted.generic.clone());
        let in_vain = |name| wanted.generic.has(name) && !counted.has(name);
        let labels = wanted.labels.iter().map(|(label, _)| label);
        labels
            .filter(|label| generic::resource(label).is_some_and(in_vain))
            .map(ToString::to_string)
            .collect()
    }

    /// What a container with these wishes claims of this node.
    pub(super) fn generic_claim(&self, wishes: &Wishes, node: NodeId, cluster: &Cluster) -> Counts {
        let has = cluster.node(node).map(|node| node.generic());
        generic::on_node(wishes, &has.unwrap_or_default())
    }

    /// Whether the node of a container that is to start again has what it claims, beside what runs there behind our back,
    /// of which the state knows nothing.
    pub(super) fn has_generic(&self, placement: &Placement) -> Result<(), Error> {
        let cluster = self.cluster();
        let wishes = cluster.counted((&placement.generic).into());
        let Some(node) = cluster.node(placement.node).filter(|_| !wishes.is_empty()) else {
            return Ok(());
        };
        match self.stock(placement.node, &cluster).scarcity(&wishes) {
            Some(scarcity) => Err(Error::Refused(Refusal::Scarce {
                node: node.name.clone(),
                scarcity,
            })),
            None => Ok(()),
        }
    }
}
