//! Which of the nodes that fit is the best.

use super::*;

#[test]
fn spread_takes_the_node_with_most_left_of_what_is_scarcer() {
    let claimed = |number, cpu, memory| Candidate {
        claimed: Resources::new(cpu, memory),
        ..host(number)
    };
    // Half the memory is gone on one, a quarter of the CPU on the other.
    let nodes = [claimed(1, 0, 4 * GIB), claimed(2, 1_000_000_000, 0)];
    assert_eq!(chosen(&request(), &nodes), "host2");
    let unmanaged = Candidate {
        unmanaged: Resources::new(0, GIB),
        ..host(1)
    };
    assert_eq!(chosen(&request(), &[unmanaged, host(2)]), "host2");
    let large = Candidate {
        capacity: Resources::new(64_000_000_000, 64 * GIB),
        ..host(2)
    };
    let ask = Request {
        claim: Resources::new(0, GIB),
        ..request()
    };
    assert_eq!(chosen(&ask, &[host(1), large]), "host2");
}

#[test]
fn what_states_nothing_is_spread_over_all() {
    let claimed = |number, memory| Candidate {
        claimed: Resources::new(0, memory),
        ..host(number)
    };
    // Nobody is left with all of them because the others have a little less to give.
    let mut ledger = Ledger::new(vec![claimed(1, GIB), claimed(2, GIB), host(3)]);
    for turn in 0..30 {
        ledger.place(&request(), &turn.to_string()).expect("fits");
    }
    let counts: Vec<_> = ledger.nodes().iter().map(|node| node.containers).collect();
    assert_eq!(counts, [9, 8, 13]);
    // Of nodes that are full of such, too.
    let crowded = |number, containers| Candidate {
        containers,
        ..host(number)
    };
    let nodes = [crowded(1, 300), crowded(2, 299), crowded(3, 301)];
    assert_eq!(chosen(&request(), &nodes), "host2");
}

#[test]
fn ties_go_to_fewer_containers_then_the_image_then_the_id() {
    let busy = Candidate {
        containers: 3,
        ..host(1)
    };
    let bare = Candidate {
        has_image: false,
        ..host(2)
    };
    let bring = Request {
        bring_image: true,
        ..request()
    };
    assert_eq!(chosen(&bring, &[busy.clone(), bare.clone()]), "host2");
    assert_eq!(chosen(&bring, &[bare, host(3)]), "host3");
    assert_eq!(chosen(&bring, &[host(4), host(3)]), "host3");
    // One that did not answer just now comes last, whatever it has left.
    let suspect = Candidate {
        suspect: true,
        ..host(2)
    };
    assert_eq!(chosen(&bring, &[suspect.clone(), busy]), "host1");
    assert_eq!(chosen(&bring, &[suspect]), "host2");
}

fn strategic(strategy: Strategy, claim: Resources) -> Request {
    Request {
        strategy,
        claim,
        ..request()
    }
}

#[test]
fn binpack_takes_the_node_with_least_left_that_still_fits() {
    let pack = |gib| strategic(Strategy::Binpack, Resources::new(0, gib * GIB));
    let nodes = [
        with_free_memory(1, 8 * GIB),
        with_free_memory(2, 3 * GIB),
        with_free_memory(3, 5 * GIB),
    ];
    assert_eq!(chosen(&pack(1), &nodes), "host2");
    assert_eq!(chosen(&pack(4), &nodes), "host3");
    assert_eq!(chosen(&pack(6), &nodes), "host1");
    assert_eq!(chosen(&pack(0), &nodes), "host2");
    // Of equal ones the one with more containers, then the one with the image, then the smaller id.
    let busy = Candidate {
        containers: 1,
        ..host(3)
    };
    let bare = Candidate {
        has_image: false,
        ..host(1)
    };
    let bring = Request {
        bring_image: true,
        ..pack(1)
    };
    assert_eq!(chosen(&bring, &[host(2), busy]), "host3");
    assert_eq!(chosen(&bring, &[bare, host(2)]), "host2");
    assert_eq!(chosen(&bring, &[host(5), host(4)]), "host4");
}

#[test]
fn random_takes_any_node_and_the_same_for_the_same_seed() {
    let nodes: Vec<_> = (1..=4).map(host).collect();
    let seeded = |seed| Request {
        seed,
        ..strategic(Strategy::Random, Resources::ZERO)
    };
    let mut times = BTreeMap::new();
    for seed in 0..400 {
        let name = chosen(&seeded(seed), &nodes);
        assert_eq!(name, chosen(&seeded(seed), &nodes));
        *times.entry(name).or_insert(0) += 1;
    }
    assert!(
        times.len() == 4 && times.values().all(|times| *times > 60),
        "{times:?}"
    );
}

#[test]
fn strategies_are_read_by_their_names() {
    for strategy in [Strategy::Spread, Strategy::Binpack, Strategy::Random] {
        assert_eq!(strategy.to_string().parse(), Ok(strategy));
    }
    let said = "most".parse::<Strategy>().expect_err("none").to_string();
    assert_eq!(
        said,
        "`most` is no strategy: it is spread, binpack or random"
    );
}
