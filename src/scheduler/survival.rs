//! N+1: whether what runs on any one node would find room on the others.
//!
//! Best fit decreasing: the claims of the lost node each go to the node that is left with least; first those on GPUs and the
//! like, which few nodes have, then the others, the largest first. A plan that was found is kept, and holds as long as the
//! node has the same claims and the others still have the room that the plan takes. So a placement makes anew only the
//! plans that it broke, which are few.
//!
//! **Invariant**: a plan that is kept is a proof, whatever happened since it was made; what is at risk was tried anew.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::{Candidate, Refusal, Request, Sources, passes, refuse};
use crate::model::generic::{Stock, Wishes};
use crate::model::{NodeId, Resources};

/// What a container claims, of all kinds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Load {
    /// CPU and memory.
    pub amount: Resources,
    /// What it claims beside that.
    pub generic: Wishes,
}

impl Load {
    /// Whether nothing is claimed.
    pub fn is_empty(&self) -> bool {
        self.amount == Resources::ZERO && self.generic.is_empty()
    }

    /// In which order they are packed: the greatest first.
    pub fn rank(&self) -> (bool, u64) {
        (!self.generic.is_empty(), size(self.amount))
    }

    fn add(&mut self, more: &Self) {
        self.amount = self.amount.saturating_add(more.amount);
        for (name, amount) in more.generic.iter() {
            self.generic.add(name, amount);
        }
    }

    /// The same, but for what no node states that it has.
    fn counted(&self, stated: &BTreeSet<String>) -> Self {
        let mut counted = self.clone();
        counted.generic.retain(|name| stated.contains(name));
        counted
    }
}

/// A node, as far as it matters when another one is lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standby {
    /// The node.
    pub node: NodeId,
    /// Whether it could take something.
    pub takes_work: bool,
    /// What it has left.
    pub free: Resources,
    /// What it has beside that, and what is taken of it.
    pub stock: Stock,
    /// Tells its claims of now from those of before; nothing if they are only asked about, so that no plan is kept.
    pub digest: Option<u64>,
}

impl Standby {
    fn has_room(&self, load: &Load) -> bool {
        self.takes_work
            && load.amount.fits_in(self.free)
            && self.stock.scarcity(&load.generic).is_none()
    }

    fn take(&mut self, load: &Load) {
        self.free = self.free.saturating_sub(load.amount);
        self.stock.take(&load.generic);
    }
}

/// How the claims of one node would be spread over the others.
#[derive(Debug, Clone)]
struct Plan {
    digest: u64,
    /// What was counted beside CPU and memory.
    stated: BTreeSet<String>,
    takes: BTreeMap<NodeId, Load>,
}

/// The plans for the loss of each node.
#[derive(Debug, Clone, Default)]
pub struct Survival {
    plans: BTreeMap<NodeId, Plan>,
    made: u64,
}

impl Survival {
    /// The nodes whose loss would leave claims without room. `claims` says what runs on one.
    pub fn at_risk(
        &mut self,
        nodes: &[Standby],
        claims: impl Fn(NodeId) -> Vec<Load>,
    ) -> Vec<NodeId> {
        let stated = stated(nodes);
        let by_id: BTreeMap<NodeId, &Standby> =
            nodes.iter().map(|node| (node.node, node)).collect();
        self.plans.retain(|node, _| by_id.contains_key(node));
        let mut at_risk = Vec::new();
        for lost in nodes {
            let plan = self.plans.get(&lost.node);
            if plan.is_some_and(|plan| plan.holds(lost, &by_id, &stated)) {
                continue;
            }
            self.plans.remove(&lost.node);
            self.made += 1;
            let packing = pack(&claims(lost.node), lost.node, nodes, &stated);
            if !packing.homeless.is_empty() {
                at_risk.push(lost.node);
            } else if let Some(digest) = lost.digest {
                let plan = Plan {
                    digest,
                    stated: stated.clone(),
                    takes: packing.takes,
                };
                self.plans.insert(lost.node, plan);
            }
        }
        at_risk
    }

    /// How many plans were made so far.
    pub fn plans_made(&self) -> u64 {
        self.made
    }
}

impl Plan {
    fn holds(
        &self,
        lost: &Standby,
        by_id: &BTreeMap<NodeId, &Standby>,
        stated: &BTreeSet<String>,
    ) -> bool {
        lost.digest == Some(self.digest)
            && self.stated == *stated
            && self.takes.iter().all(|(node, taken)| {
                let still = by_id.get(node);
                still.is_some_and(|node| node.has_room(taken))
            })
    }
}

/// Of the claims of a node, by their places in the list, those that would find no room on the others.
pub fn homeless(claims: &[Load], lost: NodeId, nodes: &[Standby]) -> Vec<usize> {
    pack(claims, lost, nodes, &stated(nodes)).homeless
}

/// Of the nodes that fit, the one that is left with least: where N+1 packs what a lost node ran, if it fits there.
pub fn best_fit<'a>(
    request: &Request,
    candidates: &'a [Candidate],
) -> Result<&'a Candidate, Refusal> {
    let sources = Sources::new(candidates);
    let fits = candidates
        .iter()
        .filter(|candidate| passes(request, candidate, &sources));
    let left = |candidate: &Candidate| candidate.free().saturating_sub(request.claim);
    let best = fits.min_by_key(|candidate| (size(left(candidate)), candidate.node));
    best.ok_or_else(|| refuse(request, candidates, &sources))
}

/// What nodes state that they have beside CPU and memory.
fn stated(nodes: &[Standby]) -> BTreeSet<String> {
    let names = nodes.iter().flat_map(|node| node.stock.all_left());
    names.map(|(name, _)| name.to_owned()).collect()
}

/// How the claims of one node are packed on the others.
#[derive(Debug, Default)]
struct Packing {
    takes: BTreeMap<NodeId, Load>,
    /// The claims that fit nowhere, by their places in the list.
    homeless: Vec<usize>,
}

/// Best fit decreasing of the claims over the other nodes.
fn pack(claims: &[Load], lost: NodeId, nodes: &[Standby], stated: &BTreeSet<String>) -> Packing {
    let claims = claims.iter().map(|load| load.counted(stated)).enumerate();
    let mut claims: Vec<_> = claims.filter(|(_, claim)| !claim.is_empty()).collect();
    claims.sort_by_key(|(_, claim)| Reverse(claim.rank()));
    let mut packing = Packing::default();
    if claims.is_empty() {
        return packing;
    }
    let others = nodes
        .iter()
        .filter(|node| node.node != lost && node.takes_work);
    let mut rooms: Vec<Standby> = others.cloned().collect();
    for (at, claim) in claims {
        let fits = rooms.iter_mut().filter(|node| node.has_room(&claim));
        let least = |node: &&mut Standby| (size(node.free.saturating_sub(claim.amount)), node.node);
        let Some(room) = fits.min_by_key(least) else {
            packing.homeless.push(at);
            continue;
        };
        room.take(&claim);
        packing.takes.entry(room.node).or_default().add(&claim);
    }
    packing
}

/// One number for both: a CPU weighs as much as 4 GiB.
fn size(amount: Resources) -> u64 {
    let Resources {
        cpu_nanos,
        memory_bytes,
    } = amount;
    (memory_bytes >> 20).saturating_add(cpu_nanos / 1_000_000 * 4)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::generic::{Amount, Taken};

    fn id(number: u8) -> NodeId {
        NodeId::from_bytes([number; 16])
    }

    const GIB: u64 = 1 << 30;

    fn gib(amount: u64) -> Resources {
        Resources::new(0, amount * GIB)
    }

    /// `4g2` is 4 GiB and two GPUs; without a `g` nothing is said of GPUs.
    fn read(text: &str) -> (u64, Option<u32>) {
        let number = |text: &str| text.parse().expect("a number");
        match text.split_once('g') {
            Some((gib, gpus)) => (number(gib), Some(gpus.parse().expect("a number"))),
            None => (number(text), None),
        }
    }

    fn load((amount, gpus): (u64, Option<u32>)) -> Load {
        let mut generic = Wishes::default();
        generic.add("gpu", Amount::Count(gpus.unwrap_or_default()));
        Load {
            amount: gib(amount),
            generic,
        }
    }

    /// One word for each node: what is free there, a slash, and its claims with plus signs between.
    struct Pool(Vec<(Standby, Vec<Load>)>);

    impl Pool {
        fn read(text: &str) -> Self {
            let read = |(number, word): (u8, &str)| {
                let (free, claims) = word.split_once('/').expect("a slash");
                let claims = claims.split('+').filter(|text| !text.is_empty());
                let claims: Vec<Load> = claims.map(|text| load(read(text))).collect();
                let (free, gpus) = read(free);
                let has = gpus.map(|gpus| ("gpu", u64::from(gpus)));
                let standby = Standby {
                    node: id(number),
                    takes_work: true,
                    free: gib(free),
                    stock: Stock::new(has.into_iter().collect(), Taken::default()),
                    digest: Some(digest(&claims)),
                };
                (standby, claims)
            };
            Self((1..).zip(text.split_whitespace()).map(read).collect())
        }

        fn at_risk(&self, survival: &mut Survival) -> Vec<u8> {
            let nodes: Vec<Standby> = self.0.iter().map(|(node, _)| node.clone()).collect();
            let claims = |node: NodeId| {
                let found = self.0.iter().find(|(standby, _)| standby.node == node);
                found.map(|(_, claims)| claims.clone()).unwrap_or_default()
            };
            let at_risk = survival.at_risk(&nodes, claims);
            at_risk.iter().map(|node| node.as_bytes()[0]).collect()
        }
    }

    fn digest(claims: &[Load]) -> u64 {
        let number = |load: &Load| {
            let gpus: u64 = load.generic.iter().map(|_| 1000).sum();
            load.amount.memory_bytes / GIB + gpus
        };
        let numbers = claims.iter().map(number);
        numbers.fold(1, |digest: u64, claim| {
            digest.wrapping_mul(31).wrapping_add(claim)
        })
    }

    #[test]
    fn what_one_node_runs_must_fit_on_the_others() {
        let check = |text: &str, expected: &[u8]| {
            let found = Pool::read(text).at_risk(&mut Survival::default());
            assert_eq!(found, expected, "{text}");
        };
        check("4/2+2 4/2+2 4/2+2", &[]);
        check("1/4 1/4 1/4", &[1, 2, 3]);
        check("8/1 1/8 1/8", &[]);
        check("4/ 0/4 0/5", &[3]);
        // Together there is room enough, but not for one as large.
        check("2/4 2/ 2/", &[1]);
        check("9/5", &[1]);
        check("9/", &[]);
        // GPUs are looked at too, where somebody says how many there are.
        check("9g0/1g1 9g1/ 9/", &[]);
        check("9g0/1g2 9g1/ 9g1/", &[1]);
        check("9g0/1g1+1g1 9g1/ 9g1/", &[]);
        check("9/1g2 9/ 9/", &[]);
        check("9g2/1g2 9/ 9/", &[1]);
        // The room at the GPU is kept for what needs it.
        check("9g0/4+3g1 4g1/ 9/", &[]);
        check("", &[]);
    }

    #[test]
    fn what_finds_no_room_is_told() {
        let check = |text: &str, lost: usize, expected: &[usize]| {
            let pool = Pool::read(text).0;
            let nodes: Vec<Standby> = pool.iter().map(|(node, _)| node.clone()).collect();
            let (lost, claims) = &pool[lost - 1];
            assert_eq!(homeless(claims, lost.node, &nodes), expected, "{text}");
        };
        check("4/2+2 4/2+2 4/2+2", 1, &[]);
        check("1/4 1/4 1/4", 2, &[0]);
        // The rest finds room all the same.
        check("2/1+4+2 2/ 1/", 1, &[1]);
        check("2/3+0+4 2/ 2/", 1, &[2, 0]);
        check("9g0/1+1g1 9/ 9/", 1, &[1]);
    }

    #[test]
    fn only_what_was_broken_is_planned_anew() {
        let mut survival = Survival::default();
        let check = |text: &str, survival: &mut Survival, plans: u64| {
            assert_eq!(
                Pool::read(text).at_risk(survival),
                Vec::<u8>::new(),
                "{text}"
            );
            assert_eq!(survival.plans_made(), plans, "{text}");
        };
        check("3/1 5/1 9/1", &mut survival, 3);
        check("3/1 5/1 9/1", &mut survival, 3);
        // One more on the third: its own plan is made anew, and those of the others hold.
        check("3/1 5/1 8/1+1", &mut survival, 4);
        // The first has no room left, which the other two planned with.
        check("0/1+3 5/1 8/1+1", &mut survival, 7);
    }

    #[test]
    fn no_plan_is_kept_for_what_is_only_asked_about() {
        let mut survival = Survival::default();
        let mut asked = |text| {
            let mut pool = Pool::read(text);
            pool.0[0].0.digest = None;
            pool.at_risk(&mut survival)
        };
        assert_eq!(asked("9/1 2/ 2/"), [] as [u8; 0]);
        assert_eq!(asked("9/3 2/ 2/"), [1]);
    }

    #[test]
    fn what_is_counted_from_now_on_is_planned_for() {
        let mut survival = Survival::default();
        assert_eq!(
            Pool::read("9/1g1 9/ 9/").at_risk(&mut survival),
            [] as [u8; 0]
        );
        assert_eq!(Pool::read("9g1/1g1 9/ 9/").at_risk(&mut survival), [1]);
    }

    /// Whether the claims can be spread over the rooms in any way.
    fn fits_somehow(claims: &[Load], rooms: &mut [Standby]) -> bool {
        let Some((first, rest)) = claims.split_first() else {
            return true;
        };
        (0..rooms.len()).any(|at| {
            if !rooms[at].has_room(first) {
                return false;
            }
            let before = rooms[at].clone();
            rooms[at].take(first);
            let fits = fits_somehow(rest, rooms);
            rooms[at] = before;
            fits
        })
    }

    proptest! {
        #[test]
        fn what_is_kept_holds_as_well_as_what_is_made_anew(
            steps in prop::collection::vec((0usize..4, 1u64..4, 0u32..2, any::<bool>()), 1..40),
        ) {
            let mut pool = Pool::read("9g1/ 7/ 12g3/ 8/");
            let mut survival = Survival::default();
            for (at, claim, gpus, gives_back) in steps {
                let (node, claims) = &mut pool.0[at];
                if gives_back {
                    let freed = claims.pop().unwrap_or_default();
                    node.free = node.free.saturating_add(freed.amount);
                    node.stock.give_back(&freed.generic);
                } else {
                    let more = load((claim, Some(gpus)));
                    if node.has_room(&more) {
                        node.take(&more);
                        claims.push(more);
                    }
                }
                node.digest = Some(digest(claims));
                let kept = pool.at_risk(&mut survival);
                let anew = pool.at_risk(&mut Survival::default());
                // A plan that was found earlier may do where greed finds none now, never the other way round.
                prop_assert!(kept.iter().all(|node| anew.contains(node)), "{:?} {:?}", kept, anew);
                // What holds together must hold for each: no more is taken of a node than it has.
                for plan in survival.plans.values() {
                    for (taker, taken) in &plan.takes {
                        let node = pool.0.iter().find(|(node, _)| node.node == *taker);
                        prop_assert!(node.is_some_and(|(node, _)| node.has_room(taken)));
                    }
                }
            }
        }

        #[test]
        fn a_node_that_can_be_lost_has_room_elsewhere(
            nodes in prop::collection::vec(
                (0u64..6, prop::option::of(0u32..3), prop::collection::vec((1u64..4, 0u32..2), 0..4), prop::bool::weighted(0.9)),
                1..4,
            ),
        ) {
            let words = nodes.iter().map(|(free, gpus, claims, _)| {
                let gpus = gpus.map_or_else(String::new, |gpus| format!("g{gpus}"));
                let claims: Vec<_> = claims.iter().map(|(gib, gpus)| format!("{gib}g{gpus}")).collect();
                format!("{free}{gpus}/{}", claims.join("+"))
            });
            let mut pool = Pool::read(&words.collect::<Vec<_>>().join(" "));
            for ((node, _), (.., takes_work)) in pool.0.iter_mut().zip(&nodes) {
                node.takes_work = *takes_work;
            }
            let at_risk = pool.at_risk(&mut Survival::default());
            let stated: BTreeSet<String> = nodes.iter().filter_map(|(_, gpus, ..)| gpus.map(|_| "gpu".to_owned())).collect();
            for (lost, claims) in &pool.0 {
                let others = pool.0.iter().map(|(node, _)| node).filter(|node| node.node != lost.node);
                let mut rooms: Vec<Standby> = others.cloned().collect();
                let claims: Vec<Load> = claims.iter().map(|claim| claim.counted(&stated)).collect();
                let fits = fits_somehow(&claims, &mut rooms);
                let is_at_risk = at_risk.contains(&lost.node.as_bytes()[0]);
                prop_assert!(fits || is_at_risk, "{:?} has no room elsewhere", lost.node);
                // With one node to go to there is nothing to be clever about.
                if rooms.len() < 2 {
                    prop_assert_eq!(fits, !is_at_risk);
                }
            }
        }
    }
}
