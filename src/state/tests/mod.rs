//! The cluster as those who command it see it.

mod any_commands;
mod images;
mod networks;
mod volumes;

use std::collections::BTreeMap;

use jiff::Timestamp;
use proptest::prelude::*;
use raft_store::Machine as _;

use super::*;
use crate::model::generic::Counts;
use crate::model::{
    ApiRange, Availability, Caller, EngineFacts, ManagerId, Owner, Platform, PortClaim, PortOrigin,
    Protocol, PublishedPort, Realised, Residence, VolumeSpec,
};

const GIB: u64 = 1 << 30;

fn request(number: u8) -> RequestId {
    RequestId::from_bytes([number; 16])
}

fn node(number: u8) -> NodeId {
    NodeId::from_bytes([number; 16])
}

fn network(number: u8) -> NetworkId {
    NetworkId::from_bytes([number; 32])
}

fn container(number: u8) -> ContainerId {
    ContainerId::from_bytes([number; 32])
}

fn second(number: i64) -> Timestamp {
    Timestamp::from_second(number).expect("in range")
}

fn port(number: u16, origin: PortOrigin) -> PortClaim {
    let port = PublishedPort {
        protocol: Protocol::Tcp,
        address: None,
        number,
    };
    PortClaim {
        port,
        container_port: 80,
        origin,
        group: None,
    }
}

/// A promise for request `number` with that name on node `on`, asking for nothing.
fn promise(number: u8, name: &str, on: u8) -> Promise {
    Promise {
        request: request(number),
        name: name.to_owned(),
        node: node(on),
        owner: Owner::Plain,
        claim: Resources::ZERO,
        generic: Counts::default(),
        ports: Vec::new(),
        networks: Vec::new(),
        volumes: Vec::new(),
        replaces: None,
        new_volumes: Vec::new(),
        acting: ManagerId::from_bytes([1; 16]),
        recipe: None,
    }
}

fn found() -> Command {
    let settings = Settings {
        name: "test".to_owned(),
        random_ports: RandomPorts::default(),
    };
    Command::Found {
        cluster: ClusterId::from_bytes([9; 16]),
        settings,
    }
}

fn add_node(number: u8) -> Command {
    Command::AddNode {
        node: node(number),
        name: format!("host{number}").parse().expect("valid"),
        endpoint: format!("tcp://10.0.0.{number}:2375"),
        address: None,
        labels: BTreeMap::new(),
    }
}

fn report(number: u8, capacity: Resources) -> Command {
    let version = |minor| api_compat::version::ApiVersion::new(1, minor);
    Command::ReportNode {
        node: node(number),
        engine: EngineFacts {
            engine_id: format!("engine {number}"),
            capacity,
            allocatable: None,
            generic: [("gpu", 4)].into_iter().collect(),
            platform: Platform {
                os: "linux".to_owned(),
                arch: "amd64".to_owned(),
            },
            engine_version: "28.5.2".to_owned(),
            api: ApiRange {
                min: version(24),
                max: version(51),
            },
        },
    }
}

fn down(number: u8) -> Command {
    Command::JudgeDown {
        node: node(number),
        reason: "no answer for 3s".to_owned(),
    }
}

fn exited(number: u8, run: u32) -> Command {
    Command::Exited {
        request: request(number),
        run,
    }
}

fn remove(number: u8) -> Command {
    Command::Remove {
        request: request(number),
    }
}

fn reclaim(number: u8) -> Command {
    Command::Reclaim {
        request: request(number),
        running: false,
    }
}

/// A cluster, and the second it is now.
struct World {
    cluster: Cluster,
    now: i64,
}

impl World {
    /// Two ready nodes with 4 CPUs and 8 GiB each.
    fn new() -> Self {
        let mut world = Self {
            cluster: Cluster::new(),
            now: 0,
        };
        world.ok(found());
        for number in [1, 2] {
            world.ok(add_node(number));
            world.ok(report(number, Resources::new(4_000_000_000, 8 * GIB)));
            world.ok(Command::JudgeReady { node: node(number) });
        }
        world
    }

    fn apply(&mut self, command: Command) -> Result<Change, Refusal> {
        let at = second(self.now);
        let mut before = self.cluster.clone();
        before.pass_time(at);
        let envelope = Envelope::new(request(0), Caller::local(), at, command.clone());
        let outcome = self.cluster.apply(envelope);
        if outcome.is_err() {
            assert!(before == self.cluster, "refused, but changed: {command:?}");
        }
        let broken = audit(&self.cluster);
        assert!(broken.is_empty(), "{command:?}: {broken:?}");
        outcome
    }

    /// Applies it, and once more: both must give the same.
    fn ok(&mut self, command: Command) {
        let first = self.apply(command.clone()).expect("accepted");
        if !matches!(
            command,
            Command::BeginRename { .. } | Command::Exited { .. }
        ) {
            assert_eq!(self.apply(command), Ok(first));
        }
    }

    fn refused(&mut self, command: Command) -> String {
        self.apply(command).expect_err("refused").to_string()
    }
}

#[test]
fn nothing_is_done_before_the_founding() {
    let mut world = World {
        cluster: Cluster::new(),
        now: 0,
    };
    assert_eq!(
        world.refused(add_node(1)),
        "the cluster has not been founded"
    );
    world.ok(found());
    let other = ClusterId::from_bytes([8; 16]);
    let settings = Settings {
        name: String::new(),
        random_ports: RandomPorts::default(),
    };
    let text = world.refused(Command::Found {
        cluster: other,
        settings,
    });
    assert_eq!(text, format!("this is cluster {} already", "09".repeat(16)));
}

#[test]
fn a_name_has_one_holder_who_is_named() {
    let mut world = World::new();
    world.ok(Command::Reserve(promise(1, "web", 1)));
    assert_eq!(
        world.refused(Command::Reserve(promise(2, "web", 2))),
        format!(
            "the container name web is held by request {}, which is being created on node host1",
            "01".repeat(16)
        )
    );
    world.ok(Command::Bind {
        request: request(1),
        container: container(1),
    });
    assert_eq!(
        world.refused(Command::Reserve(promise(2, "web", 2))),
        format!(
            "the container name web is held by container {} on node host1",
            "01".repeat(32)
        )
    );
    world.ok(Command::Remove {
        request: request(1),
    });
    world.ok(Command::Reserve(promise(2, "web", 2)));
}

#[test]
fn a_request_comes_once() {
    let mut world = World::new();
    world.ok(Command::Reserve(promise(1, "web", 1)));
    let text = world.refused(Command::Reserve(promise(1, "web", 2)));
    assert_eq!(
        text,
        format!(
            "request {} is container web on node host1 already",
            request(1)
        )
    );
    world.ok(Command::Release {
        request: request(1),
    });
    let over = format!(
        "request {} for container web was given up on node host1",
        request(1)
    );
    assert_eq!(world.refused(Command::Reserve(promise(1, "web", 1))), over);
    let late = Command::Bind {
        request: request(1),
        container: container(1),
    };
    assert_eq!(world.refused(late), over);
}

#[test]
fn only_a_ready_and_active_node_takes_new_work() {
    let mut world = World::new();
    let availability = |availability| Command::UpdateNode {
        address: None,
        node: node(1),
        name: None,
        availability: Some(availability),
        labels: None,
    };
    world.ok(availability(Availability::Drain));
    let reserve = Command::Reserve(promise(1, "web", 1));
    assert_eq!(
        world.refused(reserve.clone()),
        "node host1 takes no new containers: its availability is drain"
    );
    world.ok(availability(Availability::Active));
    world.ok(down(1));
    assert_eq!(
        world.refused(reserve.clone()),
        "node host1 is down: no answer for 3s"
    );
    world.ok(Command::JudgeReady { node: node(1) });
    world.ok(reserve);
}

#[test]
fn a_verdict_keeps_its_age() {
    let mut world = World::new();
    world.now = 10;
    world.ok(down(1));
    world.now = 20;
    world.ok(Command::JudgeDown {
        node: node(1),
        reason: "refused".to_owned(),
    });
    let node = world.cluster.node(node(1)).expect("there");
    assert_eq!(
        (node.since, node.verdict.to_string()),
        (second(10), "down: refused".to_owned())
    );
}

#[test]
fn a_full_node_says_the_numbers() {
    let mut world = World::new();
    let gib = |number, gib| {
        let claim = Resources::new(1_000_000_000, gib * GIB);
        Command::Reserve(Promise {
            claim,
            ..promise(number, &format!("c{number}"), 1)
        })
    };
    world.ok(gib(1, 6));
    let lacks = "node host1 lacks memory (need 3GiB, 2GiB free of 8GiB)";
    assert_eq!(world.refused(gib(2, 3)), lacks);
    let set_claim = |gib| Command::SetClaim {
        request: request(1),
        claim: Resources::new(1_000_000_000, gib * GIB),
        observed: false,
    };
    let lacks = "node host1 lacks memory (need 3GiB, 2GiB free of 8GiB)";
    assert_eq!(world.refused(set_claim(9)), lacks);
    // What its engine gives it already is counted, whatever there is.
    world.ok(Command::SetClaim {
        request: request(1),
        claim: Resources::new(1_000_000_000, 9 * GIB),
        observed: true,
    });
    assert_eq!(
        world.cluster.free(node(1)),
        Resources::new(3_000_000_000, 0)
    );
    world.ok(set_claim(8));
    world.ok(set_claim(1));
    world.ok(gib(2, 3));
    assert_eq!(
        world.cluster.free(node(1)),
        Resources::new(2_000_000_000, 4 * GIB)
    );
    world.ok(report(1, Resources::new(1, 1)));
    world.ok(set_claim(1));
    assert_eq!(world.cluster.free(node(1)), Resources::ZERO);
}

#[test]
fn an_exited_container_claims_again_when_it_starts() {
    let mut world = World::new();
    let big = |number, name| Promise {
        claim: Resources::new(0, 6 * GIB),
        ports: vec![
            port(80, PortOrigin::Asked),
            port(10_000, PortOrigin::Chosen),
        ],
        ..promise(number, name, 1)
    };
    world.ok(Command::Reserve(big(1, "one")));
    world.ok(exited(1, 1));
    let chosen = world.refused(Command::Reserve(big(2, "two")));
    assert_eq!(
        chosen,
        "port 10000/tcp on node host1 is held by container one"
    );
    let ports = vec![port(80, PortOrigin::Asked)];
    world.ok(Command::Reserve(Promise {
        ports,
        ..big(2, "two")
    }));
    let port = world.refused(reclaim(1));
    assert_eq!(port, "port 80/tcp on node host1 is held by container two");
    world.ok(exited(2, 1));
    world.ok(reclaim(1));
    assert_eq!(
        world.cluster.totals(node(1)).claimed,
        Resources::new(0, 6 * GIB)
    );
}

#[test]
fn what_nodes_have_a_number_of_is_not_promised_twice() {
    let mut world = World::new();
    let gpus = |number, on, count| Promise {
        generic: [("gpu", count)].into_iter().collect(),
        ..promise(number, &format!("c{number}"), on)
    };
    world.ok(Command::Reserve(gpus(1, 1, 3)));
    let lacks = "node host1 lacks gpu (need 2, 1 free of 4)";
    assert_eq!(world.refused(Command::Reserve(gpus(2, 1, 2))), lacks);
    // What has exited claims nothing, and claims anew when it starts.
    world.ok(exited(1, 1));
    world.ok(Command::Reserve(gpus(2, 1, 2)));
    let lacks = "node host1 lacks gpu (need 3, 2 free of 4)";
    assert_eq!(world.refused(reclaim(1)), lacks);
    world.ok(Command::Remove {
        request: request(2),
    });
    world.ok(reclaim(1));
    let left = world.cluster.stock(node(1)).left("gpu");
    assert_eq!(left.map(|left| (left.free, left.of)), Some((1, 4)));
    // What an operator says goes before what the engine says.
    let label = |count: &str| Command::UpdateNode {
        node: node(2),
        name: None,
        address: None,
        availability: None,
        labels: Some([("com.flotilla.resource.gpu".to_owned(), count.to_owned())].into()),
    };
    world.ok(label("1"));
    let lacks = "node host2 lacks gpu (need 2, 1 free of 1)";
    assert_eq!(world.refused(Command::Reserve(gpus(3, 2, 2))), lacks);
    world.ok(label("0"));
    assert_eq!(
        world.refused(Command::Reserve(gpus(3, 2, 1))),
        "node host2 has no gpu"
    );
}

#[test]
fn what_no_node_states_is_not_counted() {
    let mut world = World::new();
    let tpus = |number| Promise {
        generic: [("tpu", 1)].into_iter().collect(),
        ..promise(number, &format!("c{number}"), 1)
    };
    world.ok(Command::Reserve(tpus(1)));
    world.ok(Command::Reserve(tpus(2)));
    world.ok(Command::UpdateNode {
        node: node(2),
        name: None,
        address: None,
        availability: None,
        labels: Some([("com.flotilla.resource.tpu".to_owned(), "8".to_owned())].into()),
    });
    assert_eq!(
        world.refused(Command::Reserve(tpus(3))),
        "node host1 has no tpu"
    );
}

#[test]
fn an_exposed_port_keeps_others_away_and_refuses_nothing() {
    let mut world = World::new();
    let exposing = |number, origin| Promise {
        ports: vec![port(80, origin)],
        ..promise(number, &format!("c{number}"), 1)
    };
    let exposer = |world: &World| {
        let port = port(80, PortOrigin::Exposed).port;
        world.cluster.ports().exposer_on(node(1), &port)
    };
    world.ok(Command::Reserve(exposing(1, PortOrigin::Exposed)));
    world.ok(Command::Reserve(exposing(2, PortOrigin::Exposed)));
    world.ok(Command::Reserve(exposing(3, PortOrigin::Asked)));
    assert_eq!(exposer(&world), Some(request(1)));
    world.ok(exited(1, 1));
    assert_eq!(exposer(&world), Some(request(2)));
    world.ok(exited(2, 1));
    assert_eq!(exposer(&world), None);
    world.ok(reclaim(1));
    assert_eq!(exposer(&world), Some(request(1)));
}

#[test]
fn an_exit_of_an_earlier_run_is_recognised() {
    let mut world = World::new();
    world.ok(Command::Reserve(promise(1, "web", 1)));
    let mut once = |command| world.apply(command);
    assert!(once(reclaim(1)).is_ok());
    let stale = once(exited(1, 1)).expect_err("stale").to_string();
    assert_eq!(stale, "container web on node host1 was started again since");
    assert!(once(exited(1, 2)).is_ok());
    assert!(!world.cluster.placement(request(1)).expect("there").claiming);
}

#[test]
fn a_start_is_refused_for_room_unless_it_has_happened() {
    let mut world = World::new();
    let big = |number, name| Promise {
        claim: Resources::new(0, 6 * GIB),
        ..promise(number, name, 1)
    };
    world.ok(Command::Reserve(big(1, "one")));
    world.ok(exited(1, 1));
    world.ok(Command::Reserve(big(2, "two")));
    let lacks = "node host1 lacks memory (need 6GiB, 2GiB free of 8GiB)";
    assert_eq!(world.refused(reclaim(1)), lacks);
    world.ok(Command::Reclaim {
        request: request(1),
        running: true,
    });
    assert_eq!(
        world.cluster.totals(node(1)).claimed,
        Resources::new(0, 12 * GIB)
    );
}

#[test]
fn a_successor_takes_over_what_its_predecessor_claimed() {
    let big = |number, name, on, gib| Promise {
        claim: Resources::new(0, gib * GIB),
        ..promise(number, name, on)
    };
    let in_place_of = |predecessor, promise| {
        Command::Reserve(Promise {
            replaces: Some(request(predecessor)),
            ..promise
        })
    };
    let claims = |world: &World, number| {
        let placement = world.cluster.placement(request(number));
        placement.expect("there").claiming
    };
    let claimed = |world: &World| world.cluster.totals(node(1)).claimed.memory_bytes / GIB;
    let ends = [exited(1, 1), remove(1)];
    for end in ends {
        let mut world = World::new();
        world.ok(Command::Reserve(big(1, "one", 1, 6)));
        let lacks = "node host1 lacks memory (need 3GiB, 2GiB free of 8GiB)";
        assert_eq!(world.refused(in_place_of(1, big(2, "two", 1, 9))), lacks);
        world.ok(in_place_of(1, big(2, "two", 1, 7)));
        assert!(!claims(&world, 2) && claimed(&world) == 6);
        // It cannot run beside the other one.
        let lacks = "node host1 lacks memory (need 7GiB, 2GiB free of 8GiB)";
        assert_eq!(world.refused(reclaim(2)), lacks);
        // Nobody gets in between.
        world.ok(end);
        assert!(claims(&world, 2) && claimed(&world) == 7);
        let lacks = "node host1 lacks memory (need 6GiB, 1GiB free of 8GiB)";
        assert_eq!(
            world.refused(Command::Reserve(big(3, "three", 1, 6))),
            lacks
        );
        world.ok(remove(1));
        assert!(claims(&world, 2) && claimed(&world) == 7);
    }
    // Whoever took a part of what it needs beside that has it: a start is refused then.
    let mut world = World::new();
    world.ok(Command::Reserve(big(1, "one", 1, 6)));
    world.ok(in_place_of(1, big(2, "two", 1, 7)));
    world.ok(Command::Reserve(big(3, "three", 1, 2)));
    world.ok(exited(1, 1));
    assert!(!claims(&world, 2) && claimed(&world) == 2);
    let lacks = "node host1 lacks memory (need 7GiB, 6GiB free of 8GiB)";
    assert_eq!(world.refused(reclaim(2)), lacks);
    // One that has run and ended claims nothing by it, and what does not claim has no successor.
    let mut world = World::new();
    world.ok(Command::Reserve(big(1, "one", 1, 2)));
    world.ok(in_place_of(1, big(2, "two", 1, 2)));
    world.ok(reclaim(2));
    let run = world.cluster.placement(request(2)).expect("there").run;
    world.ok(exited(2, run));
    world.ok(remove(1));
    assert!(!claims(&world, 2) && claimed(&world) == 0);
    world.ok(in_place_of(2, big(4, "four", 1, 8)));
    assert!(claims(&world, 4));
    // On another node it is a container like any other.
    world.ok(in_place_of(4, big(5, "five", 2, 3)));
    assert!(claims(&world, 5));
}

#[test]
fn a_port_is_held_on_its_node_and_a_chosen_one_in_the_pool() {
    let mut world = World::new();
    let with = |number: u8, on, claim| {
        let ports = vec![claim];
        Command::Reserve(Promise {
            ports,
            ..promise(number, &format!("c{number}"), on)
        })
    };
    world.ok(with(1, 1, port(80, PortOrigin::Asked)));
    world.ok(with(2, 2, port(80, PortOrigin::Asked)));
    let taken = "port 80/tcp on node host1 is held by container c1";
    assert_eq!(
        world.refused(with(3, 1, port(80, PortOrigin::Asked))),
        taken
    );
    let mut local = port(80, PortOrigin::Asked);
    local.port.address = Some([127, 0, 0, 1].into());
    let taken = "port 127.0.0.1:80/tcp on node host1 is held by container c1";
    assert_eq!(world.refused(with(3, 1, local)), taken);
    world.ok(with(4, 1, port(12_000, PortOrigin::Chosen)));
    let taken = "port 12000/tcp on node host1 is held by container c4";
    assert_eq!(
        world.refused(with(5, 2, port(12_000, PortOrigin::Chosen))),
        taken
    );
    world.ok(with(6, 2, port(12_000, PortOrigin::Asked)));
    // One that ended, or waits for a port of another, publishes it all the same: nobody else may listen there.
    world.ok(with(7, 1, port(13_000, PortOrigin::Asked)));
    world.ok(with(8, 1, port(13_000, PortOrigin::Waiting)));
    let published = |world: &World, number| {
        let ports = world.cluster.ports();
        ports.published_on(Protocol::Tcp, number).eq([node(1)])
    };
    assert!(published(&world, 13_000) && !published(&world, 13_001));
    world.ok(Command::Release {
        request: request(7),
    });
    assert!(published(&world, 13_000));
    world.ok(Command::Release {
        request: request(8),
    });
    assert!(!published(&world, 13_000));
    let range = RandomPorts {
        first: 11_999,
        last: 12_001,
    };
    let free = |start| {
        world
            .cluster
            .ports()
            .free_number(Protocol::Tcp, range, start, |_| true)
    };
    assert_eq!(free(12_000), Some(12_001));
    assert_eq!(free(0), Some(11_999));
    assert_eq!(free(u16::MAX), Some(12_001));
}

#[test]
fn a_rename_holds_both_names_until_the_engine_has_answered() {
    let mut world = World::new();
    let rename = |number, name: &str| Command::BeginRename {
        request: request(number),
        new_name: name.to_owned(),
    };
    let end = |number, keep| Command::EndRename {
        request: request(number),
        keep,
    };
    world.ok(Command::Reserve(promise(1, "old", 1)));
    assert!(
        world
            .refused(rename(1, "old"))
            .starts_with("the container name old is held by")
    );
    world.ok(rename(1, "new"));
    for name in ["old", "new"] {
        assert!(
            world
                .refused(Command::Reserve(promise(2, name, 1)))
                .contains(" is held by ")
        );
    }
    let pending = "container old on node host1 is being renamed to new";
    assert_eq!(world.refused(rename(1, "third")), pending);
    world.ok(end(1, Keep::New));
    world.ok(Command::Reserve(promise(2, "old", 1)));
    world.ok(rename(2, "third"));
    world.ok(end(2, Keep::Old));
    world.ok(Command::Reserve(promise(3, "third", 1)));
    let holder = world
        .cluster
        .placement_named(Realm::DEFAULT, "new")
        .expect("held");
    assert_eq!(holder.request, request(1));
}

#[test]
fn a_removal_on_a_lost_node_waits_for_it() {
    let mut world = World::new();
    world.ok(Command::Reserve(promise(1, "web", 1)));
    world.ok(Command::Bind {
        request: request(1),
        container: container(1),
    });
    world.ok(down(1));
    let gone = world
        .apply(Command::Remove {
            request: request(1),
        })
        .expect("removed");
    assert_eq!(
        gone,
        Change::Removed {
            request: request(1),
            deferred: true
        }
    );
    world.ok(Command::Reserve(promise(2, "web", 2)));
    world.now = 24 * 3600;
    world.ok(Command::JudgeReady { node: node(1) });
    let due: Vec<_> = world
        .cluster
        .removals_due_on(node(1))
        .map(|due| due.container)
        .collect();
    assert_eq!(due, [Some(container(1))]);
    let settled = world
        .apply(Command::Settle {
            request: request(1),
        })
        .expect("settled");
    assert_eq!(
        settled,
        Change::Removed {
            request: request(1),
            deferred: false
        }
    );
    assert_eq!(world.cluster.removals_due_on(node(1)).count(), 0);
}

#[test]
fn tombstones_end() {
    let mut world = World::new();
    for number in 1..=100 {
        world.ok(Command::Reserve(promise(number, "web", 1)));
        world.ok(Command::Remove {
            request: request(number),
        });
    }
    assert!(world.cluster.tombstone(request(100)).is_some());
    world.now = 601;
    world.ok(down(1));
    world.ok(down(1));
    assert!((1..=100).all(|number| world.cluster.tombstone(request(number)).is_none()));
}

#[test]
fn a_found_container_is_adopted_if_nothing_is_in_its_way() {
    let mut world = World::new();
    let adopt = |promise, number, claiming| Command::Adopt {
        promise,
        container: container(number),
        claiming,
    };
    let huge = Promise {
        claim: Resources::new(0, 100 * GIB),
        ports: vec![port(80, PortOrigin::Asked)],
        ..promise(1, "web", 1)
    };
    world.ok(adopt(huge.clone(), 1, true));
    assert_eq!(world.cluster.free(node(1)).memory_bytes, 0);
    let twin = Promise {
        request: request(2),
        ..huge.clone()
    };
    assert!(
        world
            .refused(adopt(twin, 2, true))
            .starts_with("the container name web is held by")
    );
    let other = Promise {
        request: request(3),
        name: "other".to_owned(),
        ..huge
    };
    let taken = "port 80/tcp on node host1 is held by container web";
    assert_eq!(world.refused(adopt(other.clone(), 3, true)), taken);
    world.ok(adopt(other, 3, false));
    world.ok(Command::Reserve(promise(4, "late", 2)));
    world.ok(adopt(promise(4, "late", 2), 4, true));
    let placement = world.cluster.placement_of(container(4)).expect("bound");
    assert_eq!(placement.name, "late");
}

#[test]
fn a_node_in_use_stays_unless_forced() {
    let mut world = World::new();
    world.ok(Command::Reserve(promise(1, "web", 1)));
    let remove = |force| Command::RemoveNode {
        node: node(1),
        force,
    };
    assert_eq!(
        world.refused(remove(false)),
        "node host1 has 1 container of the cluster: remove it, or force it (--force, force=1): what is on its engine then \
         stays there as it is and is no longer the cluster's, and names become free"
    );
    world.ok(remove(true));
    assert!(
        world
            .cluster
            .placement_named(Realm::DEFAULT, "web")
            .is_none()
    );
    let twin = Command::AddNode {
        node: node(3),
        name: "host2".parse().expect("valid"),
        endpoint: "tcp://10.0.0.9:2375".to_owned(),
        address: None,
        labels: BTreeMap::new(),
    };
    assert_eq!(world.refused(twin), "another node is called host2");
}

#[test]
fn outcomes_survive_the_log() {
    let mut cluster = Cluster::new();
    let mut apply = |command| {
        let envelope = Envelope::new(request(0), Caller::local(), second(0), command);
        let bytes = raft_store::Machine::apply(&mut cluster, 1, &envelope.encode());
        read_outcome(&bytes).expect("reads")
    };
    assert_eq!(apply(add_node(1)), Err(Refusal::NotFounded));
    assert_eq!(
        apply(found()),
        Ok(Change::Founded(ClusterId::from_bytes([9; 16])))
    );
    assert_eq!(apply(add_node(1)), Ok(Change::Node(node(1))));
    let reserve = Command::Reserve(promise(1, "web", 1));
    let refused = apply(reserve).expect_err("joining");
    assert_eq!(refused.to_string(), "node host1 is joining");
    assert_eq!(cluster.view(), cluster);
}

#[test]
#[should_panic(expected = "entry 7 cannot be applied: the command has format 2")]
fn a_manager_that_does_not_understand_stops() {
    let bytes = br#"{"format":2,"feature_level":1}"#;
    raft_store::Machine::apply(&mut Cluster::new(), 7, bytes);
}

#[test]
fn a_snapshot_of_a_newer_binary_is_refused() {
    let refuse = |text: &str| {
        let mut cluster = Cluster::new();
        let refused = raft_store::Machine::restore(&mut cluster, text.as_bytes());
        refused.expect_err(text).to_string()
    };
    assert_eq!(
        refuse(r#"{"format":2,"shape":"unheard of"}"#),
        "the snapshot has format 2, this binary knows 1 at most: upgrade this manager"
    );
    assert!(refuse("{}").contains("missing field"));
}
