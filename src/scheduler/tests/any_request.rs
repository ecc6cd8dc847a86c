//! What must hold for any nodes and requests.

use super::*;

/// A port of one of two transports, on all addresses or one of two.
fn any_port() -> impl Generates<Value = PublishedPort> {
    let address = prop::sample::select(vec![None, None, Some("10.0.0.1"), Some("10.0.0.2")]);
    let protocol = prop::sample::select(vec![Protocol::Tcp, Protocol::Tcp, Protocol::Udp]);
    (protocol, address, 80u16..83).prop_map(|(protocol, address, number)| PublishedPort {
        protocol,
        address: address.map(|text| text.parse().expect("an address")),
        number,
    })
}

/// One of two API versions, which differ in what they know.
fn any_api() -> impl Generates<Value = ApiVersion> {
    prop::sample::select(vec![ApiVersion::new(1, 44), ApiVersion::new(1, 48)])
}

fn any_candidate() -> impl Generates<Value = Candidate> {
    let verdict = prop_oneof![
        4 => Just(Verdict::Ready),
        1 => Just(Verdict::Joining),
        1 => Just(Verdict::Down { reason: "refused".to_owned() }),
    ];
    let availability = prop_oneof![
        4 => Just(Availability::Active),
        1 => Just(Availability::Pause),
        1 => Just(Availability::Drain),
    ];
    let flags = (
        any::<bool>(),
        prop::bool::weighted(0.8),
        prop::bool::weighted(0.6),
    );
    let taken = prop::collection::vec(any_port(), 0..3);
    let arch = prop_oneof![4 => Just("amd64"), 1 => Just("arm64"), 1 => Just("386")];
    let gpus = (prop::option::of(0u64..3), 0u32..3);
    let slots = prop::option::weighted(0.5, 0u32..4);
    let of_engine = (slots, any_api());
    let machine = 2u64..6;
    let amounts = (
        0u64..5,
        0u64..5,
        0u64..3,
        0u32..3,
        (gpus, of_engine, machine),
    );
    let zone = prop_oneof![Just("a"), Just("b"), Just("")];
    (verdict, availability, flags, taken, (arch, zone), amounts).prop_map(
        |(verdict, availability, (suspect, counted, has_image), taken, (arch, zone), amounts)| {
            let (capacity, claimed, unmanaged, containers, (gpus, of_engine, machine)) = amounts;
            let ((gpus, used), (slots, newest_api)) = (gpus, of_engine);
            let both = |amount| Resources::new(amount * 1_000_000_000, amount * GIB);
            let stated = gpus.map(|gpus| ("gpu", gpus)).into_iter().collect();
            let mut stock = Stock::new(stated, Taken::default());
            stock.take(&self::gpus(Amount::Count(used)));
            Candidate {
                stock,
                verdict,
                suspect,
                availability,
                counted,
                platform: Some(linux(arch)),
                machine: both(machine),
                capacity: both(capacity),
                claimed: both(claimed),
                unmanaged: both(unmanaged),
                containers,
                has_image,
                taken: taken
                    .into_iter()
                    .map(|port| TakenPort {
                        port,
                        by: "web".to_owned(),
                    })
                    .collect(),
                slots,
                newest_api: Some(newest_api),
                ..in_zone(0, zone)
            }
        },
    )
}

fn any_candidates() -> impl Generates<Value = Vec<Candidate>> {
    prop::collection::vec(any_candidate(), 0..6).prop_map(|mut candidates| {
        for (number, candidate) in (1..).zip(&mut candidates) {
            candidate.node = node(number);
            candidate.name = format!("host{number}").parse().expect("valid");
        }
        candidates
    })
}

fn any_request() -> impl Generates<Value = Request> {
    let pins = prop::collection::vec(prop::collection::btree_set(1u8..6, 1..5), 0..2);
    let arch = prop_oneof![Just("amd64"), Just("arm64"), Just("386")];
    let arch = prop::option::weighted(0.2, arch);
    let ports = prop::collection::vec(any_port(), 0..3);
    let features = prop::collection::vec(any_api(), 0..2);
    let zones = ["zone==a", "zone!=a", "zone==~b", "zone!=~b", "node!=host2"];
    let constraints = prop::collection::vec(prop::sample::select(zones.to_vec()), 0..3);
    let affinities = ["a==1 ON 1 3", "a!=1 ON 2 4", "a==~1 ON 2", "a!=~1 ON 1"];
    let affinities = prop::collection::vec(prop::sample::select(affinities.to_vec()), 0..2);
    let strategies = [Strategy::Spread, Strategy::Binpack, Strategy::Random];
    let strategy = (prop::sample::select(strategies.to_vec()), any::<u64>());
    let amounts = [
        Amount::Count(0),
        Amount::Count(0),
        Amount::Count(1),
        Amount::Count(2),
        Amount::All,
    ];
    let amount = prop::sample::select(amounts.to_vec());
    (
        0u64..4,
        0u64..4,
        ports,
        any::<bool>(),
        arch,
        (pins, constraints, affinities, strategy, amount, features),
    )
        .prop_map(
            |(
                cpus,
                gib,
                ports,
                bring_image,
                arch,
                (pins, constraints, affinities, (strategy, seed), amount, features),
            )| Request {
                features: features
                    .into_iter()
                    .map(|since| Feature {
                        field: "a field",
                        since,
                    })
                    .collect(),
                generic: gpus(amount),
                affinities: affinities.iter().map(|text| near(text)).collect(),
                strategy,
                seed,
                claim: Resources::new(cpus * 1_000_000_000, gib * GIB),
                ports,
                bring_image,
                platform: arch.map(linux),
                pins: pins
                    .into_iter()
                    .map(|nodes| Pin {
                        nodes: nodes.into_iter().map(node).collect(),
                        why: "a pin".to_owned(),
                    })
                    .collect(),
                ..constrained(&constraints)
            },
        )
}

/// The rules once more, as one condition.
fn may_run(request: &Request, on: &Candidate, all: &[Candidate]) -> bool {
    let sum = |get: fn(&Resources) -> u64| (get(&on.claimed) + get(&on.unmanaged), get);
    let room = [
        sum(|amount| amount.cpu_nanos),
        sum(|amount| amount.memory_bytes),
    ]
    .iter()
    .all(|(used, get)| {
        let need = get(&request.claim);
        need == 0 || used + need <= get(&on.capacity) && need <= get(&on.machine)
    });
    let image = on.has_image
        || request.bring_image
            && all.iter().any(|other| {
                other.has_image && other.verdict == Verdict::Ready && other.platform == on.platform
            });
    let gpus = on
        .stock
        .left("gpu")
        .map_or((0, 0), |left| (left.free, left.of));
    let gpus = request.generic.iter().all(|(_, amount)| match amount {
        Amount::Count(count) => gpus.0 >= count.into(),
        Amount::All => gpus.1 > 0 && gpus.0 == gpus.1,
    });
    on.verdict == Verdict::Ready
        && on.availability == Availability::Active
        && on.counted
        && gpus
        && platform_fits(request, on)
        && request
            .features
            .iter()
            .all(|feature| on.newest_api.is_some_and(|speaks| speaks >= feature.since))
        && request.pins.iter().all(|pin| pin.nodes.contains(&on.node))
        && request
            .constraints
            .iter()
            .all(|constraint| meets(&constraint.to_string(), on))
        && request
            .ports
            .iter()
            .all(|port| !on.taken.iter().any(|taken| collide(port, &taken.port)))
        && request
            .affinities
            .iter()
            .all(|near| near.soft || near.negated != near.nodes.contains(&on.node))
        && on.slots.is_none_or(|slots| slots > on.containers)
        && room
        && image
}

fn platform_fits(request: &Request, on: &Candidate) -> bool {
    let arch = |platform: &Option<Platform>| platform.as_ref().map(|it| it.arch.clone());
    match (
        arch(&request.platform).as_deref(),
        arch(&on.platform).as_deref(),
    ) {
        (None, _) | (Some("386"), Some("amd64" | "386")) => true,
        (asked, has) => asked == has,
    }
}

/// Whether one host cannot listen on both: an address is part of all.
fn collide(one: &PublishedPort, other: &PublishedPort) -> bool {
    let addresses_meet = match (one.address, other.address) {
        (Some(one), Some(other)) => one == other,
        (None, _) | (_, None) => true,
    };
    one.protocol == other.protocol && one.number == other.number && addresses_meet
}

/// The constraints of these tests once more, a soft one being always met.
fn meets(constraint: &str, on: &Candidate) -> bool {
    let zone = on.traits.node_labels.get("zone").map(String::as_str);
    match constraint {
        "zone==a" => zone == Some("a"),
        "zone!=a" => zone != Some("a"),
        "node!=host2" => on.name.as_str() != "host2",
        _ => true,
    }
}

/// How many of the soft ones a node does not meet.
fn gives_way(request: &Request, on: &Candidate) -> usize {
    let zone = on.traits.node_labels.get("zone").map(String::as_str);
    let broken = |constraint: &&Constraint| match constraint.to_string().as_str() {
        "zone==~b" => zone != Some("b"),
        "zone!=~b" => zone == Some("b"),
        _ => false,
    };
    let unmet = |near: &&Near| near.soft && near.negated == near.nodes.contains(&on.node);
    let affinities = request.affinities.iter().filter(unmet).count();
    request.constraints.iter().filter(broken).count() + affinities
}

proptest! {
    #[test]
    fn it_chooses_what_may_run_and_refuses_only_when_nothing_may(
        request in any_request(),
        candidates in any_candidates(),
    ) {
        let answer = place(&request, &candidates);
        let decision = decide(&request, &candidates);
        prop_assert_eq!(&decision.outcome, &answer);
        prop_assert_eq!(decision.fit + decision.unfit.len(), candidates.len(), "each node is in one of both");
        if let Ok(chosen) = &answer {
            prop_assert_eq!(&decision.best[0].node, &chosen.name);
        }
        let mut ledger = Ledger::new(candidates.clone());
        prop_assert_eq!(&ledger.place(&request, "it"), &answer, "the ledger chooses the same");
        for node in ledger.nodes() {
            let was = candidates.iter().find(|on| on.node == node.node).expect("one of them");
            let chosen = answer.as_ref().is_ok_and(|chosen| chosen.node == node.node);
            let held = if chosen { request.claim } else { Resources::ZERO };
            prop_assert_eq!(node.claimed, was.claimed.saturating_add(held));
            prop_assert_eq!(node.free(), ledger.node(node.node).expect("there").free());
        }
        let mut reversed = candidates.clone();
        reversed.reverse();
        prop_assert_eq!(&answer, &place(&request, &reversed), "the order does not matter");
        let fits: Vec<_> =
            candidates.iter().filter(|on| may_run(&request, on, &candidates)).collect();
        match answer {
            Ok(chosen) => {
                let chosen = fits.iter().find(|on| on.node == chosen.node);
                prop_assert!(chosen.is_some(), "chosen, but must not run there");
                if let Some(chosen) = chosen {
                    prop_assert!(!chosen.suspect || fits.iter().all(|on| on.suspect));
                    let as_good = |on: &&&Candidate| on.suspect == chosen.suspect;
                    let least = fits.iter().filter(as_good).map(|on| gives_way(&request, on)).min();
                    prop_assert_eq!(Some(gives_way(&request, chosen)), least);
                }
            }
            Err(Refusal::NoNodeFits(unfit)) => {
                prop_assert!(fits.is_empty());
                prop_assert_eq!(unfit.len(), candidates.len(), "every node is named");
            }
            Err(Refusal::NoImage { .. }) => {
                prop_assert!(fits.is_empty());
                let with_image = candidates
                    .iter()
                    .map(|on| Candidate { has_image: true, ..on.clone() })
                    .collect::<Vec<_>>();
                prop_assert!(place(&request, &with_image).is_ok(), "a pull must help");
            }
        }
    }
}
