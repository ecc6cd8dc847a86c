//! Networks: what binds them, and who joins and leaves.

use std::collections::BTreeSet;

use super::*;

#[test]
fn a_network_goes_where_its_first_container_goes() {
    let mut world = World::new();
    let (name, spec) = ("front".to_owned(), "{}".to_owned());
    world.ok(Command::AddNetwork {
        network: network(1),
        name: name.clone(),
        spec: spec.clone(),
        group: None,
        node: None,
    });
    let twin = Command::AddNetwork {
        network: network(2),
        name,
        spec,
        group: None,
        node: None,
    };
    assert_eq!(
        world.refused(twin),
        "the network name front is held by another network"
    );
    let with = |number: u8, on| {
        let networks = vec![network(1)];
        Command::Reserve(Promise {
            networks,
            ..promise(number, &format!("c{number}"), on)
        })
    };
    world.ok(with(1, 1));
    assert_eq!(
        world.refused(with(2, 2)),
        "network front is on node host1, not on node host2: a network of one host reaches no \
         other, and stays where it is as long as containers join it"
    );
    let realise = |on| Command::RealiseNetwork {
        network: network(1),
        node: node(on),
        engine_id: network(7),
    };
    world.ok(realise(1));
    assert!(
        world
            .refused(realise(2))
            .starts_with("network front is on node host1")
    );
    let remove = Command::BeginRemoveNetwork {
        network: network(1),
    };
    assert_eq!(
        world.refused(remove.clone()),
        "network front has 1 container"
    );
    world.ok(Command::Remove {
        request: request(1),
    });
    let realised = |world: &World| {
        let front = world.cluster.network(network(1)).expect("there");
        front.realised.clone()
    };
    assert_eq!(realised(&world), Realised::Unbound);
    assert_eq!(
        world.refused(realise(1)),
        "network front is not bound to node host1"
    );
    world.ok(with(2, 2));
    assert_eq!(
        realised(&world),
        Realised::On {
            node: node(2),
            engine_id: None
        }
    );
    world.ok(Command::Remove {
        request: request(2),
    });
    world.ok(remove);
    assert_eq!(world.refused(with(3, 2)), "network front is being removed");
    world.ok(Command::RemoveNetwork {
        network: network(1),
        at_rest: BTreeSet::new(),
    });
}

fn add_network(number: u8, on: Option<u8>, group: Option<&str>) -> Command {
    Command::AddNetwork {
        network: network(number),
        name: format!("n{number}"),
        spec: "{}".to_owned(),
        group: group.map(str::to_owned),
        node: on.map(node),
    }
}

#[test]
fn a_network_is_joined_and_left_later_too() {
    let mut world = World::new();
    world.ok(add_network(1, None, None));
    for (number, on) in [(1, 1), (2, 2)] {
        world.ok(Command::Reserve(promise(number, &format!("c{number}"), on)));
    }
    let join = |number| Command::JoinNetwork {
        request: request(number),
        network: network(1),
    };
    let leave = |number| Command::LeaveNetwork {
        request: request(number),
        network: network(1),
    };
    let on = |world: &World| world.cluster.network(network(1)).and_then(|n| n.node());
    world.ok(join(1));
    assert_eq!(on(&world), Some(node(1)));
    assert!(
        world
            .refused(join(2))
            .contains("is on node host1, not on node host2")
    );
    world.ok(leave(1));
    assert_eq!(on(&world), None);
    world.ok(join(2));
    assert_eq!(on(&world), Some(node(2)));
    assert!(
        world
            .refused(Command::RemoveNetwork {
                network: network(1),
                at_rest: BTreeSet::new(),
            })
            .contains("has 1 container")
    );
}

#[test]
fn a_network_goes_from_containers_that_do_not_run() {
    let mut world = World::new();
    world.ok(add_network(1, None, None));
    for number in [1, 2] {
        world.ok(Command::Reserve(Promise {
            networks: vec![network(1)],
            ..promise(number, &format!("c{number}"), 1)
        }));
    }
    let remove = |at_rest: &[u8]| Command::RemoveNetwork {
        network: network(1),
        at_rest: at_rest.iter().map(|number| request(*number)).collect(),
    };
    assert!(world.refused(remove(&[1])).contains("has 2 containers"));
    // Of one that never joined it nothing follows.
    assert!(world.refused(remove(&[1, 3])).contains("has 2 containers"));
    world.ok(remove(&[1, 2, 3]));
    assert!(world.cluster.network(network(1)).is_none());
    for number in [1, 2] {
        let placement = world.cluster.placement(request(number)).expect("there");
        assert!(placement.networks.is_empty());
    }
    // Nothing is left of it in the way of the next one.
    world.ok(add_network(1, None, None));
    assert_eq!(world.cluster.network_users(network(1)), 0);
}

#[test]
fn a_container_is_cut_off_from_a_network_when_its_node_is_back() {
    let mut world = World::new();
    world.ok(add_network(1, None, None));
    let with = |number: u8, on| {
        Command::Reserve(Promise {
            networks: vec![network(1)],
            ..promise(number, &format!("c{number}"), on)
        })
    };
    let (request, network) = (request(1), network(1));
    let remove = |number: u8| Command::Remove {
        request: self::request(number),
    };
    let later = || Command::LeaveNetworkLater { request, network };
    let settle = || Command::SettleLeave { request, network };
    let lists = |world: &World| {
        let placement = world.cluster.placement(request).expect("there");
        (placement.networks.len(), placement.leaving.len())
    };
    world.ok(with(1, 1));
    world.ok(down(1));
    world.ok(later());
    assert_eq!(lists(&world), (0, 1));
    // It binds the network no more, which may go elsewhere, or go.
    world.ok(with(2, 2));
    world.ok(remove(2));
    world.ok(Command::RemoveNetwork {
        network,
        at_rest: BTreeSet::new(),
    });
    assert_eq!(lists(&world), (0, 1));
    world.ok(settle());
    assert_eq!(lists(&world), (0, 0));
    // It has never joined this one.
    world.ok(add_network(1, None, None));
    world.ok(later());
    assert_eq!(lists(&world), (0, 0));
    // What is connected anew is not cut off.
    world.ok(Command::JoinNetwork { request, network });
    world.ok(later());
    world.ok(Command::JoinNetwork { request, network });
    assert_eq!(lists(&world), (1, 0));
    world.ok(settle());
    assert_eq!(lists(&world), (1, 0));
}

#[test]
fn a_network_whose_user_named_a_node_stays_there() {
    let mut world = World::new();
    world.ok(add_network(1, Some(1), None));
    let with = |number: u8, on| {
        Command::Reserve(Promise {
            networks: vec![network(1)],
            ..promise(number, &format!("c{number}"), on)
        })
    };
    assert!(world.refused(with(1, 2)).contains("is on node host1"));
    world.ok(with(1, 1));
    world.ok(Command::Remove {
        request: request(1),
    });
    let on = |world: &World| world.cluster.network(network(1)).and_then(|n| n.node());
    assert_eq!(on(&world), Some(node(1)));
    // A node that leaves takes its promise with it, not the network.
    world.ok(Command::RemoveNode {
        node: node(1),
        force: false,
    });
    assert_eq!(on(&world), None);
    world.ok(with(2, 2));
    world.ok(Command::RemoveNode {
        node: node(2),
        force: true,
    });
    assert_eq!(on(&world), None);
    assert!(
        world
            .refused(add_network(2, Some(1), None))
            .contains("there is no node")
    );
}

#[test]
fn networks_are_found_by_group_and_by_the_beginning_of_their_ids() {
    let mut world = World::new();
    for (number, group) in [(1, Some("a")), (2, Some("b")), (3, Some("a")), (4, None)] {
        world.ok(add_network(number, None, group));
    }
    let of = |world: &World, group: &str| {
        let all = world.cluster.networks_of_group(group);
        all.map(|network| network.name.clone()).collect::<Vec<_>>()
    };
    assert_eq!(of(&world, "a"), ["n1", "n3"]);
    world.ok(Command::RemoveNetwork {
        network: network(1),
        at_rest: BTreeSet::new(),
    });
    assert_eq!(of(&world, "a"), ["n3"]);
    assert!(of(&world, "").is_empty());
    let by = |prefix: &str| world.cluster.networks_by_prefix(prefix).count();
    assert_eq!((by("03"), by("0"), by("1"), by("x")), (1, 3, 0, 0));
}
