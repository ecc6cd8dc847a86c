//! How fast decisions are, how well they pack, and how evenly they spread, over simulated nodes.
//!
//! A decision here is the scheduler's, with what it holds in its ledger; nothing is committed and no engine is asked. Times
//! are of one thread. Packing does not depend on the machine: the same seeds give the same tables everywhere.

#![expect(clippy::disallowed_methods, reason = "benches measure in real time")]

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use api_compat::ApiVersion;
use api_compat::constraint::Constraint;
use flotilla::model::generic::Stock;
use flotilla::model::{Availability, NodeId, Platform, Resources, Verdict};
use flotilla::scheduler::{Candidate, Ledger, Near, Request, Strategy, Traits};
use integration::bench::{self, Table, quantile};

const GIB: u64 = 1 << 30;
const MIB: u64 = 1 << 20;
const CPU: u64 = 1_000_000_000;

fn main() -> ExitCode {
    bench::main(measure)
}

fn measure(table: &mut Table) -> Result<()> {
    speed(table)?;
    latency(table)?;
    packing(table)?;
    spreading(table)
}

/// Placements in a second at 5,000 nodes, and how many containers there are makes no difference.
fn speed(table: &mut Table) -> Result<()> {
    table.part(
        "placements a second, 5,000 nodes",
        ["containers", "with wishes", "each"],
    );
    for containers in [1_000, 10_000, 100_000] {
        let plain = per_second(containers, false, 4_000)?;
        table.at_least("spread", &containers.to_string(), "no", plain, 10_000.0);
    }
    let wishes = per_second(100_000, true, 2_000)?;
    table.at_least(
        "spread, constraints and anti-affinity",
        "100000",
        "yes",
        wishes,
        1_000.0,
    );
    Ok(())
}

fn per_second(containers: usize, wishes: bool, placements: usize) -> Result<f64> {
    let mut random = Random(7);
    let mut ledger = filled(5_000, containers, &mut random);
    let requests: Vec<_> = (0..placements)
        .map(|_| request(&mut random, wishes))
        .collect();
    let began = Instant::now();
    let mut placed = Vec::with_capacity(placements);
    for request in &requests {
        let chosen = ledger.place(request, "it").context("a node fits")?;
        placed.push((chosen.node, request.claim));
    }
    let took = began.elapsed();
    ensure!(placed.len() == placements, "not all were placed");
    Ok(placements as f64 / took.as_secs_f64())
}

/// How long one decision takes at 1,000 nodes.
fn latency(table: &mut Table) -> Result<()> {
    table.part("one decision, 1,000 nodes (ms)", ["p50", "p99", "p99"]);
    for (what, wishes) in [
        ("spread", false),
        ("spread, constraints and anti-affinity", true),
    ] {
        let mut random = Random(11);
        let mut ledger = filled(1_000, 20_000, &mut random);
        let mut took = Vec::new();
        for _ in 0..5_000 {
            let request = request(&mut random, wishes);
            let began = Instant::now();
            let chosen = ledger.place(&request, "it").context("a node fits")?;
            took.push(began.elapsed().as_secs_f64() * 1000.0);
            ledger.give_back(chosen.node, &request);
        }
        let (half, most) = (quantile(&mut took, 0.5), quantile(&mut took, 0.99));
        table.at_most(
            what,
            &format!("{half:.3}"),
            &format!("{most:.3}"),
            most,
            1.0,
        );
    }
    Ok(())
}

/// So many workloads, each over so many orders of the nodes.
const WORKLOADS: u64 = 60;
const ORDERS: u64 = 20;

/// How a node is chosen in the comparison of packings.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    /// Ours, as the claims come.
    Binpack,
    /// The first of the order that has room.
    FirstFit,
    /// The node with fewest containers that has room.
    Count,
    /// All claims are known: the largest first, each to the node that it fits best.
    Offline,
}

/// The fewest nodes of an order that take a whole workload, against what best fit needs that knows it all beforehand.
fn packing(table: &mut Table) -> Result<()> {
    let ways = [Way::Binpack, Way::FirstFit, Way::Count];
    let mut ratios = ways.map(|_| Vec::new());
    let mut beyond: f64 = 0.0;
    let mut worse = 0;
    for workload in 0..WORKLOADS {
        let claims = heavy_tailed(&mut Random(1000 + workload), 400, 8.0);
        let mut sums = [0; 4];
        for order in 0..ORDERS {
            let nodes = shuffled(&mut Random(77 + order * 7919 + workload), 160);
            let offline = fewest(Way::Offline, &claims, &nodes)?;
            sums[3] += offline;
            for (at, way) in ways.iter().enumerate() {
                let needed = fewest(*way, &claims, &nodes)?;
                sums[at] += needed;
                ratios[at].push(needed as f64 / offline as f64);
                if *way == Way::Binpack {
                    // What is over both 5 % and one node.
                    let allowed = (offline as f64 * 1.05).max(offline as f64 + 1.0);
                    beyond = beyond.max(needed as f64 - allowed);
                }
            }
        }
        if sums[0] >= sums[2] {
            worse += 1;
        }
    }
    table.part(
        "nodes needed, of those of offline best fit",
        ["mean", "worst", "judged"],
    );
    let mut means = [0.0; 3];
    for (at, what) in ["binpack", "first fit", "fewest containers"]
        .into_iter()
        .enumerate()
    {
        let mean = ratios[at].iter().sum::<f64>() / ratios[at].len() as f64;
        let worst = ratios[at].iter().copied().fold(0.0, f64::max);
        means[at] = mean;
        table.row(what, &format!("{mean:.4}"), &format!("{worst:.4}"), "");
    }
    let bound = |text: f64| format!("{text:.4}");
    table.at_most("binpack, mean", &bound(means[0]), "", means[0], 1.03);
    table.at_most(
        "binpack, nodes beyond 5 % and beyond one",
        "",
        "",
        beyond,
        0.0,
    );
    table.at_most(
        "binpack, mean against first fit",
        "",
        "",
        means[0] / means[1],
        1.0,
    );
    table.at_most(
        "workloads on which counting is as good",
        "",
        "",
        f64::from(worse),
        0.0,
    );
    Ok(())
}

/// The fewest nodes, from the front of the order, that take all claims.
fn fewest(way: Way, claims: &[Resources], nodes: &[Candidate]) -> Result<usize> {
    let sum = claims
        .iter()
        .fold(Resources::ZERO, |sum, claim| sum.saturating_add(*claim));
    let mut has = Resources::ZERO;
    for (at, node) in nodes.iter().enumerate() {
        has = has.saturating_add(node.capacity);
        if sum.fits_in(has) && takes(way, claims, &nodes[..=at]) {
            return Ok(at + 1);
        }
    }
    anyhow::bail!("the nodes do not take the workload")
}

fn takes(way: Way, claims: &[Resources], nodes: &[Candidate]) -> bool {
    let mut ledger = Ledger::new(nodes.to_vec());
    let mut claims = claims.to_vec();
    if way == Way::Offline {
        claims.sort_by_key(|claim| std::cmp::Reverse(size(*claim)));
    }
    claims.iter().all(|claim| {
        let request = packed(*claim);
        let fits = |node: &&Candidate| claim.fits_in(node.free());
        let node = match way {
            Way::Binpack | Way::Offline => return ledger.place(&request, "it").is_ok(),
            Way::FirstFit => ledger.nodes().iter().find(fits),
            Way::Count => ledger
                .nodes()
                .iter()
                .filter(fits)
                .min_by_key(|node| (node.containers, node.node)),
        };
        let Some(id) = node.map(|node| node.node) else {
            return false;
        };
        ledger.hold(id, &request, "it");
        true
    })
}

fn packed(claim: Resources) -> Request {
    Request {
        claim,
        strategy: Strategy::Binpack,
        ..plain()
    }
}

/// What is scarcer of a claim, as a share of the usual node.
fn size(claim: Resources) -> u64 {
    let share = |amount: u64, of: u64| amount / (of / 1_000_000);
    share(claim.cpu_nanos, 32 * CPU).max(share(claim.memory_bytes, 128 * GIB))
}

/// How far the worst node is from the mean, once nodes of one size have taken a workload.
fn spreading(table: &mut Table) -> Result<()> {
    table.part(
        "spread, memory of the fullest node (GiB)",
        ["mean", "fullest", "over"],
    );
    for workload in 0..3 {
        let claims = heavy_tailed(&mut Random(500 + workload), 400, 1.0);
        let nodes = (0..40).map(|number| node(number, 32, 128)).collect();
        let mut ledger = Ledger::new(nodes);
        for claim in &claims {
            let request = Request {
                claim: *claim,
                ..plain()
            };
            ledger.place(&request, "it").context("a node fits")?;
        }
        let gib = |bytes: u64| bytes as f64 / GIB as f64;
        // Of the scarcer resource, as a share of a node, so that claims of both kinds compare.
        let used = |node: &Candidate| size(node.claimed) as f64 / 1e6 * 128.0;
        let all: Vec<f64> = ledger.nodes().iter().map(used).collect();
        let mean = all.iter().sum::<f64>() / all.len() as f64;
        let most = all.iter().copied().fold(0.0, f64::max);
        let largest = claims
            .iter()
            .map(|claim| size(*claim))
            .max()
            .unwrap_or_default();
        let largest = largest as f64 / 1e6 * gib(128 * GIB);
        let what = format!("workload {workload}, largest claim {largest:.1}");
        table.at_most(
            &what,
            &format!("{mean:.1}"),
            &format!("{most:.1}"),
            most - mean,
            largest,
        );
    }
    Ok(())
}

/// Nodes with containers on them.
fn filled(nodes: u64, containers: usize, random: &mut Random) -> Ledger {
    let nodes = (0..nodes).map(|number| node(number, 64, 512)).collect();
    let mut ledger = Ledger::new(nodes);
    let ids: Vec<_> = ledger.nodes().iter().map(|node| node.node).collect();
    for _ in 0..containers {
        let id = ids[random.below(ids.len() as u64) as usize];
        let request = Request {
            claim: claim(random),
            ..plain()
        };
        ledger.hold(id, &request, "it");
    }
    ledger
}

fn node(number: u64, cpus: u64, gib: u64) -> Candidate {
    let labels = [
        ("zone".to_owned(), format!("z{}", number % 5)),
        (
            "disk".to_owned(),
            if number.is_multiple_of(2) {
                "ssd"
            } else {
                "hdd"
            }
            .to_owned(),
        ),
        ("rack".to_owned(), format!("r{}", number % 100)),
    ];
    Candidate {
        node: id(number),
        name: format!("host{number}").parse().expect("a name"),
        verdict: Verdict::Ready,
        suspect: false,
        availability: Availability::Active,
        counted: true,
        platform: Some(Platform {
            os: "linux".to_owned(),
            arch: "amd64".to_owned(),
        }),
        machine: Resources::new(cpus * CPU, gib * GIB),
        capacity: Resources::new(cpus * CPU, gib * GIB),
        claimed: Resources::ZERO,
        unmanaged: Resources::ZERO,
        stock: Stock::default(),
        containers: 0,
        slots: None,
        newest_api: Some(ApiVersion::MAX),
        has_image: true,
        taken: Vec::new(),
        traits: Arc::new(Traits {
            node_labels: labels.into(),
            ..Traits::default()
        }),
    }
}

fn id(number: u64) -> NodeId {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    NodeId::from_bytes(bytes)
}

fn plain() -> Request {
    Request {
        image: "busybox".to_owned(),
        ..Request::default()
    }
}

/// A small claim; with wishes, two of which are hard and one soft.
fn request(random: &mut Random, wishes: bool) -> Request {
    let mut request = Request {
        claim: claim(random),
        ..plain()
    };
    if wishes {
        let zone = format!("zone==z{}", random.below(5));
        let texts = [zone.as_str(), "disk==ssd", "rack!=~r7"];
        let read = texts.map(|text| Constraint::parse(text).expect("a constraint"));
        request.constraints = read.to_vec();
        let nodes: BTreeSet<_> = (0..50).map(|_| id(random.below(5_000))).collect();
        request.affinities = vec![Near {
            text: "app!=web".to_owned(),
            negated: true,
            soft: false,
            nodes,
        }];
    }
    request
}

fn claim(random: &mut Random) -> Resources {
    Resources::new(random.below(8) * CPU / 8, (64 + random.below(1024)) * MIB)
}

/// Many small claims and a few large ones (Pareto, shape 1.2, up to 60 GiB), CPU and memory loosely tied.
fn heavy_tailed(random: &mut Random, count: usize, least_gib: f64) -> Vec<Resources> {
    let one = |random: &mut Random| {
        let part = (random.below(1_000_000) + 1) as f64 / 1e6;
        let gib = (least_gib / part.powf(1.0 / 1.2)).min(60.0);
        let tied = 0.5 + random.below(1000) as f64 / 1000.0;
        let cpus = (gib / 4.0 * tied).clamp(0.05, 15.0);
        Resources::new((cpus * CPU as f64) as u64, (gib * GIB as f64) as u64)
    };
    (0..count).map(|_| one(random)).collect()
}

/// Nodes of three sizes in a random order; ids follow the order.
fn shuffled(random: &mut Random, count: u64) -> Vec<Candidate> {
    let sizes = [(16, 64), (24, 96), (32, 128)];
    let mut nodes: Vec<_> = (0..count)
        .map(|number| sizes[(number % 3) as usize])
        .collect();
    for at in (1..nodes.len()).rev() {
        nodes.swap(at, random.below(at as u64 + 1) as usize);
    }
    let numbered = (0..count).zip(nodes);
    numbered
        .map(|(number, (cpus, gib))| node(number, cpus, gib))
        .collect()
}

/// SplitMix64: the same numbers everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}
