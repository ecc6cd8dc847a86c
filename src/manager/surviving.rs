//! N+1, as the settings ask for it: no create, start or update may leave the pool unable to lose a node, or it is warned of.
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
use crate::model::{NodeId, Placement, Realm, RequestId, Residence, Resources};
use crate::scheduler::{Load, Standby, Survival};
use crate::state::Cluster;

/// What is done about a create, a start or an update after which the pool could not lose each of its nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SurviveNodeLoss {
    /// Nothing.
    #[default]
    Off,
    /// It is warned of: to the client of a create, else in the log.
    Warn,
    /// It is refused.
    Refuse,
}

/// What a container would claim that it does not claim yet.
struct Growth {
    node: NodeId,
    /// What its node would have less to give.
    more: Load,
    /// What would have to find room elsewhere if its node was lost; nothing if it is tied to it.
    moves: Option<Load>,
    /// The container that this is about, if it is there: what it claims now does not count.
    instead_of: Option<RequestId>,
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
        if self.settings.placing.survive_node_loss == SurviveNodeLoss::Off {
            return Ok(None);
        }
        let cluster = self.cluster();
        let node = choice.host.tag.id;
        let generic = self.generic_claim(&order.wanted.generic, node, &cluster);
        let load = Load {
            amount: self.claim(order.wanted),
            generic: cluster.counted((&generic).into()),
        };
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
        let replaced = self.replaced(order);
        let here = replaced
            .as_ref()
            .filter(|one| one.node == node && one.claiming);
        let more = here.map_or(load.clone(), |replaced| Load {
            amount: load.amount.saturating_sub(replaced.claim),
            generic: cluster.counted((&generic.beyond(&replaced.generic)).into()),
        });
        let growth = Growth {
            node,
            moves: movable.then_some(load),
            more,
            instead_of: replaced.map(|replaced| replaced.request),
        };
        self.weigh(&cluster, &growth)
    }

    /// Judges that a container claims this from now on: it is started again, or updated. What is only warned of is in the
    /// log: the answer to a start has no place for it.
    pub(super) fn survives_claiming(
        &self,
        placement: &Placement,
        claim: Resources,
    ) -> Result<(), Error> {
        if self.settings.placing.survive_node_loss == SurviveNodeLoss::Off {
            return Ok(());
        }
        let cluster = self.cluster();
        let generic = cluster.counted((&placement.generic).into());
        let whole = Load {
            amount: claim,
            generic: generic.clone(),
        };
        let more = if placement.claiming {
            Load {
                amount: claim.saturating_sub(placement.claim),
                ..Load::default()
            }
        } else {
            whole.clone()
        };
        let growth = Growth {
            node: placement.node,
            more,
            moves: tied_by(&cluster, placement).is_none().then_some(whole),
            instead_of: Some(placement.request),
        };
        if let Some(warning) = self.weigh(&cluster, &growth)? {
            tracing::warn!(container = placement.name, "{warning}");
        }
        Ok(())
    }

    fn weigh(&self, cluster: &Cluster, growth: &Growth) -> Result<Option<String>, Error> {
        if growth.more.is_empty() {
            return Ok(None);
        }
        let at_risk = self.at_risk(cluster, growth);
        let name = |id: &NodeId| Some(cluster.node(*id)?.name.as_str());
        let mut names: Vec<_> = at_risk.iter().filter_map(name).collect();
        names.sort_unstable();
        let Some(lost) = names.first() else {
            return Ok(None);
        };
        let why = format!(
            "with this container on {}, what runs on {} would find no room elsewhere if that node was lost \
             (`flotilla plan --lose {lost}` shows what)",
            name(&growth.node).unwrap_or_default(),
            names.join(", "),
        );
        match self.settings.placing.survive_node_loss {
            SurviveNodeLoss::Refuse => Err(Error::Impossible(format!(
                "{why}; the manager's setting survive-node-loss=refuse forbids that: claim less, free something or add a node"
            ))),
            SurviveNodeLoss::Warn | SurviveNodeLoss::Off => Ok(Some(why)),
        }
    }

    /// The nodes that the pool could not lose, once a node has one more claim.
    fn at_risk(&self, cluster: &Cluster, growth: &Growth) -> Vec<NodeId> {
        let hosts = self.fleet.hosts();
        let up = cluster.nodes().filter(|node| node.is_ready());
        let standbys: Vec<Standby> = up
            .filter_map(|node| {
                let host = hosts.get(&node.id)?;
                let here = node.id == growth.node;
                let unmanaged = self.fleet.inventory.counts(&node.id).unmanaged_claims;
                let mut free = cluster.free(node.id).saturating_sub(unmanaged);
                let mut stock = self.stock(node.id, cluster);
                if here {
                    free = free.saturating_sub(growth.more.amount);
                    stock.take(&growth.more.generic);
                }
                Some(Standby {
                    node: node.id,
                    takes_work: host.is_counted() && host.is_up() && node.takes_new_work(),
                    free,
                    stock,
                    digest: (!here).then(|| cluster.totals(node.id).digest),
                })
            })
            .collect();
        let claims = |node: NodeId| {
            let running = cluster.placements_on(node);
            let running = running
                .filter(|one| one.claiming && Some(one.request) != growth.instead_of)
                .filter(|one| tied_by(cluster, one).is_none());
            let loads = running.map(|one| Load {
                amount: one.claim,
                generic: (&one.generic).into(),
            });
            let moves = growth.moves.iter().filter(|_| node == growth.node);
            loads.chain(moves.cloned()).collect()
        };
        let mut survival = self
            .surviving
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        survival.at_risk(&standbys, claims)
    }
}
