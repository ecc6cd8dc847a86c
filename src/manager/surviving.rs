//! N+1, as the settings ask for it: no create may leave the pool unable to lose a node, or it is warned of.
//!
//! All that runs and is not tied to its node by a volume counts, whether or not it would be restarted elsewhere by
//! itself. Its claims count alone: constraints and the like may forbid more.
//!
//! **Invariant**: it looks at what is promised with the choice in it, before the choice is committed.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use super::placing::Choice;
use super::plan::tied_by;
use super::{CreateOrder, Error, Manager};
use crate::model::{NodeId, Realm, RequestId, Residence};
use crate::scheduler::{Load, Standby, Survival};
use crate::state::Cluster;

/// What is done about a create after which the pool could not lose each of its nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SurviveNodeLoss {
    /// Nothing.
    #[default]
    Off,
    /// Its client is warned.
    Warn,
    /// It is refused.
    Refuse,
}

/// The plans for the loss of nodes.
#[derive(Debug, Default)]
pub(super) struct Surviving(Mutex<Survival>);

/// So many of the best nodes are tried before a create is refused: each costs a look at all plans.
const TRIED: usize = 8;

impl Manager {
    /// Chooses a node for the order such that the pool could still lose any node, where the settings ask for that: if the
    /// best one will not do, the next best may. With a warning, if there is one to give.
    pub(super) fn place_surviving(
        &self,
        order: &CreateOrder<'_>,
        not_on: &BTreeSet<NodeId>,
        named: (RequestId, &str),
    ) -> Result<(Choice, Option<String>), Error> {
        let choice = self.place(order, not_on, Some(named))?;
        let why = match self.survives(order, &choice) {
            Ok(warning) => return Ok((choice, warning)),
            Err(why) => why,
        };
        let mut left_out = not_on.clone();
        let mut tried = choice;
        for _ in 1..TRIED {
            left_out.insert(tried.host.tag.id);
            let Ok(next) = self.place(order, &left_out, Some(named)) else {
                break;
            };
            if let Ok(warning) = self.survives(order, &next) {
                return Ok((next, warning));
            }
            tried = next;
        }
        // What is remembered is how all of them stood.
        drop(self.place(order, not_on, Some(named)));
        self.decisions.refuse(named.0, &why);
        Err(why)
    }

    /// Judges a choice: a warning, if there is one to give.
    fn survives(&self, order: &CreateOrder<'_>, choice: &Choice) -> Result<Option<String>, Error> {
        let mode = self.settings.placing.survive_node_loss;
        if mode == SurviveNodeLoss::Off {
            return Ok(None);
        }
        let cluster = self.cluster();
        let node = choice.host.tag.id;
        let generic = self.generic_claim(&order.wanted.generic, node, &cluster);
        let load = Load {
            amount: self.claim(order.wanted),
            generic: cluster.counted((&generic).into()),
        };
        if load.is_empty() {
            return Ok(None);
        }
        let mut volumes = order.wanted.volumes.iter();
        let movable = volumes.all(|volume| {
            let record = cluster.volume(Realm::DEFAULT, &volume.name);
            record.is_some_and(|record| {
                matches!(
                    record.residence,
                    Residence::Shared { .. } | Residence::PerNode { .. }
                )
            })
        });
        let at_risk = self.at_risk(&cluster, node, &load, movable);
        let names = at_risk.iter().filter_map(|id| cluster.node(*id));
        let mut names: Vec<_> = names.map(|node| node.name.as_str()).collect();
        names.sort_unstable();
        let Some(lost) = names.first() else {
            return Ok(None);
        };
        let why = format!(
            "with this container on {}, what runs on {} would find no room elsewhere if that node was lost \
             (`flotilla plan --lose {lost}` shows what)",
            choice.host.tag.name,
            names.join(", "),
        );
        match mode {
            SurviveNodeLoss::Refuse => Err(Error::Impossible(format!(
                "{why}; the manager's setting survive-node-loss=refuse forbids that: claim less, free something or add a node"
            ))),
            SurviveNodeLoss::Warn | SurviveNodeLoss::Off => Ok(Some(why)),
        }
    }

    /// The nodes that the pool could not lose, once a node has one more claim.
    fn at_risk(&self, cluster: &Cluster, on: NodeId, more: &Load, movable: bool) -> Vec<NodeId> {
        let hosts = self.fleet.hosts();
        let up = cluster.nodes().filter(|node| node.is_ready());
        let standbys: Vec<Standby> = up
            .filter_map(|node| {
                let host = hosts.get(&node.id)?;
                let here = node.id == on;
                let unmanaged = self.fleet.inventory.counts(&node.id).unmanaged_claims;
                let mut free = cluster.free(node.id).saturating_sub(unmanaged);
                let mut stock = self.stock(node.id, cluster);
                if here {
                    free = free.saturating_sub(more.amount);
                    stock.take(&more.generic);
                }
                Some(Standby {
                    node: node.id,
                    takes_work: host.is_counted() && host.is_up() && node.takes_new_work(),
                    free,
                    stock,
                    // A choice that is not committed has no digest: no plan is kept for it.
                    digest: cluster.totals(node.id).digest.wrapping_add(u64::from(here)),
                })
            })
            .collect();
        let claims = |node: NodeId| {
            let running = cluster.placements_on(node);
            let running = running.filter(|one| one.claiming && tied_by(cluster, one).is_none());
            let loads = running.map(|one| Load {
                amount: one.claim,
                generic: (&one.generic).into(),
            });
            let added = (node == on && movable).then(|| more.clone());
            loads.chain(added).collect()
        };
        let mut survival = self
            .surviving
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        survival.at_risk(&standbys, claims)
    }
}
