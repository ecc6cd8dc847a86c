//! Small tables for each filter and strategy, refusals in their words, and what must hold for any nodes and requests.

mod any_request;
mod strategies;

use std::collections::BTreeMap;
use std::sync::Arc;

use api_compat::ApiVersion;
use api_compat::constraint::Constraint;
use api_compat::features::Feature;
use proptest::prelude::*;
use proptest::strategy::Strategy as Generates;

use super::Strategy;
use super::*;
use crate::model::generic::{Amount, Stock, Taken, Wishes};
use crate::model::{Availability, Platform, Protocol, PublishedPort, Resources, Verdict};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

fn node(number: u8) -> NodeId {
    NodeId::from_bytes([number; 16])
}

fn tcp(number: u16) -> PublishedPort {
    PublishedPort {
        protocol: Protocol::Tcp,
        address: None,
        number,
    }
}

fn linux(arch: &str) -> Platform {
    Platform {
        os: "linux".to_owned(),
        arch: arch.to_owned(),
    }
}

/// A ready node with the image, 4 CPUs and 8 GiB, all free.
fn host(number: u8) -> Candidate {
    Candidate {
        node: node(number),
        name: format!("host{number}").parse().expect("valid"),
        verdict: Verdict::Ready,
        suspect: false,
        availability: Availability::Active,
        counted: true,
        platform: Some(linux("amd64")),
        machine: Resources::new(4_000_000_000, 8 * GIB),
        capacity: Resources::new(4_000_000_000, 8 * GIB),
        claimed: Resources::ZERO,
        unmanaged: Resources::ZERO,
        stock: Stock::default(),
        containers: 0,
        slots: None,
        newest_api: Some(ApiVersion::MAX),
        has_image: true,
        taken: Vec::new(),
        traits: Arc::default(),
    }
}

fn constrained(constraints: &[&str]) -> Request {
    let read = constraints
        .iter()
        .map(|text| Constraint::parse(text).expect(text));
    Request {
        constraints: read.collect(),
        ..request()
    }
}

/// A host with this zone; none if it is empty.
fn in_zone(number: u8, zone: &str) -> Candidate {
    let labels = [("zone".to_owned(), zone.to_owned())];
    Candidate {
        traits: Arc::new(Traits {
            node_labels: labels
                .into_iter()
                .filter(|(_, zone)| !zone.is_empty())
                .collect(),
            ..Traits::default()
        }),
        ..host(number)
    }
}

fn with_free_memory(number: u8, free: u64) -> Candidate {
    let claimed = Resources::new(0, 8 * GIB - free);
    Candidate {
        claimed,
        ..host(number)
    }
}

fn request() -> Request {
    Request {
        image: "alpine".to_owned(),
        ..Request::default()
    }
}

fn chosen(request: &Request, candidates: &[Candidate]) -> String {
    place(request, candidates).expect("fits").name.to_string()
}

fn refused(request: &Request, candidates: &[Candidate]) -> String {
    place(request, candidates)
        .expect_err("does not fit")
        .to_string()
}

#[test]
fn a_full_cluster_says_why() {
    let pin = |nodes: &[u8], why: &str| Pin {
        nodes: nodes.iter().map(|number| node(*number)).collect(),
        why: why.to_owned(),
    };
    let asked = Request {
        claim: Resources::new(0, 512 * MIB),
        pins: vec![pin(
            &[1, 2, 5],
            "volume data, which is on host1, host2, host5",
        )],
        ..request()
    };
    let nodes = [
        with_free_memory(1, 300 * MIB),
        with_free_memory(2, 120 * MIB),
        host(3),
        host(4),
        with_free_memory(5, 80 * MIB),
    ];
    assert_eq!(
        refused(&asked, &nodes),
        "no node fits: host1, host2, host5 lack memory (need 512MiB; 300MiB, 120MiB, 80MiB \
         free of 8GiB); host3, host4 excluded by volume data, which is on host1, host2, host5"
    );
    assert_eq!(
        refused(&asked, &nodes[..1]),
        "no node fits: host1 lacks memory (need 512MiB, 300MiB free of 8GiB)"
    );
    assert_eq!(
        refused(&asked, &[]),
        "no node fits: the cluster has no nodes"
    );
}

#[test]
fn each_filter_has_its_words() {
    let check = |request: &Request, candidate: Candidate, expected: &str| {
        let twin = Candidate {
            name: "host2".parse().expect("valid"),
            ..candidate.clone()
        };
        let (one, both) = expected.split_once(" | ").expect("one and both");
        assert_eq!(
            refused(request, std::slice::from_ref(&candidate)),
            format!("no node fits: {one}")
        );
        assert_eq!(
            refused(request, &[twin, candidate]),
            format!("no node fits: {both}")
        );
    };
    let ask = request();
    let down = Verdict::Down {
        reason: "no answer for 3s".to_owned(),
    };
    check(
        &ask,
        Candidate {
            verdict: down,
            ..host(1)
        },
        "host1 is down (no answer for 3s) | host1, host2 are down (no answer for 3s)",
    );
    check(
        &ask,
        Candidate {
            verdict: Verdict::Joining,
            ..host(1)
        },
        "host1 is joining | host1, host2 are joining",
    );
    check(
        &ask,
        Candidate {
            availability: Availability::Pause,
            ..host(1)
        },
        "host1 is paused | host1, host2 are paused",
    );
    check(
        &ask,
        Candidate {
            availability: Availability::Drain,
            ..host(1)
        },
        "host1 is drained | host1, host2 are drained",
    );
    check(
        &ask,
        Candidate {
            counted: false,
            ..host(1)
        },
        "host1 is still being counted | host1, host2 are still being counted",
    );
    check(
        &Request {
            platform: Some(linux("arm64")),
            ..request()
        },
        host(1),
        "host1 is linux/amd64, not linux/arm64 | host1, host2 are linux/amd64, not linux/arm64",
    );
    let taken = vec![TakenPort {
        port: tcp(80),
        by: "web".to_owned(),
    }];
    check(
        &Request {
            ports: vec![tcp(80)],
            ..request()
        },
        Candidate { taken, ..host(1) },
        "host1 has port 80/tcp taken (by web) | host1, host2 have port 80/tcp taken (by web)",
    );
    check(
        &Request {
            claim: Resources::new(5_000_000_000, 0),
            ..request()
        },
        host(1),
        "host1 lacks CPU (need 5 CPUs, 4 free of 4) | \
         host1, host2 lack CPU (need 5 CPUs; 4, 4 free of 4)",
    );
}

fn with_gpus(number: u8, has: u64, taken: &Wishes) -> Candidate {
    let mut stock = Stock::new([("gpu", has)].into_iter().collect(), Taken::default());
    stock.take(taken);
    Candidate {
        stock,
        ..host(number)
    }
}

fn gpus(amount: Amount) -> Wishes {
    let mut wishes = Wishes::default();
    wishes.add("gpu", amount);
    wishes
}

#[test]
fn gpus_are_counted_and_refusals_have_the_numbers() {
    let asking = |amount| Request {
        generic: gpus(amount),
        ..request()
    };
    let (two, all) = (asking(Amount::Count(2)), asking(Amount::All));
    let none = Wishes::default();
    let nodes = [
        with_gpus(1, 4, &gpus(Amount::Count(3))),
        host(2),
        with_gpus(3, 2, &none),
        with_gpus(4, 0, &none),
        with_gpus(5, 4, &gpus(Amount::All)),
    ];
    assert_eq!(chosen(&two, &nodes), "host3");
    assert_eq!(chosen(&all, &nodes), "host3");
    assert_eq!(chosen(&asking(Amount::Count(1)), &nodes), "host1");
    assert_eq!(
        refused(&asking(Amount::Count(3)), &nodes),
        "no node fits: host1, host5 lack gpu (need 3; 1, 0 free of 4); host2, host4 have no gpu; \
         host3 lacks gpu (need 3, 2 free of 2)"
    );
    assert_eq!(
        refused(&all, &nodes[..2]),
        "no node fits: host1 lacks gpu (need all, 1 free of 4); host2 has no gpu"
    );
    // What is held counts for the next one, until it is given back.
    let mut ledger = Ledger::new(nodes.to_vec());
    let first = ledger.place(&all, "a").expect("fits");
    assert!(ledger.place(&two, "b").is_err());
    ledger.give_back(first.node, &all);
    assert_eq!(ledger.place(&two, "b"), Ok(first));
}

#[test]
fn constraints_choose_the_node_and_refusals_say_its_value() {
    let nodes = [
        in_zone(1, "a"),
        in_zone(2, "b"),
        in_zone(3, "c"),
        in_zone(4, ""),
    ];
    assert_eq!(chosen(&constrained(&["zone==b"]), &nodes), "host2");
    assert_eq!(chosen(&constrained(&["node==host3"]), &nodes), "host3");
    assert_eq!(
        chosen(
            &constrained(&["zone!=a", "node.labels.zone!=B", "zone==/./"]),
            &nodes
        ),
        "host3"
    );
    assert_eq!(
        refused(&constrained(&["zone==d"]), &nodes),
        "no node fits: host1, host2, host3, host4 excluded by constraint zone==d (zone is a, b, c, unset)"
    );
    assert_eq!(
        refused(&constrained(&["zone==d"]), &nodes[..1]),
        "no node fits: host1 excluded by constraint zone==d (zone is a)"
    );
    assert_eq!(
        refused(
            &constrained(&["zone==/[ab]/", "node!=host2", "node==host2"]),
            &nodes[..3]
        ),
        "no node fits: host1 excluded by constraint node==host2; host2 excluded by constraint node!=host2; \
         host3 excluded by constraint zone==/[ab]/ (zone is c)"
    );
}

#[test]
fn soft_constraints_give_way_one_by_one() {
    let nodes = [in_zone(1, "a"), in_zone(2, "b"), in_zone(3, "b")];
    assert_eq!(chosen(&constrained(&["zone==~b"]), &nodes), "host2");
    assert_eq!(chosen(&constrained(&["zone==~d"]), &nodes), "host1");
    // None meets both: the one that meets one comes first.
    assert_eq!(
        chosen(&constrained(&["zone==~d", "node!=~host1"]), &nodes),
        "host2"
    );
    // A hard one does not give way for a soft one.
    assert_eq!(
        chosen(&constrained(&["zone==a", "zone==~b"]), &nodes),
        "host1"
    );
    let paused = Candidate {
        availability: Availability::Pause,
        ..in_zone(2, "b")
    };
    assert_eq!(
        chosen(&constrained(&["zone==~b"]), &[nodes[0].clone(), paused]),
        "host1"
    );
    // Nor is work given to a node that may be lost for the sake of a soft one.
    let suspect = Candidate {
        suspect: true,
        ..in_zone(2, "b")
    };
    assert_eq!(
        chosen(&constrained(&["zone==~b"]), &[nodes[0].clone(), suspect]),
        "host1"
    );
}

#[test]
fn each_key_has_its_value() {
    let mut known = host(1);
    let pairs = |pairs: &[(&str, &str)]| {
        let pairs = pairs.iter();
        pairs
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    };
    known.traits = Arc::new(Traits {
        hostname: "iron".to_owned(),
        address: Some("10.0.0.7".to_owned()),
        node_labels: pairs(&[("zone", "a"), ("both", "node")]),
        engine_labels: pairs(&[("disk", "ssd"), ("both", "engine"), ("os", "alpine")]),
        says: pairs(&[("storagedriver", "overlay2"), ("kernelversion", "6.1.0")]),
    });
    let id = known.node.to_string();
    for met in [
        "node==host1",
        &format!("node=={id}"),
        &format!("node.id=={id}"),
        "node.hostname==iron",
        "node.hostname==host1",
        "node.ip==10.0.0.0/8",
        "node.role==worker",
        "node.platform.os==linux",
        "node.platform.arch==amd64",
        "node.platform.arch==x86_64",
        "arch==amd64",
        "architecture==x86_64",
        "os==alpine",
        "zone==a",
        "disk==ssd",
        "both==node",
        "node.labels.both==node",
        "engine.labels.both==engine",
        "node.labels.disk!=ssd",
        "engine.labels.zone!=a",
        "storagedriver==overlay2",
        "kernelversion==6.*",
        "executiondriver!=native",
    ] {
        assert_eq!(
            chosen(&constrained(&[met]), std::slice::from_ref(&known)),
            "host1",
            "{met}"
        );
    }
    let unmet =
        |constraint: &str| refused(&constrained(&[constraint]), std::slice::from_ref(&known));
    assert!(unmet("node.ip==10.1.0.0/16").ends_with("(node.ip is 10.0.0.7)"));
    assert!(unmet("node.hostname!=host1").ends_with("(node.hostname is iron)"));
    assert!(unmet("arch!=x86_64").ends_with("(arch is amd64)"));
    assert!(unmet("node.labels.disk==ssd").ends_with("(node.labels.disk is unset)"));
    assert!(unmet("operatingsystem==Debian*").ends_with("(operatingsystem is unset)"));
}

#[test]
fn an_image_that_is_nowhere_is_its_own_answer() {
    let bare = |number| Candidate {
        has_image: false,
        ..host(number)
    };
    let missing = Refusal::NoImage {
        image: "alpine".to_owned(),
    };
    let bring = Request {
        bring_image: true,
        ..request()
    };
    for request in [&request(), &bring] {
        assert_eq!(place(request, &[bare(1), bare(2)]), Err(missing.clone()));
    }
    assert_eq!(missing.to_string(), "no such image: alpine");
    let big = Resources::new(0, 9 * GIB);
    // Pulling it would not help.
    let full = refused(
        &Request {
            claim: big,
            ..request()
        },
        &[bare(1)],
    );
    assert_eq!(
        full,
        "no node fits: host1 lacks memory (need 9GiB, 8GiB free of 8GiB)"
    );
    // A node that cannot be reached cannot give it either.
    let down = Verdict::Down {
        reason: "refused".to_owned(),
    };
    let lost = Candidate {
        verdict: down,
        ..host(2)
    };
    assert_eq!(place(&bring, &[bare(1), lost]), Err(missing));
    // A node that takes no work can.
    let paused = Candidate {
        availability: Availability::Pause,
        ..host(2)
    };
    let brought = place(&bring, &[bare(1), paused.clone()]).expect("fits");
    assert_eq!((brought.name.as_str(), brought.has_image), ("host1", false));
    assert_eq!(
        refused(&request(), &[bare(1), paused]),
        "no node fits: host1 lacks image alpine; host2 is paused"
    );
}

#[test]
fn no_container_gets_more_than_a_machine_has() {
    let twice = |number, claimed| Candidate {
        capacity: Resources::new(8_000_000_000, 16 * GIB),
        claimed,
        ..host(number)
    };
    let large = Candidate {
        machine: Resources::new(8_000_000_000, 8 * GIB),
        ..twice(2, Resources::new(2_000_000_000, 0))
    };
    let request = Request {
        claim: Resources::new(5_000_000_000, 0),
        ..request()
    };
    let empty = twice(1, Resources::ZERO);
    assert_eq!(chosen(&request, &[empty.clone(), large]), "host2");
    assert_eq!(
        refused(&request, &[empty]),
        "no node fits: host1 lacks CPU (need 5 CPUs, 4 free of 4)"
    );
    // What is left is said where that is lacking.
    let half_full = Candidate {
        claimed: Resources::new(2_000_000_000, 0),
        ..host(1)
    };
    assert_eq!(
        refused(&request, &[half_full]),
        "no node fits: host1 lacks CPU (need 5 CPUs, 2 free of 4)"
    );
}

#[test]
fn a_machine_runs_what_was_made_for_its_older_kind() {
    let check = |asked: &str, on: &str, expected: bool| {
        let request = Request {
            platform: Some(linux(asked)),
            ..request()
        };
        let node = Candidate {
            platform: Some(linux(on)),
            ..host(1)
        };
        assert_eq!(
            place(&request, &[node]).is_ok(),
            expected,
            "{asked} on {on}"
        );
    };
    check("386", "amd64", true);
    check("arm", "arm64", true);
    check("amd64", "386", false);
    check("arm64", "arm", false);
    check("386", "arm64", false);
}

#[test]
fn an_image_is_brought_to_nodes_of_its_platform_only() {
    let bring = Request {
        bring_image: true,
        ..request()
    };
    let arm = Candidate {
        platform: Some(linux("arm64")),
        has_image: false,
        ..host(1)
    };
    let full = with_free_memory(2, 0);
    let asked = Request {
        claim: Resources::new(0, GIB),
        ..bring
    };
    assert_eq!(
        refused(&asked, &[arm.clone(), full.clone()]),
        "no node fits: host1 lacks image alpine; host2 lacks memory (need 1GiB, 0B free of 8GiB)"
    );
    let bare = Candidate {
        has_image: false,
        ..host(3)
    };
    // The one that has it need not take the container itself.
    assert_eq!(chosen(&asked, &[arm, full, bare]), "host3");
}

#[test]
fn a_container_that_claims_nothing_fits_where_nothing_is_left() {
    assert_eq!(chosen(&request(), &[with_free_memory(1, 0)]), "host1");
}

/// `container==web ON 1 2`, with `!` and `~` as in affinities.
fn near(text: &str) -> Near {
    let (text, on) = text.split_once(" ON").expect("nodes");
    Near {
        text: text.to_owned(),
        negated: text.contains("!="),
        soft: text.contains("=~"),
        nodes: on
            .split_whitespace()
            .map(|number| node(number.parse().expect("a number")))
            .collect(),
    }
}

fn with_affinities(texts: &[&str]) -> Request {
    Request {
        affinities: texts.iter().map(|text| near(text)).collect(),
        ..request()
    }
}

#[test]
fn affinities_join_and_part() {
    let nodes = [host(1), host(2), host(3)];
    let check = |texts: &[&str], expected: &str| {
        let said = match place(&with_affinities(texts), &nodes) {
            Ok(chosen) => chosen.name.to_string(),
            Err(refusal) => refusal.to_string(),
        };
        assert_eq!(said, expected, "{texts:?}");
    };
    check(&["container==web ON 2"], "host2");
    check(&["container!=web ON 1"], "host2");
    check(&["container!=web ON 1 2", "tier==front ON 1 3"], "host3");
    check(&["container==~web ON 3"], "host3");
    check(&["container==~web ON"], "host1");
    check(&["container!=~web ON 1 2 3", "tier==~front ON 3"], "host3");
    check(
        &["container==web ON"],
        "no node fits: host1, host2, host3 excluded by affinity container==web (have nothing of the kind)",
    );
    check(
        &["container!=web ON 1", "image==x ON 1 3", "tier!=front ON 3"],
        "no node fits: host1 excluded by affinity container!=web (has it); host2 excluded by affinity image==x \
         (has nothing of the kind); host3 excluded by affinity tier!=front (has it)",
    );
}

#[test]
fn a_node_takes_no_more_containers_than_it_has_slots() {
    let slotted = |number, containers| Candidate {
        containers,
        slots: Some(2),
        ..host(number)
    };
    assert_eq!(chosen(&request(), &[slotted(1, 2), slotted(2, 1)]), "host2");
    assert_eq!(
        refused(&request(), &[slotted(1, 2)]),
        "no node fits: host1 has all of its 2 slots taken"
    );
    assert_eq!(
        refused(&request(), &[slotted(1, 2), slotted(2, 3)]),
        "no node fits: host1, host2 have all of their 2 slots taken"
    );
}

#[test]
fn an_engine_too_old_for_a_field_does_not_get_it() {
    let old = |number| Candidate {
        newest_api: Some(ApiVersion::new(1, 41)),
        ..host(number)
    };
    let asked = Request {
        features: vec![Feature {
            field: "VolumeOptions.Subpath",
            since: ApiVersion::new(1, 45),
        }],
        ..request()
    };
    assert_eq!(chosen(&request(), &[old(1), host(2)]), "host1");
    assert_eq!(chosen(&asked, &[old(1), host(2)]), "host2");
    assert_eq!(
        refused(&asked, &[old(1)]),
        "no node fits: host1 speaks API 1.41 at most, and VolumeOptions.Subpath needs 1.45"
    );
    assert_eq!(
        refused(&asked, &[old(1), old(2)]),
        "no node fits: host1, host2 speak API 1.41 at most, and VolumeOptions.Subpath needs 1.45"
    );
}

#[test]
fn a_decision_says_how_each_node_stood() {
    let asked = Request {
        claim: Resources::new(0, GIB),
        ..constrained(&["zone!=c", "zone==~b"])
    };
    let roomy = Candidate {
        claimed: Resources::new(0, GIB),
        ..in_zone(1, "b")
    };
    let decision = decide(
        &asked,
        &[in_zone(3, "c"), in_zone(2, "a"), roomy, in_zone(4, "b")],
    );
    let best: Vec<_> = decision
        .best
        .iter()
        .map(|standing| {
            format!(
                "{} {} {}",
                standing.node, standing.broken, standing.left_per_mille
            )
        })
        .collect();
    assert_eq!(best, ["host4 0 875", "host1 0 750", "host2 1 875"]);
    assert_eq!((decision.candidates, decision.fit), (4, 3));
    assert_eq!(
        decision.why_not(),
        ["host3 excluded by constraint zone!=c (zone is c)"]
    );
}

#[test]
fn the_best_fit_is_left_with_least() {
    let check = |free: &[u64], expected: &str| {
        let nodes = (1..).zip(free);
        let nodes: Vec<_> = nodes
            .map(|(number, free)| with_free_memory(number, free * GIB))
            .collect();
        let asked = Request {
            claim: Resources::new(0, 2 * GIB),
            ..request()
        };
        let found = match best_fit(&asked, &nodes) {
            Ok(node) => node.name.to_string(),
            Err(why) => why.to_string(),
        };
        assert_eq!(found, expected, "{free:?}");
    };
    check(&[4, 3, 8], "host2");
    check(&[3, 3], "host1");
    check(&[1, 8], "host2");
    check(
        &[1, 1],
        "no node fits: host1, host2 lack memory (need 2GiB; 1GiB, 1GiB free of 8GiB)",
    );
}

#[test]
fn a_ledger_gives_back_what_it_held() {
    let asked = Request {
        claim: Resources::new(0, 5 * GIB),
        ..request()
    };
    let mut ledger = Ledger::new(vec![host(1), host(2)]);
    let first = ledger.place(&asked, "a").expect("fits");
    ledger.place(&asked, "b").expect("fits");
    assert!(ledger.place(&asked, "c").is_err());
    ledger.give_back(first.node, &asked);
    assert_eq!(ledger.place(&asked, "c"), Ok(first));
}
