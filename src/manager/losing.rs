//! What would become of the containers of a node that is lost: where each would run then, or why nowhere.
//!
//! Those that cannot be without each other go together or not at all: they share a network of the cluster, one needs the
//! other, or wants to be with it and with nothing that is elsewhere. They are packed as N+1 packs them, so that both say the
//! same of claims.
//!
//! **Invariant**: what a container asks is what its create said, as far as that is known; what its image says does not count.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api_compat::ApiVersion;
use api_compat::affinity::{Affinity, Subject};
use api_compat::container_item::Head;
use api_compat::create::Body;
use api_compat::json_view::View;
use api_compat::policies::Policies;

use super::affinities::Newcomer;
use super::plan::{Added, AddedByNode};
use super::{Error, Manager};
use crate::api::{Loss, Moved, Stranded};
use crate::engine::{Container, Found};
use crate::model::generic::Wishes;
use crate::model::{
    ContainerId, NetworkId, NodeId, Placement, PortOrigin, PublishedPort, RequestId,
};
use crate::scheduler::{self, Load, Request};
use crate::state::Cluster;

/// A node that is lost in a plan, and what is kept of the creates of its containers.
#[derive(Debug)]
pub struct Losing {
    pub(super) node: NodeId,
    said: BTreeMap<RequestId, Said>,
}

/// What a create said, as far as it matters elsewhere.
#[derive(Debug, Clone, Default)]
struct Said {
    policies: Policies,
    needs: Vec<String>,
    image: String,
    labels: Vec<(String, String)>,
    anonymous_volumes: bool,
}

/// A container of the node, and what it would ask of another one.
pub(super) struct Resident {
    pub(super) name: String,
    /// Its affinities in the same order as `affinities`.
    pub(super) request: Request,
    /// Ports that it is better off with, and runs without.
    pub(super) hints: Vec<PublishedPort>,
    pub(super) affinities: Vec<Affinity>,
    /// As which affinities of others mean it.
    pub(super) known_as: Newcomer,
    pub(super) id: Option<ContainerId>,
    pub(super) networks: Vec<NetworkId>,
    /// What it cannot be without.
    pub(super) needs: Vec<ContainerId>,
    /// Why it runs there or nowhere.
    pub(super) stays: Option<String>,
}

/// Containers that stay together.
struct Group {
    members: Vec<Resident>,
    /// What they ask together.
    request: Request,
    hints: Vec<PublishedPort>,
    /// Those of `request`, in the same order.
    affinities: Vec<Affinity>,
}

impl Said {
    /// What stands in the body of a create.
    fn in_body(body: &[u8]) -> Option<Self> {
        let body = Body::parse(body).ok()?;
        let wanted = body.read().ok()?;
        let labels = wanted.labels.iter();
        let labels: Vec<_> = labels.map(|(key, value)| (&**key, &**value)).collect();
        let owned = labels.iter();
        Some(Self {
            policies: Policies::of_labels(&labels).ok()?,
            needs: wanted.needed().collect(),
            image: wanted.image.to_string(),
            labels: owned
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
            anonymous_volumes: wanted.anonymous_volumes,
        })
    }
}

impl Resident {
    fn is_meant_by(&self, affinity: &Affinity) -> bool {
        let by_id = |id: ContainerId| affinity.names(&id.to_string());
        self.known_as.is_meant_by(affinity)
            || (*affinity.subject() == Subject::Container && self.id.is_some_and(by_id))
    }

    /// The wishes to be with something that is on no other node.
    fn wishes_unmet_elsewhere(&self) -> impl Iterator<Item = &Affinity> {
        let wishes = self.affinities.iter().zip(&self.request.affinities);
        let unmet = wishes
            .filter(|(wish, near)| !wish.is_negated() && !wish.is_soft() && near.nodes.is_empty());
        unmet.map(|(wish, _)| wish)
    }
}

impl Group {
    fn of(mut members: Vec<Resident>) -> Self {
        let mut request = Request::default();
        let (mut hints, mut affinities) = (Vec::new(), Vec::new());
        for at in 0..members.len() {
            let asked = std::mem::take(&mut members[at].request);
            request.claim = request.claim.saturating_add(asked.claim);
            for (name, amount) in asked.generic.iter() {
                request.generic.add(name, amount);
            }
            request.platform = request.platform.or(asked.platform);
            request.ports.extend(asked.ports);
            request.constraints.extend(asked.constraints);
            request.pins.extend(asked.pins);
            hints.extend(&members[at].hints);
            for (wish, near) in members[at].affinities.iter().zip(asked.affinities) {
                let mut others = members.iter().enumerate();
                let is_met = others.any(|(other, one)| other != at && one.is_meant_by(wish));
                // Where they are together, it is as met, or as unmet, as it was.
                if !is_met {
                    affinities.push(wish.clone());
                    request.affinities.push(near);
                }
            }
        }
        Self {
            members,
            request,
            hints,
            affinities,
        }
    }

    fn load(&self) -> Load {
        Load {
            amount: self.request.claim,
            generic: self.request.generic.clone(),
        }
    }

    /// Something that it may want to be with, or away from, is on a node from now on.
    fn notice(&mut self, arrived: &[Resident], node: NodeId) {
        let wishes = self.affinities.iter().zip(&mut self.request.affinities);
        for (wish, near) in wishes {
            if arrived.iter().any(|resident| resident.is_meant_by(wish)) {
                near.nodes.insert(node);
            }
        }
    }

    /// Why none of them can run elsewhere, to be told of each.
    fn stays(&self) -> Option<Vec<Stranded>> {
        let (tied, why) = self
            .members
            .iter()
            .find_map(|member| Some((member, member.stays.as_ref()?)))?;
        let told = |member: &Resident| Stranded {
            container: member.name.clone(),
            why: match &member.stays {
                Some(why) => why.clone(),
                None => format!("it stays with {}: {why}", tied.name),
            },
        };
        Some(self.members.iter().map(told).collect())
    }
}

impl Manager {
    /// Reads what is kept of the creates of a node's containers.
    pub async fn losing(&self, node: NodeId) -> Losing {
        let cluster = self.cluster();
        let mut said = BTreeMap::new();
        let there = cluster.placements_on(node);
        for placement in there.filter(|one| one.claiming && one.recipe.is_some()) {
            match self.recipe(placement.request).await {
                Ok(recipe) => {
                    let one = recipe.and_then(|recipe| Said::in_body(&recipe.body));
                    said.extend(one.map(|one| (placement.request, one)));
                }
                Err(error) => {
                    tracing::warn!(%error, "a plan is made without what a create said");
                }
            }
        }
        Losing { node, said }
    }

    /// Gives what is on the node a place elsewhere: `planned` as well, which are not there yet.
    pub(super) fn plan_loss(
        &self,
        losing: &Losing,
        cluster: &Cluster,
        planned: Vec<Resident>,
        mut added: AddedByNode,
    ) -> Result<Loss, Error> {
        let node = losing.node;
        let lost = cluster
            .node(node)
            .ok_or_else(|| Error::Impossible("the node has just left the cluster".to_owned()))?;
        let mut loss = Loss {
            node: lost.name.to_string(),
            stranded: self.strangers_on(node),
            ..Loss::default()
        };
        let there = cluster.placements_on(node).filter(|one| one.claiming);
        let mut residents: Vec<_> = there
            .map(|placement| self.resident(placement, losing, cluster))
            .chain(planned)
            .collect();
        for resident in &mut residents {
            for near in &mut resident.request.affinities {
                near.nodes.remove(&node);
            }
        }
        let groups = together(residents).into_iter().map(Group::of);
        let mut groups: Vec<_> = groups.collect();
        groups.sort_by_key(|group| Reverse(group.load().rank()));
        let mut rest = groups.as_mut_slice();
        while let [group, others @ ..] = rest {
            rest = others;
            if let Some(stranded) = group.stays() {
                loss.stranded.extend(stranded);
                continue;
            }
            let names = group.members.iter().map(|member| member.name.clone());
            match self.plan_move(node, group, &mut added) {
                Ok((to, name)) => {
                    for other in rest.iter_mut() {
                        other.notice(&group.members, to);
                    }
                    loss.movable.extend(names.map(|container| Moved {
                        container,
                        node: name.clone(),
                    }));
                }
                Err(why) => loss.stranded.extend(names.map(|container| Stranded {
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
        group: &Group,
        added: &mut AddedByNode,
    ) -> Result<(NodeId, String), String> {
        let mut with_hints = group.request.clone();
        with_hints.ports.extend(&group.hints);
        let mut refusal = None;
        for request in [&with_hints, &group.request] {
            let mut nodes = self.board().nodes(request, None, None, self).clone();
            nodes.remove(from);
            if nodes.nodes().is_empty() {
                return Err("no node would be left".to_owned());
            }
            nodes.change_all(|node| {
                // It is in the pool: whether it can be brought in time is another question.
                node.has_image = true;
                if let Some(added) = added.get(&node.node) {
                    added.apply(node);
                }
            });
            match scheduler::best_fit(request, nodes.nodes()) {
                Ok(chosen) => {
                    let mut once = Added::one(&with_hints, &group.members[0].name);
                    once.containers = u32::try_from(group.members.len()).unwrap_or(u32::MAX);
                    added.entry(chosen.node).or_default().add(once);
                    return Ok((chosen.node, chosen.name.to_string()));
                }
                Err(why) => refusal = Some(why),
            }
        }
        Err(refusal.map_or_else(String::new, |why| why.to_string()))
    }

    /// What runs on a node and was made there, which nobody knows how to make elsewhere.
    fn strangers_on(&self, node: NodeId) -> Vec<Stranded> {
        let there = self.fleet.inventory.totals(&node).containers;
        let there = there.iter().filter_map(|id| self.fleet.inventory.get(id));
        there
            .filter(|container| container.request.is_none() && container.state.is_up())
            .map(|container| Stranded {
                container: container.name(),
                why: "it was made on that node itself".to_owned(),
            })
            .collect()
    }

    fn resident(&self, placement: &Placement, losing: &Losing, cluster: &Cluster) -> Resident {
        let node = losing.node;
        let seen = placement.container;
        let seen = seen.and_then(|id| self.fleet.inventory.get(&id));
        let observed = seen.as_ref().and_then(|container| self.observed(container));
        let kept = losing.said.get(&placement.request);
        // What is kept is what the create said, and what is observed is what became of it.
        let said = kept.or(observed.as_ref()).cloned().unwrap_or_default();
        let known_as = observed.as_ref().unwrap_or(&said);
        let details = seen.as_ref().and_then(|seen| seen.details.as_ref());
        let references = details.map_or(&*said.needs, |details| &*details.needs);
        let (needs, missing) = self.needed_there(references, node, cluster);
        let tie = self.only_there(placement, cluster).or_else(|| {
            let unseen = observed.is_none() && said.anonymous_volumes;
            unseen.then(|| "an anonymous volume".to_owned())
        });
        let of_origin = |origin: PortOrigin| {
            let claims = placement.ports.iter();
            let claims = claims.filter(move |claim| claim.origin == origin);
            claims.map(|claim| claim.port).collect::<Vec<_>>()
        };
        let engine = cluster.node(node).and_then(|node| node.engine.as_ref());
        Resident {
            name: placement.name.clone(),
            request: Request {
                claim: placement.claim,
                generic: cluster.counted(Wishes::from(&placement.generic)),
                ports: of_origin(PortOrigin::Asked),
                platform: engine.map(|engine| engine.platform.clone()),
                constraints: said.policies.constraints.clone(),
                affinities: self.near(&said.policies.affinities, cluster, None),
                ..Request::default()
            },
            hints: of_origin(PortOrigin::Exposed),
            known_as: Newcomer {
                node,
                name: placement.name.clone(),
                image: known_as.image.clone(),
                labels: known_as.labels.clone(),
            },
            affinities: said.policies.affinities,
            id: placement.container,
            networks: placement.networks.clone(),
            needs,
            stays: tie
                .map(|what| format!("{what} is on that node only"))
                .or(missing),
        }
    }

    /// What was observed of a container, but for the wishes that its image has too: nobody followed those. Nothing if it has
    /// not been seen since the manager began.
    fn observed(&self, container: &Arc<Container>) -> Option<Said> {
        let mut item = Vec::new();
        container.render(&mut item, ApiVersion::MAX, "", "");
        let head = Head::parse(&item)
            .ok()
            .filter(|head| !head.image_id.is_empty())?;
        let host = self.fleet.host(&container.host.id);
        let images = host.map(|host| host.images());
        let image = images.as_ref().and_then(|all| all.with_id(&head.image_id));
        let image = image.and_then(|image| View::parse(image.raw.get().as_bytes()).ok());
        let of_image: BTreeSet<_> = image
            .and_then(|image| image.get("Labels"))
            .iter()
            .flat_map(View::string_pairs)
            .collect();
        let labels = head.labels.iter();
        let own = labels.clone().filter(|label| !of_image.contains(label));
        let own: Vec<_> = own.map(|(key, value)| (&**key, &**value)).collect();
        Some(Said {
            policies: Policies::of_labels(&own).unwrap_or_default(),
            image: head.image.to_string(),
            labels: labels
                .map(|(key, value)| (key.to_string(), value.to_string()))
                .collect(),
            ..Said::default()
        })
    }

    /// Of containers that one cannot be without, those that would go with it; and what there is to say if one would not.
    fn needed_there(
        &self,
        references: &[String],
        node: NodeId,
        cluster: &Cluster,
    ) -> (Vec<ContainerId>, Option<String>) {
        let (mut needs, mut missing) = (Vec::new(), None);
        for reference in references {
            let Found::One(needed) = self.fleet.inventory.find(reference) else {
                continue;
            };
            if needed.host.id != node {
                continue;
            }
            let name = needed.name();
            match cluster.placement_of(needed.id) {
                Some(placement) if placement.claiming => needs.push(needed.id),
                Some(_) => missing = Some(format!("it needs {name}, which does not run")),
                None => {
                    missing = Some(format!(
                        "it needs {name}, which was made on that node itself"
                    ));
                }
            }
        }
        (needs, missing)
    }
}

/// Containers in groups of those that cannot be without each other.
fn together(residents: Vec<Resident>) -> Vec<Vec<Resident>> {
    let mut joined: Vec<usize> = (0..residents.len()).collect();
    let mut by_network = BTreeMap::new();
    let ids = residents.iter().enumerate();
    let by_id: BTreeMap<_, _> = ids.filter_map(|(at, one)| Some((one.id?, at))).collect();
    for (at, resident) in residents.iter().enumerate() {
        for network in &resident.networks {
            let first = *by_network.entry(*network).or_insert(at);
            join(&mut joined, at, first);
        }
        for needed in resident.needs.iter().filter_map(|id| by_id.get(id)) {
            join(&mut joined, at, *needed);
        }
        for wish in resident.wishes_unmet_elsewhere() {
            let mut others = residents.iter().enumerate();
            let meant = others.find(|(other, one)| *other != at && one.is_meant_by(wish));
            if let Some((meant, _)) = meant {
                join(&mut joined, at, meant);
            }
        }
    }
    let mut groups: BTreeMap<usize, Vec<Resident>> = BTreeMap::new();
    for (at, resident) in residents.into_iter().enumerate() {
        let first = first_of(&joined, at);
        groups.entry(first).or_default().push(resident);
    }
    groups.into_values().collect()
}

/// Makes one group of two. Each points at one before it, and the first of a group at itself.
fn join(joined: &mut [usize], one: usize, other: usize) {
    let (one, other) = (first_of(joined, one), first_of(joined, other));
    joined[one.max(other)] = one.min(other);
}

fn first_of(joined: &[usize], mut at: usize) -> usize {
    while joined[at] != at {
        at = joined[at];
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scheduler::Near;

    fn id(name: &str) -> ContainerId {
        ContainerId::from_bytes([name.as_bytes()[0]; 32])
    }

    /// `web +x net7 ==db ~!=db stays`: its name, a need, a network and affinities; whether it stays.
    fn read(text: &str) -> Resident {
        let (name, words) = text.split_once(' ').unwrap_or((text, ""));
        let node = NodeId::from_bytes([1; 16]);
        let mut resident = Resident {
            name: name.to_owned(),
            request: Request::default(),
            hints: Vec::new(),
            affinities: Vec::new(),
            known_as: Newcomer {
                node,
                name: name.to_owned(),
                image: String::new(),
                labels: Vec::new(),
            },
            id: Some(id(name)),
            networks: Vec::new(),
            needs: Vec::new(),
            stays: None,
        };
        for word in words.split_whitespace() {
            if let Some(needed) = word.strip_prefix('+') {
                resident.needs.push(id(needed));
            } else if let Some(network) = word.strip_prefix("net") {
                let number = network.parse().expect("a number");
                resident.networks.push(NetworkId::from_bytes([number; 32]));
            } else if word == "stays" {
                resident.stays = Some("data is there".to_owned());
            } else {
                let affinity = Affinity::parse(&format!("container{word}")).expect(word);
                resident.request.affinities.push(Near {
                    text: affinity.to_string(),
                    negated: affinity.is_negated(),
                    soft: affinity.is_soft(),
                    nodes: BTreeSet::new(),
                });
                resident.affinities.push(affinity);
            }
        }
        resident
    }

    fn groups(all: &str) -> Vec<Group> {
        let residents = all.split(',').map(|text| read(text.trim())).collect();
        together(residents).into_iter().map(Group::of).collect()
    }

    #[test]
    fn what_cannot_be_without_each_other_stays_together() {
        let check = |all: &str, expected: &str| {
            let groups = groups(all);
            let names = groups.iter().map(|group| {
                let names = group.members.iter().map(|one| one.name.as_str());
                names.collect::<Vec<_>>().join("+")
            });
            assert_eq!(names.collect::<Vec<_>>().join(" "), expected, "{all}");
        };
        check("a, b", "a b");
        check("a net1, b net2, c net1", "a+c b");
        check("a net1, b net2, c net1 net2, d", "a+b+c d");
        check("a +b, b, c +a", "a+b+c");
        check("a, b +x", "a b");
        check("a ==b, b", "a+b");
        check("a !=b, b", "a b");
        check("a ==~b, b", "a b");
        check("a ==a", "a");
        check("a ==c, b net1, c net1", "a+b+c");
    }

    #[test]
    fn one_that_stays_keeps_those_that_cannot_be_without_it() {
        let groups = groups("a +b, b stays, c");
        let told = |group: &Group| {
            let stays = group.stays().unwrap_or_default().into_iter();
            let told = stays.map(|one| format!("{}: {}", one.container, one.why));
            told.collect::<Vec<_>>().join("; ")
        };
        assert_eq!(
            told(&groups[0]),
            "a: it stays with b: data is there; b: data is there"
        );
        assert_eq!(told(&groups[1]), "");
    }

    #[test]
    fn a_wish_is_met_by_what_comes_along_or_went_before() {
        let mut groups = groups("a ==b !=c, b, c");
        let wishes = |group: &Group| {
            let wishes = group.request.affinities.iter();
            wishes
                .map(|near| format!("{} {}", near.text, near.nodes.len()))
                .collect::<Vec<_>>()
        };
        assert_eq!(wishes(&groups[0]), ["container!=c 0"]);
        let (first, rest) = groups.split_at_mut(1);
        first[0].notice(&rest[0].members, NodeId::from_bytes([2; 16]));
        assert_eq!(wishes(&first[0]), ["container!=c 1"]);
    }

    #[test]
    fn a_create_says_what_it_asks_of_its_node() {
        let body = br#"{"Image":"nginx","Labels":{"com.docker.swarm.constraints":"[\"zone==b\"]","tier":"front"},
            "HostConfig":{"NetworkMode":"container:db","Links":["cache:c"],"Binds":["/data"]}}"#;
        let said = Said::in_body(body).expect("a body");
        assert_eq!(said.policies.constraints.len(), 1);
        assert_eq!(said.needs, ["db", "cache"]);
        assert_eq!(said.image, "nginx");
        assert!(said.anonymous_volumes);
        assert!(Said::in_body(b"{").is_none());
    }
}
