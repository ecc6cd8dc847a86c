//! N+1, as the settings ask for it: no create, start or update may leave the pool unable to lose a node, or it is warned of.
//!
//! All that claims something and is not tied to its node by a volume counts, whether or not it would be restarted elsewhere by
//! itself. Its claims count alone: constraints and the like may forbid more.
//!
//! **Invariant**: it looks at what is promised with the choice in it, before the choice is committed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::placing::Choice;
use super::{CreateOrder, Error, Manager};
use crate::model::{NodeId, Placement, Realm, RequestId, Residence, Resources};
use crate::scheduler::{self, Load, Standby, Survival};
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
pub(super) const TRIED: usize = 8;
/// What a message calls the container that it is about.
const THIS_ONE: &str = "this container";
/// So many containers a message names.
const NAMED: usize = 3;

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
        let growth = self.growth_by(order, choice.host.tag.id, &cluster);
        self.weigh(&cluster, growth)
    }

    /// What a create would claim on a node.
    fn growth_by(&self, order: &CreateOrder<'_>, node: NodeId, cluster: &Cluster) -> Growth {
        let generic = self.generic_claim(&order.wanted.generic, node, cluster);
        let load = Load {
            amount: self.claim(order.wanted),
            generic: cluster.counted((&generic).into()),
        };
        let mut volumes = order.wanted.volumes.iter();
        let movable = !order.wanted.anonymous_volumes
            && volumes.all(|volume| {
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
        Growth {
            node,
            moves: movable.then_some(load),
            more,
            instead_of: replaced.map(|replaced| replaced.request),
        }
    }

    /// What N+1 says of creates that nobody makes; nothing where the settings do not ask for it.
    pub(super) fn rehearsal<'a>(&'a self, cluster: &'a Cluster) -> Option<Rehearsal<'a>> {
        if self.settings.placing.survive_node_loss == SurviveNodeLoss::Off {
            return None;
        }
        Some(Rehearsal {
            survival: self.survival().clone(),
            outlook: self.outlook(cluster),
        })
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
            moves: self
                .only_there(placement, &cluster)
                .is_none()
                .then_some(whole),
            instead_of: Some(placement.request),
        };
        if let Some(warning) = self.weigh(&cluster, growth)? {
            tracing::warn!(container = placement.name, "{warning}");
        }
        Ok(())
    }

    fn weigh(&self, cluster: &Cluster, growth: Growth) -> Result<Option<String>, Error> {
        if growth.more.is_empty() {
            return Ok(None);
        }
        let node = growth.node;
        let mut outlook = self.outlook(cluster);
        outlook.add(growth);
        let at_risk = outlook.at_risk(&mut self.survival());
        self.judged(outlook.warning(node, &at_risk))
    }

    /// What is done about what is to be warned of.
    fn judged(&self, warning: Option<String>) -> Result<Option<String>, Error> {
        match (warning, self.settings.placing.survive_node_loss) {
            (Some(why), SurviveNodeLoss::Refuse) => Err(Error::Impossible(format!(
                "{why}; the manager's setting survive-node-loss=refuse forbids that: claim less, free something or add a node"
            ))),
            (warning, _) => Ok(warning),
        }
    }

    fn survival(&self) -> MutexGuard<'_, Survival> {
        let survival = self.surviving.0.lock();
        survival.unwrap_or_else(PoisonError::into_inner)
    }

    fn outlook<'a>(&'a self, cluster: &'a Cluster) -> Outlook<'a> {
        let hosts = self.fleet.hosts();
        let up = cluster.nodes().filter(|node| node.is_ready());
        let standbys = up.filter_map(|node| {
            let host = hosts.get(&node.id)?;
            let unmanaged = self.fleet.inventory.counts(&node.id).unmanaged_claims;
            Some(Standby {
                node: node.id,
                takes_work: host.is_counted() && host.is_up() && node.takes_new_work(),
                free: cluster.free(node.id).saturating_sub(unmanaged),
                stock: self.stock(node.id, cluster),
                digest: Some(cluster.totals(node.id).digest),
            })
        });
        Outlook {
            manager: self,
            cluster,
            standbys: standbys.collect(),
            grown: BTreeMap::new(),
        }
    }
}

/// The nodes as they stand, and what is about to be claimed on them.
struct Outlook<'a> {
    manager: &'a Manager,
    cluster: &'a Cluster,
    standbys: Vec<Standby>,
    grown: BTreeMap<NodeId, Vec<Growth>>,
}

impl Outlook<'_> {
    /// Something more is claimed. It is only asked about, so that no plan is kept for its node.
    fn add(&mut self, growth: Growth) {
        if let Some(standby) = self.standby(growth.node) {
            standby.free = standby.free.saturating_sub(growth.more.amount);
            standby.stock.take(&growth.more.generic);
            standby.digest = None;
        }
        self.grown.entry(growth.node).or_default().push(growth);
    }

    /// What was added last, to the node that was so before, is not claimed after all.
    fn take_back(&mut self, before: Standby) {
        if let Some(grown) = self.grown.get_mut(&before.node) {
            grown.pop();
        }
        if let Some(standby) = self.standby(before.node) {
            *standby = before;
        }
    }

    /// What was added to a node is there from now on, and plans for it are kept. It is all alike, so that its number tells
    /// it from what was there before.
    fn settle(&mut self, node: NodeId) {
        let promised = self.cluster.totals(node).digest;
        let added = self.grown.get(&node).map_or(0, Vec::len) as u64;
        if let Some(standby) = self.standby(node) {
            standby.digest = Some(promised.wrapping_add(added));
        }
    }

    fn standby(&mut self, node: NodeId) -> Option<&mut Standby> {
        self.standbys
            .iter_mut()
            .find(|standby| standby.node == node)
    }

    /// The nodes that the pool could not lose.
    fn at_risk(&self, survival: &mut Survival) -> Vec<NodeId> {
        let claims = |node| {
            let residents = self.residents(node).into_iter();
            residents.map(|(_, load)| load).collect()
        };
        survival.at_risk(&self.standbys, claims)
    }

    /// What runs on a node and could run elsewhere, by name.
    fn residents(&self, node: NodeId) -> Vec<(String, Load)> {
        let grown = self.grown.get(&node).map_or(&[][..], Vec::as_slice);
        let is_replaced = |one: &Placement| {
            let mut grown = grown.iter();
            grown.any(|growth| growth.instead_of == Some(one.request))
        };
        let running = self.cluster.placements_on(node);
        let running = running
            .filter(|one| one.claiming && !is_replaced(one))
            .filter(|one| self.manager.only_there(one, self.cluster).is_none());
        let running = running.map(|one| {
            let load = Load {
                amount: one.claim,
                generic: (&one.generic).into(),
            };
            (one.name.clone(), load)
        });
        let grown = grown.iter().filter_map(|growth| growth.moves.clone());
        running
            .chain(grown.map(|load| (THIS_ONE.to_owned(), load)))
            .collect()
    }

    /// What there is to say of nodes that the pool could not lose with one more claim on `node`: of the first of them, what
    /// would be stranded.
    fn warning(&self, node: NodeId, at_risk: &[NodeId]) -> Option<String> {
        let name = |id: NodeId| Some(self.cluster.node(id)?.name.as_str());
        let mut lost: Vec<_> = at_risk
            .iter()
            .filter_map(|id| Some((name(*id)?, *id)))
            .collect();
        lost.sort_unstable();
        let (first, id) = *lost.first()?;
        let residents = self.residents(id);
        let loads: Vec<Load> = residents.iter().map(|(_, load)| load.clone()).collect();
        let homeless = scheduler::homeless(&loads, id, &self.standbys);
        let homeless = homeless.iter().map(|at| residents[*at].0.as_str());
        let names: Vec<_> = lost.iter().map(|(name, _)| *name).collect();
        Some(format!(
            "with this container on {}, what runs on {} would find no room elsewhere if that node was lost (on {first}: {})",
            name(node).unwrap_or_default(),
            names.join(", "),
            listed(homeless.collect()),
        ))
    }
}

/// Names, the first few of them. Of those that have the same, one is enough.
fn listed(mut names: Vec<&str>) -> String {
    let all = names.len();
    names.dedup();
    names.truncate(NAMED);
    let more = all - names.len();
    let mut text = names.join(", ");
    if more > 0 {
        text.push_str(&format!(" and {more} more"));
    }
    text
}

/// The pool as it would be with creates that are only planned.
pub(super) struct Rehearsal<'a> {
    survival: Survival,
    outlook: Outlook<'a>,
}

impl Rehearsal<'_> {
    /// Judges a create on a node as [`Manager::place_surviving`] does: a warning, if there is one to give. It counts from now
    /// on, unless it is refused.
    pub(super) fn claim(
        &mut self,
        order: &CreateOrder<'_>,
        node: NodeId,
    ) -> Result<Option<String>, Error> {
        let manager = self.outlook.manager;
        let growth = manager.growth_by(order, node, self.outlook.cluster);
        if growth.more.is_empty() {
            return Ok(None);
        }
        let before = self.outlook.standby(node).cloned();
        self.outlook.add(growth);
        let at_risk = self.outlook.at_risk(&mut self.survival);
        let judged = manager.judged(self.outlook.warning(node, &at_risk));
        match (&judged, before) {
            (Err(_), Some(before)) => self.outlook.take_back(before),
            (Err(_), None) => {}
            (Ok(_), _) => self.outlook.settle(node),
        }
        judged
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_names_a_few_are_listed() {
        let check = |names: &[&str], expected: &str| {
            assert_eq!(listed(names.to_vec()), expected, "{names:?}");
        };
        check(&["a"], "a");
        check(&["a", "b", "c"], "a, b, c");
        check(&["a", "b", "c", "d", "e"], "a, b, c and 2 more");
    }
}
