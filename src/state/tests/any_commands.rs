//! What must hold for any commands.

use super::images::defer_image;
use super::volumes::{asked, remove_volume};
use super::*;

#[test]
fn twenty_thousand_placements_cost_no_more_each_than_one() {
    let mut world = World::new();
    let mut reserve = |number: u32| {
        let mut id = [0; 16];
        id[..4].copy_from_slice(&number.to_be_bytes());
        let promise = Promise {
            request: RequestId::from_bytes(id),
            claim: Resources::new(1, 1),
            volumes: vec![format!("v{number}")],
            ..promise(0, &format!("c{number}"), 1)
        };
        let command = Command::Reserve(promise);
        let envelope = Envelope::new(request(0), Caller::local(), second(0), command);
        // A view is taken after each, as the store does.
        let view = world.cluster.clone();
        world.cluster.apply(envelope).expect("accepted");
        drop(view);
    };
    // The best of many short rounds: whatever else the machine does has no part in it.
    let mut best = |from: u32, rounds: u32| {
        let round = |round| {
            let start = crate::clock::instant();
            (0..50).for_each(|step| reserve(from + round * 50 + step));
            start.elapsed()
        };
        (0..rounds).map(round).min().expect("some rounds")
    };
    let first = best(0, 20);
    best(1_000, 360);
    let last = best(19_000, 20);
    // A scan would make the last at least twenty times as slow; trees make them a little slower.
    assert!(last < first * 8, "{last:?} after {first:?}");
    assert_eq!(world.cluster.totals(node(1)).placements, 20_000);
}

fn any_promise() -> impl Strategy<Value = Promise> {
    let ports = prop::collection::vec((0u16..3, 0usize..3), 0..2);
    let lists = (
        (ports, 0u64..3),
        prop::collection::vec(0u8..3, 0..2),
        prop::collection::vec(0u8..3, 0..2),
    );
    (0u8..12, 0u8..6, 0u8..4, 0u64..5, lists).prop_map(|(id, name, on, gib, lists)| {
        let ((ports, gpus), networks, volumes) = lists;
        let origins = [PortOrigin::Asked, PortOrigin::Chosen, PortOrigin::Exposed];
        Promise {
            claim: Resources::new(gib * 500_000_000, gib * GIB),
            ports: ports
                .into_iter()
                .map(|(at, origin)| port(80 + at, origins[origin]))
                .collect(),
            generic: [("gpu", gpus)].into_iter().collect(),
            networks: networks.into_iter().map(network).collect(),
            volumes: volumes
                .into_iter()
                .map(|number| format!("v{number}"))
                .collect(),
            replaces: (name % 2 == 0).then(|| request((id + 1) % 12)),
            ..promise(id, &format!("c{name}"), on)
        }
    })
}

fn any_command() -> impl Strategy<Value = Command> {
    let id = || (0u8..12).prop_map(request);
    let on = || (0u8..4).prop_map(node);
    let net = || (0u8..3).prop_map(network);
    prop_oneof![
        8 => any_promise().prop_map(Command::Reserve),
        4 => (any_promise(), 0u8..12, any::<bool>()).prop_map(|(promise, number, claiming)| {
            Command::Adopt { promise, container: container(number), claiming }
        }),
        4 => (id(), 0u8..12).prop_map(|(request, number)| {
            Command::Bind { request, container: container(number) }
        }),
        2 => id().prop_map(|request| Command::Release { request }),
        2 => id().prop_map(|request| Command::Remove { request }),
        1 => id().prop_map(|request| Command::Settle { request }),
        2 => (id(), 0u8..6).prop_map(|(request, name)| {
            Command::BeginRename { request, new_name: format!("c{name}") }
        }),
        2 => (id(), any::<bool>()).prop_map(|(request, new)| {
            Command::EndRename { request, keep: if new { Keep::New } else { Keep::Old } }
        }),
        1 => (id(), 0u64..9).prop_map(|(request, gib)| {
            Command::SetClaim { request, claim: Resources::new(0, gib * GIB), observed: gib % 2 == 0 }
        }),
        1 => (0u8..3, on()).prop_map(|(image, node)| defer_image(&format!("it:{image}"), &[node])),
        1 => (0u8..3, on()).prop_map(|(image, node)| {
            Command::SettleImage { image: format!("it:{image}"), node }
        }),
        1 => (id(), 0u64..3).prop_map(|(request, gpus)| {
            Command::SetGeneric { request, generic: [("gpu", gpus)].into_iter().collect() }
        }),
        4 => (id(), 1u32..3).prop_map(|(request, run)| Command::Exited { request, run }),
        3 => (id(), any::<bool>()).prop_map(|(request, running)| {
            Command::Reclaim { request, running }
        }),
        1 => (0u8..4).prop_map(add_node),
        1 => (0u8..4, 1u64..9).prop_map(|(number, gib)| {
            report(number, Resources::new(4_000_000_000, gib * GIB))
        }),
        3 => (0u8..3, prop::option::of(on()), any::<bool>(), 0u8..3).prop_map(|(name, on, made, kind)| {
            let kind = ["", "shared", "per-node"][usize::from(kind)];
            let spec = asked(&format!("v{name}"), &[("com.flotilla.volume", kind)]);
            Command::AddVolume { spec, on, made }
        }),
        3 => (0u8..3, prop::option::of(0u8..4), prop::option::of(0u8..4)).prop_map(|(name, on, due)| {
            remove_volume(&format!("v{name}"), on, due.as_slice())
        }),
        1 => (0u8..3, on()).prop_map(|(name, node)| {
            Command::SettleVolume { name: format!("v{name}"), node }
        }),
        2 => on().prop_map(|node| Command::JudgeReady { node }),
        1 => (0u8..4).prop_map(down),
        1 => (on(), any::<bool>()).prop_map(|(node, force)| Command::RemoveNode { node, force }),
        1 => (on(), 0u8..4).prop_map(|(node, name)| Command::UpdateNode {
            address: None,
            node,
            name: Some(format!("host{name}").parse().expect("valid")),
            availability: Some(Availability::Active),
            labels: None,
        }),
        1 => (net(), 0u8..3, prop::option::weighted(0.2, on())).prop_map(|(network, name, node)| {
            let group = (name > 0).then(|| "group".to_owned());
            Command::AddNetwork { network, name: format!("n{name}"), spec: String::new(), group, node }
        }),
        1 => (id(), net()).prop_map(|(request, network)| Command::JoinNetwork { request, network }),
        1 => (id(), net()).prop_map(|(request, network)| Command::LeaveNetwork { request, network }),
        1 => (id(), net()).prop_map(|(request, network)| Command::LeaveNetworkLater { request, network }),
        1 => (id(), net()).prop_map(|(request, network)| Command::SettleLeave { request, network }),
        1 => (net(), on()).prop_map(|(id, node)| {
            Command::RealiseNetwork { network: id, node, engine_id: network(9) }
        }),
        1 => net().prop_map(|network| Command::BeginRemoveNetwork { network }),
        1 => (net(), prop::collection::btree_set(id(), 0..3)).prop_map(|(network, at_rest)| {
            Command::RemoveNetwork { network, at_rest }
        }),
        1 => ("[ab]", "[xyz]").prop_map(|(tag, image)| Command::PointTag { tag, image }),
        1 => ("[ab]", "[xyz]", "[xyz]").prop_map(|(tag, image, twin)| {
            Command::NoteTwin { tag, image, twin }
        }),
        1 => "[ab]".prop_map(|tag| Command::DropTag { tag }),
    ]
}

proptest! {
    /// Whatever is commanded in whatever order: nothing breaks, a refusal changes nothing (both
    /// checked in `apply`), and a second cluster that reads the same log is the same.
    #[test]
    fn the_same_log_gives_the_same_sound_cluster(
        commands in prop::collection::vec((any_command(), 0i64..500), 1..120),
    ) {
        let mut world = World::new();
        let mut twin = world.cluster.clone();
        for (command, passed) in commands {
            world.now += passed;
            let envelope =
                Envelope::new(request(0), Caller::local(), second(world.now), command.clone());
            let bytes = envelope.encode();
            let outcome = world.apply(command);
            let twins = raft_store::Machine::apply(&mut twin, 1, &bytes);
            prop_assert_eq!(read_outcome(&twins).expect("reads"), outcome);
        }
        prop_assert!(twin == world.cluster);
        let mut restored = Cluster::new();
        let snapshot = <Cluster as raft_store::Machine>::snapshot(&world.cluster);
        let read = raft_store::Machine::restore(&mut restored, &snapshot);
        prop_assert!(read.is_ok());
        prop_assert!(restored == world.cluster);
        prop_assert!(audit(&restored).is_empty());
    }
}
