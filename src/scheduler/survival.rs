//! N+1: whether what runs on any one node would find room on the others.
//!
//! Best fit decreasing: the claims of the lost node, the largest first, each go to the node that is left with least. A plan
//! that was found is kept, and holds as long as the node has the same claims and the others still have the room that the
//! plan takes. So a placement makes anew only the plans that it broke, which are few.
//!
//! **Invariant**: a plan that is kept is a proof, whatever happened since it was made; what is at risk was tried anew.

use std::collections::BTreeMap;

use crate::model::{NodeId, Resources};

/// A node, as far as it matters when another one is lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standby {
    /// The node.
    pub node: NodeId,
    /// Whether it could take something.
    pub takes_work: bool,
    /// What it has left.
    pub free: Resources,
    /// Tells its claims of now from those of before.
    pub digest: u64,
}

/// How the claims of one node would be spread over the others.
#[derive(Debug, Clone)]
struct Plan {
    digest: u64,
    takes: BTreeMap<NodeId, Resources>,
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
        claims: impl Fn(NodeId) -> Vec<Resources>,
    ) -> Vec<NodeId> {
        let by_id: BTreeMap<NodeId, &Standby> =
            nodes.iter().map(|node| (node.node, node)).collect();
        self.plans.retain(|node, _| by_id.contains_key(node));
        let mut at_risk = Vec::new();
        for lost in nodes {
            let plan = self.plans.get(&lost.node);
            if plan.is_some_and(|plan| plan.holds(lost, &by_id)) {
                continue;
            }
            self.made += 1;
            match spread(claims(lost.node), lost.node, nodes) {
                Some(takes) => {
                    let digest = lost.digest;
                    self.plans.insert(lost.node, Plan { digest, takes });
                }
                None => {
                    self.plans.remove(&lost.node);
                    at_risk.push(lost.node);
                }
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
    fn holds(&self, lost: &Standby, by_id: &BTreeMap<NodeId, &Standby>) -> bool {
        self.digest == lost.digest
            && self.takes.iter().all(|(node, taken)| {
                let still = by_id.get(node).filter(|node| node.takes_work);
                still.is_some_and(|node| taken.fits_in(node.free))
            })
    }
}

/// Best fit decreasing of the claims over the other nodes: what each takes, or nothing if one fits nowhere.
fn spread(
    mut claims: Vec<Resources>,
    lost: NodeId,
    nodes: &[Standby],
) -> Option<BTreeMap<NodeId, Resources>> {
    claims.retain(|claim| *claim != Resources::ZERO);
    claims.sort_by_key(|claim| std::cmp::Reverse(size(*claim)));
    let others = nodes
        .iter()
        .filter(|node| node.node != lost && node.takes_work);
    let mut rooms: Vec<(NodeId, Resources)> = others.map(|node| (node.node, node.free)).collect();
    let mut takes: BTreeMap<NodeId, Resources> = BTreeMap::new();
    for claim in claims {
        let fits = rooms.iter_mut().filter(|(_, free)| claim.fits_in(*free));
        let (node, free) =
            fits.min_by_key(|(node, free)| (size(free.saturating_sub(claim)), *node))?;
        *free = free.saturating_sub(claim);
        let taken = takes.entry(*node).or_default();
        *taken = taken.saturating_add(claim);
    }
    Some(takes)
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
    use super::*;
    use proptest::prelude::*;

    fn id(number: u8) -> NodeId {
        NodeId::from_bytes([number; 16])
    }

    const GIB: u64 = 1 << 30;

    fn gib(amount: u64) -> Resources {
        Resources::new(0, amount * GIB)
    }

    /// One word for each node: what is free there, a slash, and its claims with plus signs between, in GiB.
    struct Pool(Vec<(Standby, Vec<Resources>)>);

    impl Pool {
        fn read(text: &str) -> Self {
            let read = |(number, word): (u8, &str)| {
                let (free, claims) = word.split_once('/').expect("a slash");
                let numbers = claims.split('+').filter(|text| !text.is_empty());
                let claims: Vec<u64> = numbers
                    .map(|text| text.parse().expect("a number"))
                    .collect();
                let standby = Standby {
                    node: id(number),
                    takes_work: true,
                    free: gib(free.parse().expect("a number")),
                    digest: claims.iter().fold(1, |digest, claim| digest * 31 + claim),
                };
                (standby, claims.into_iter().map(gib).collect())
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
        check("", &[]);
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

    proptest! {
        #[test]
        fn what_is_kept_holds_as_well_as_what_is_made_anew(
            steps in prop::collection::vec((0usize..4, 1u64..4, any::<bool>()), 1..40),
        ) {
            let mut pool = Pool::read("9/ 7/ 12/ 8/");
            let mut survival = Survival::default();
            for (at, claim, gives_back) in steps {
                let (node, claims) = &mut pool.0[at];
                if gives_back {
                    let freed = claims.pop().unwrap_or_default();
                    node.free = node.free.saturating_add(freed);
                } else if gib(claim).fits_in(node.free) {
                    claims.push(gib(claim));
                    node.free = node.free.saturating_sub(gib(claim));
                }
                node.digest = claims.iter().fold(1, |digest, claim| digest * 31 + claim.memory_bytes / GIB);
                let kept = pool.at_risk(&mut survival);
                let anew = pool.at_risk(&mut Survival::default());
                // A plan that was found earlier may do where greed finds none now, never the other way round.
                prop_assert!(kept.iter().all(|node| anew.contains(node)), "{:?} {:?}", kept, anew);
                // What holds together must hold for each: no more is taken of a node than it has.
                for plan in survival.plans.values() {
                    for (taker, taken) in &plan.takes {
                        let free = pool.0.iter().find(|(node, _)| node.node == *taker).map(|(node, _)| node.free);
                        prop_assert!(taken.fits_in(free.unwrap_or_default()));
                    }
                }
            }
        }
    }
}
